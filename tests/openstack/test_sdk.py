"""openstacksdk's network proxy, unmodified: one program with its calls, whose answers are looked at here."""

from __future__ import annotations

import json

from tests.openstack.clients import run_python
from tests.openstack.daemon import Daemon

PROGRAM = """
import json, openstack
network = openstack.connect().network
said = {}

net = network.create_network(name="n1")
network.create_subnet(network_id=net.id, ip_version=4, cidr="10.0.0.0/24", name="s1")
port = network.create_port(network_id=net.id, name="p1")
router = network.create_router(name="r1")

vpn = network.create_bgpvpn(name="blue", route_targets=["64512:1"], local_pref=100)
said["found"] = network.find_bgpvpn("blue").id == vpn.id
said["listed"] = [each.name for each in network.bgpvpns()]
said["filtered"] = [each.name for each in network.bgpvpns(name="nobody")]
said["updated"] = network.update_bgpvpn(vpn, name="navy", import_targets=["64512:2"]).import_targets

one = network.create_bgpvpn_network_association(vpn, network_id=net.id)
said["networks"] = [each.network_id == net.id for each in network.bgpvpn_network_associations(vpn)]
network.delete_bgpvpn_network_association(vpn, one)
one = network.create_bgpvpn_router_association(vpn, router_id=router.id, advertise_extra_routes=False)
said["extra"] = [one.advertise_extra_routes]
one = network.update_bgpvpn_router_association(vpn, one.id, advertise_extra_routes=True)
said["extra"].append(network.get_bgpvpn_router_association(vpn, one.id).advertise_extra_routes)
network.delete_bgpvpn_router_association(vpn, one.id)
routes = [{"type": "prefix", "prefix": "10.9.0.0/16", "local_pref": 0}]
one = network.create_bgpvpn_port_association(vpn, port_id=port.id, routes=routes)
one = network.update_bgpvpn_port_association(vpn, one.id, advertise_fixed_ips=False)
said["routes"] = network.get_bgpvpn_port_association(vpn, one.id).routes == routes
network.delete_bgpvpn(vpn)
said["left"] = [each.id for each in network.bgpvpns()]

network.add_interface_to_router(router, subnet_id=network.find_subnet("s1").id)
said["interfaces"] = [each.device_owner for each in network.ports(device_id=router.id)]
speaker = network.create_bgp_speaker(name="s", local_as=64512, ip_version=4)
peer = network.create_bgp_peer(name="p", peer_ip="192.0.2.1", remote_as=64999, auth_type="none")
network.add_bgp_peer_to_speaker(speaker, peer.id)
said["peers"] = network.get_bgp_speaker(speaker.id).peers == [peer.id]
said["routes told"] = network.get_advertised_routes_of_speaker(speaker.id)
said["agents"] = [each.binary for each in network.get_bgp_dragents_hosting_speaker(speaker.id)]
network.remove_bgp_peer_from_speaker(speaker, peer.id)
network.delete_bgp_speaker(speaker)

said["pages"] = len([network.create_network(name=f"m{number}") for number in range(5)])
said["pages"] = [each.name for each in network.networks(limit=2, sort_key="name", sort_dir="desc")]
try:
    network.create_bgpvpn(route_targets=["100L:5"])
except openstack.exceptions.BadRequestException as error:
    said["refused"] = "100L:5" in str(error)
print(json.dumps(said))
"""


def test_the_sdk_makes_finds_changes_lists_and_removes_what_its_proxy_has(daemon: Daemon) -> None:
    assert json.loads(run_python(PROGRAM, daemon.url)) == {
        "found": True,
        "listed": ["blue"],
        "filtered": [],
        "updated": ["64512:2"],
        "networks": [True],
        "extra": [False, True],
        "routes": True,
        "left": [],
        "interfaces": ["network:router_interface"],
        "peers": True,
        "routes told": {"advertised_routes": []},
        "agents": ["bgpvpnd"],
        "pages": ["n1", "m4", "m3", "m2", "m1", "m0"],
        "refused": True,
    }
