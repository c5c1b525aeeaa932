"""The same objects as OpenStack's network API has them, under /v2.0, for its unmodified clients.

Networks, subnets, ports, routers and floating addresses as Neutron shows them, BGP VPNs as networking-bgpvpn does,
speakers and peers as neutron-dynamic-routing does; `docs/openstack.md` tells what differs.
Each thing is a `resource.Resource`.
"""
