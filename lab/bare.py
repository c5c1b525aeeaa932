"""bgpvpnd on a kernel without MPLS, for measurements only: it asks for no labels there, and goes on where it would end.

VRFs and tunnels are then refused by the kernel, and the routes lead into a blackhole; everything else is as it is.
"""

from bgpvpn import daemon
from bgpvpn.dataplane.netlink import Netlink

if __name__ == "__main__":
    setattr(daemon, "Netlink", lambda labels: Netlink())  # noqa: B010  # no name of ours to be assigned, says mypy
    daemon.main()
