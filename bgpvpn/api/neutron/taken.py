"""What is taken in a network, and what is free: the lowest address, some MAC address (rim).

Taken are gateways, addresses of ports and of routers, and floating addresses; and those that the same request takes.
So are the MAC addresses of ports: of random ones two are the same among five thousand as often as not.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import Iterable

from bgpvpn.api.neutron.errors import Conflict
from bgpvpn.intent import Intent
from bgpvpn.objects import Subnet
from bgpvpn.rules import is_host

MOST_TRIED = 1 << 17
"""How far a subnet is searched for a free address."""


class Taken:
    """What somebody has in a network, and what the request takes there."""

    def __init__(self, intent: Intent, network_id: str) -> None:
        referring = intent.referring
        ports = list(referring("network", network_id, "port"))
        self.network_id = network_id
        self.macs = {port.mac_address for port in ports}
        self._octets: set[bytes] = set()
        self._next: dict[str, int] = {}  # by subnet: all that is below is taken
        self.add(each.gateway_ip for each in referring("network", network_id, "subnet") if each.gateway_ip)
        self.add(text for port in ports for text in port.ip_addresses)
        self.add(text for router in referring("network", network_id, "router") for text in router.gateway_ips)
        self.add(floating.address for floating in referring("network", network_id, "floating_ip"))

    def __contains__(self, address: str) -> bool:
        return _octets(address) in self._octets

    def add(self, addresses: Iterable[str]) -> None:
        """Take addresses."""
        self._octets.update(map(_octets, addresses))

    def free(self, subnet: Subnet) -> str:
        """Return the lowest address of a subnet that nobody has, and take it; Conflict when there is none."""
        network = ipaddress.ip_network(subnet.cidr)
        base, length = int(network.network_address), network.max_prefixlen // 8
        first = 1 if network.num_addresses > 2 else 0
        last = min(network.num_addresses, first + MOST_TRIED)
        for number in range(self._next.get(subnet.id, first), last):
            octets = (base + number).to_bytes(length, "big")
            if octets not in self._octets and is_host(network[number], network):
                self._octets.add(octets)
                self._next[subnet.id] = number + 1
                return str(network[number])
        self._next[subnet.id] = last
        raise Conflict("IpAddressGenerationFailure", f"No more IP addresses available on network {self.network_id}.")

    def new_mac(self) -> str:
        """Return a MAC address that nobody has, in the range that Neutron takes them from, and take it."""
        while (mac := f"fa:16:3e:{secrets.token_bytes(3).hex(':')}") in self.macs:
            pass
        self.macs.add(mac)
        return mac


def _octets(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
