"""Addresses in networks: which are taken, and the lowest that is free (rim).

Taken are gateways, addresses of ports and of routers, and floating addresses; and those that the same request takes.
"""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Iterator

from bgpvpn.api.neutron.errors import Conflict
from bgpvpn.api.neutron.resource import View
from bgpvpn.objects import Subnet
from bgpvpn.rules import is_host

MOST_TRIED = 1 << 17
"""How far a subnet is searched for a free address."""


def subnets_of(view: View, network_id: str, *versions: int) -> list[Subnet]:
    """Return the subnets of a network, of these address families or of both."""
    found = view.intent.referring("network", network_id, "subnet")
    return [each for each in found if not versions or ipaddress.ip_network(each.cidr).version in versions]


def taken(view: View, network_id: str) -> set[str]:
    """Return the addresses in a network that somebody has; what the request takes more is to be put there."""
    if network_id in view.taken:
        return view.taken[network_id]
    referring = view.intent.referring
    found = {each.gateway_ip for each in subnets_of(view, network_id) if each.gateway_ip}
    for port in referring("network", network_id, "port"):
        found.update(port.ip_addresses)
    for router in referring("network", network_id, "router"):
        found.update(router.gateway_ips)
    for floating in referring("network", network_id, "floating_ip"):
        found.add(floating.address)
    view.taken[network_id] = found
    return found


def free(subnet: Subnet, used: set[str]) -> str:
    """Return the lowest address of a subnet that nobody has, and take it; Conflict when there is none."""
    for text in _hosts(subnet):
        if text not in used:
            used.add(text)
            return text
    raise Conflict("IpAddressGenerationFailure", f"No more IP addresses available on network {subnet.network_id}.")


def _hosts(subnet: Subnet) -> Iterator[str]:
    network = ipaddress.ip_network(subnet.cidr)
    first = 1 if network.num_addresses > 2 else 0
    for number in range(first, min(network.num_addresses, first + MOST_TRIED)):
        if is_host(host := network[number], network):
            yield str(host)


def subnet_of(subnets: list[Subnet], address: str) -> Subnet | None:
    """Return the subnet in which an address is."""
    host = ipaddress.ip_address(address.partition("/")[0])
    return next((each for each in subnets if host in ipaddress.ip_network(each.cidr)), None)


def first_of_each_family(view: View, network_id: str, used: set[str]) -> list[str]:
    """Return a free address of each address family that a network has; it is of the first subnet that has one."""
    found = []
    for version in (4, 6):
        subnets = subnets_of(view, network_id, version)
        for subnet in subnets:
            try:
                found.append(free(subnet, used))
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


def new_mac() -> str:
    """Return a MAC address in the range that Neutron takes them from."""
    return "fa:16:3e:" + ":".join(f"{octet:02x}" for octet in secrets.token_bytes(3))
