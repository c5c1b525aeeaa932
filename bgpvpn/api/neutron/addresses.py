"""Addresses and the subnets that they are in (rim)."""

from __future__ import annotations

import functools
import ipaddress

from bgpvpn.api.neutron.errors import Conflict
from bgpvpn.api.neutron.resource import View
from bgpvpn.objects import Subnet


def subnets_of(view: View, network_id: str, *versions: int) -> list[Subnet]:
    """Return the subnets of a network, of these address families or of both."""
    found = view.intent.referring("network", network_id, "subnet")
    return [each for each in found if not versions or ipaddress.ip_network(each.cidr).version in versions]


def subnet_of(subnets: list[Subnet], address: str) -> Subnet | None:
    """Return the subnet in which an address is."""
    host = ipaddress.ip_address(address.partition("/")[0])
    return next((each for each in subnets if host in _network(each.cidr)), None)


_network = functools.lru_cache(ipaddress.ip_network)  # the same few subnets are looked at for each of many ports


def first_of_each_family(view: View, network_id: str) -> list[str]:
    """Return a free address of each address family that a network has; it is of the first subnet that has one."""
    found, used = [], view.taken(network_id)
    for version in (4, 6):
        subnets = subnets_of(view, network_id, version)
        for subnet in subnets:
            try:
                found.append(used.free(subnet))
                break
            except Conflict:
                if subnet is subnets[-1]:
                    raise
    return found


def fixed_ips(subnets: list[Subnet], addresses: tuple[str, ...]) -> list[dict[str, str | None]]:
    """Return addresses as Neutron lists them."""
    found = []
    for address in addresses:
        subnet = subnet_of(subnets, address)
        found.append({"subnet_id": None if subnet is None else subnet.id, "ip_address": address.partition("/")[0]})
    return found
