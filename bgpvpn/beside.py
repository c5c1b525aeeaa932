"""What must hold between objects: the rules that one cannot check by looking at one of them alone.

`check_alone` comes before an object is in the index, `check_beside` and `check_bounds` after.  Each refuses with
IntentError, or with ConflictError where only something else is in the way.
"""

from __future__ import annotations

import ipaddress

from bgpvpn.objects import (
    FIXED,
    Advertisement,
    Association,
    Bgpvpn,
    ConflictError,
    FloatingIp,
    IntentError,
    Network,
    Object,
    Peer,
    Port,
    Router,
    Speaker,
    Subnet,
    title,
)
from bgpvpn.relations import Index, Key, claims, listed, references
from bgpvpn.rules import is_host


class Beside:
    """The rules, for the objects of an index."""

    def __init__(self, index: Index) -> None:
        self.index = index

    def check_alone(self, key: Key, thing: Object) -> None:
        """Check what does not need the object to be in the indexes: fixed fields, references, claims."""
        seen = self.index.objects.get(key)
        if seen is not None:
            for field in FIXED[key[0]]:
                old, new = getattr(seen, field), getattr(thing, field)
                if old != new:
                    raise IntentError(field, new, f"stays {old!r} as long as the {key[0]} exists")
        for field, other in references(thing):
            if other not in self.index.objects:
                raise IntentError(field, other[1], f"there is no {other[0]} {other[1]!r}")
        for claim, field in claims(thing):
            holder = next((each for each in self.index.claims.get(claim, ()) if each != key), key)
            if holder != key and isinstance(thing, Association):
                bound = title(self.index.objects[thing.bound])
                raise ConflictError(
                    field, claim[-1], f"{bound!r} is bound to this VPN already, by association {holder[1]}"
                )
            if holder != key and not (claim[0] == "interface" and self._share(thing, self.index.objects[holder])):
                called = title(self.index.objects[holder])
                raise ConflictError(field, claim[-1], f"{claim[-1]!r} is taken by {holder[0]} {called!r}")

    @staticmethod
    def _share(thing: Object, holder: Object) -> bool:
        """Tell whether two ports may have one interface: stations of one network, plugged the same way."""
        assert isinstance(thing, Port)
        assert isinstance(holder, Port)
        return thing.network_id is not None and (thing.network_id, thing.ovs) == (holder.network_id, holder.ovs)

    def check_beside(self, thing: Object) -> None:
        """Check an object that is in the indexes already against its neighbours."""
        match thing:
            case Network():
                self._check_external(thing)
                if not thing.host_addresses:
                    for port in self.index.referring("network", thing.id, "port"):
                        self._check_port(port, thing.id)
            case Subnet():
                self._check_subnet(thing)
            case Router():
                self._check_router(thing)
            case Port():
                if thing.network_id is not None:
                    self._check_port(thing, thing.network_id)
                for floating in self.index.referring("port", thing.id, "floating_ip"):
                    if not _has(thing, floating.fixed_ip):
                        reason = f"floating address {floating.address} stands for {floating.fixed_ip}"
                        raise ConflictError("ip_addresses", list(thing.ip_addresses), reason)
            case Bgpvpn():
                for association in self.index.referring("bgpvpn", thing.id, "association"):
                    self._check_leaks(association)
            case Association():
                self._check_association(thing)
            case FloatingIp():
                self._check_floating_ip(thing)
            case Speaker():
                self._check_speaker(thing)
            case Peer():
                for speaker in self.index.referring("peer", thing.id, "speaker"):
                    self._check_told(speaker, thing)
            case Advertisement():
                speaker = self.index.objects[("speaker", thing.speaker_id)]
                assert isinstance(speaker, Speaker)
                if (":" in thing.destination) != (speaker.ip_version == 6):
                    raise IntentError(
                        "destination", thing.destination, f"speaker {title(speaker)!r} is of IPv{speaker.ip_version}"
                    )
            case _:
                pass

    def _check_external(self, network: Network) -> None:
        """Check that an external network is in no VPN, and that what routers lead to stays external."""
        called = f"network {title(network)!r}"
        if network.external:
            if any(True for _ in self.index.referring("network", network.id, "association")):
                raise ConflictError("external", True, f"{called} is bound to a VPN")
            if routers := [title(router) for router in self.index.routers_of(network.id)]:
                raise ConflictError("external", True, f"{called} is a tenant's, behind router {listed(routers)}")
            return
        for kind in ("router", "floating_ip", "speaker"):
            users = [title(each) for each in self.index.referring("network", network.id, kind)]
            if users:
                raise ConflictError("external", False, f"{called} is the way out of {kind} {listed(users)}")

    def _check_router(self, router: Router) -> None:
        subnets = [self.index.objects[("subnet", id_)] for id_ in router.subnet_ids]
        for index, subnet in enumerate(subnets):
            assert isinstance(subnet, Subnet)
            if self.index.objects[("network", subnet.network_id)].external:  # type: ignore[union-attr]
                raise IntentError("subnet_ids", subnet.id, f"subnet {subnet.cidr} is of an external network")
            cidr = ipaddress.ip_network(subnet.cidr)
            for other in subnets[:index]:
                assert isinstance(other, Subnet)
                if cidr.overlaps(ipaddress.ip_network(other.cidr)):
                    raise ConflictError(
                        "subnet_ids", subnet.id, f"{subnet.cidr} overlaps with {other.cidr} of the same router"
                    )
        for route in router.routes:
            nexthop = ipaddress.ip_address(route.nexthop)
            if not any(nexthop in ipaddress.ip_network(subnet.cidr) for subnet in subnets):  # type: ignore[union-attr]
                raise IntentError("routes", route.nexthop, f"{route.nexthop} is in no subnet of the router")
        if router.gateway_network_id is not None:
            gateway = self.index.objects[("network", router.gateway_network_id)]
            if not gateway.external:  # type: ignore[union-attr]
                raise IntentError("gateway_network_id", gateway.id, f"network {title(gateway)!r} is not external")
        for association in self.index.referring("router", router.id, "association"):
            self._check_association(association)

    def _check_floating_ip(self, floating: FloatingIp) -> None:
        network = self.index.objects[("network", floating.network_id)]
        if not network.external:  # type: ignore[union-attr]
            raise IntentError("network_id", network.id, f"network {title(network)!r} is not external")
        if floating.port_id is not None and floating.fixed_ip is not None:
            port = self.index.objects[("port", floating.port_id)]
            assert isinstance(port, Port)
            if not _has(port, floating.fixed_ip):
                raise IntentError("fixed_ip", floating.fixed_ip, f"port {title(port)!r} has no such address")

    def _check_speaker(self, speaker: Speaker) -> None:
        for id_ in speaker.networks:
            network = self.index.objects[("network", id_)]
            if not network.external:  # type: ignore[union-attr]
                raise IntentError("networks", id_, f"network {title(network)!r} is not external")
        for id_ in speaker.peers:
            self._check_told(speaker, self.index.objects[("peer", id_)])

    def _check_told(self, speaker: Speaker, peer: Object) -> None:
        """Check that a speaker's routes can be told to a peer of it."""
        assert isinstance(peer, Peer)
        family = f"ipv{speaker.ip_version}"
        if family not in peer.families:
            raise IntentError(
                "peers",
                peer.id,
                f"peer {title(peer)!r} does not speak {family}, which speaker {title(speaker)!r} is of",
            )
        for other in self.index.referring("peer", peer.id, "speaker") if peer.local_as is None else ():
            if other.local_as != speaker.local_as:
                raise ConflictError(
                    "peers",
                    peer.id,
                    f"peer {title(peer)!r} without a local_as would know this node as AS {speaker.local_as},"
                    f" and by speaker {title(other)!r} as AS {other.local_as}",
                )

    def _check_subnet(self, subnet: Subnet) -> None:
        network = ipaddress.ip_network(subnet.cidr)
        for other in self.index.referring("network", subnet.network_id, "subnet"):
            beside = ipaddress.ip_network(other.cidr)
            if other.id != subnet.id and network.overlaps(beside):  # false for different address families
                raise ConflictError(
                    "cidr", subnet.cidr, f"{subnet.cidr} overlaps with {other.cidr} of the same network"
                )
        for holder in self.index.claims.get(("ip", subnet.network_id, subnet.gateway_ip or ""), ()):
            called = title(self.index.objects[holder])
            raise ConflictError("gateway_ip", subnet.gateway_ip, f"{subnet.gateway_ip} is taken by port {called!r}")
        for address in (network.network_address, network.broadcast_address):
            holders = self.index.claims.get(("ip", subnet.network_id, str(address)), ())
            for holder in () if is_host(address, network) else holders:  # from when it was in no subnet
                called = title(self.index.objects[holder])
                raise ConflictError("cidr", subnet.cidr, f"{address}, which is no host's there, is of port {called!r}")

    def _check_port(self, port: Port, network_id: str) -> None:
        subnets = list(self.index.referring("network", network_id, "subnet"))
        network = self.index.objects[("network", network_id)]
        assert isinstance(network, Network)
        for text in port.ip_addresses:
            address = ipaddress.ip_address(text)
            subnet = next((each for each in subnets if address in ipaddress.ip_network(each.cidr)), None)
            if subnet is None and network.host_addresses:
                continue
            if subnet is None:
                called = title(network)
                raise IntentError("ip_addresses", text, f"{text} is in no subnet of network {called!r}")
            if not is_host(address, ipaddress.ip_network(subnet.cidr)):
                raise IntentError("ip_addresses", text, f"{text} is the own or broadcast address of {subnet.cidr}")
            if text == subnet.gateway_ip:
                raise ConflictError("ip_addresses", text, f"{text} is the gateway of subnet {subnet.cidr}")

    def _check_association(self, association: Association) -> None:
        vpn = self.index.objects[("bgpvpn", association.bgpvpn_id)]
        kind, id_ = association.bound
        field, bound = f"{kind}_id", self.index.objects[(kind, id_)]
        assert isinstance(vpn, Bgpvpn)
        assert isinstance(bound, Network | Router | Port)
        if bound.project_id != vpn.project_id:
            raise IntentError(
                field,
                bound.id,
                f"{kind} {title(bound)!r} is of project {bound.project_id!r}, VPN {title(vpn)!r} of {vpn.project_id!r}",
            )
        if isinstance(bound, Network) and bound.external:
            raise IntentError(field, bound.id, f"network {title(bound)!r} is external, and cannot be in a VPN")
        if isinstance(bound, Router) and vpn.type == "l2":
            raise IntentError(field, bound.id, f"VPN {title(vpn)!r} is of type l2; a router has a place in l3 only")
        if association.direction != "both" and vpn.type == "l2":
            raise IntentError("direction", association.direction, f"VPN {title(vpn)!r} is of type l2, which has none")
        if association.routes and vpn.type == "l2":
            raise IntentError("routes", association.routes, f"VPN {title(vpn)!r} is of type l2 and carries no prefixes")
        self._check_leaks(association)
        if vpn.type == "l3":
            for owner in self._owners(association):
                self._check_ways(owner)

    def check_bounds(self, thing: Object) -> None:
        """Check what can become untrue while others change: then something is not announced, and the status says so."""
        if isinstance(thing, Association):
            vpn = self.index.objects[("bgpvpn", thing.bgpvpn_id)]
            assert isinstance(vpn, Bgpvpn)
            prefixes = [route for route in thing.routes if route.type == "prefix"]
            if vpn.max_prefixes is not None and len(prefixes) > vpn.max_prefixes:
                raise IntentError(
                    "routes", len(prefixes), f"VPN {title(vpn)!r} takes at most {vpn.max_prefixes} of an association"
                )
            for route in thing.routes:
                vpn.check_local_pref("routes", route.local_pref)
                if route.prefix is not None and (reason := vpn.refusal(route.prefix)):
                    raise IntentError("routes", route.prefix, reason)
            for owner in self._owners(thing):
                self._check_vnis(owner)
        elif isinstance(thing, Bgpvpn):
            for association in self.index.referring("bgpvpn", thing.id, "association"):
                for owner in self._owners(association):
                    self._check_vnis(owner)

    def _check_leaks(self, association: Association) -> None:
        into = self.index.objects[("bgpvpn", association.bgpvpn_id)]
        assert isinstance(into, Bgpvpn)
        for route in association.routes:
            if route.bgpvpn_id is not None:
                self._check_leak(into, route.bgpvpn_id)

    def _check_leak(self, into: Bgpvpn, id_: str) -> None:
        """Check that the routes of one VPN may be announced anew into another."""
        leaked = self.index.objects[("bgpvpn", id_)]
        assert isinstance(leaked, Bgpvpn)
        if leaked.id == into.id:
            raise IntentError("routes", id_, f"VPN {title(into)!r} would be led into itself")
        if leaked.project_id != into.project_id:
            raise IntentError(
                "routes", id_, f"VPN {title(leaked)!r} is of project {leaked.project_id!r}, not {into.project_id!r}"
            )
        if leaked.type != into.type:
            raise IntentError("routes", id_, f"VPN {title(leaked)!r} is of type {leaked.type}, not {into.type}")
        for vpn in (leaked, into):
            if "ipvpn" not in vpn.technique:
                raise ConflictError(
                    "technique",
                    vpn.technique,
                    f"VPN {title(vpn)!r} is of the technique {', '.join(vpn.technique)}, and routes of type bgpvpn are "
                    f"announced by ipvpn",
                )

    def _check_ways(self, owner: Key) -> None:
        """Check that a network comes into l3 VPNs by itself or by one router, not by both."""
        if owner[0] != "network":
            return
        called = f"network {title(self.index.objects[owner])!r}"
        own = [each for each in self.index.referring(*owner, "association") if self._is_l3(each)]
        routers = {
            router.id: router
            for router in self.index.routers_of(owner[1])
            if any(self._is_l3(each) for each in self.index.referring("router", router.id, "association"))
        }
        names = listed([title(router) for router in routers.values()])
        if own and routers:
            raise ConflictError("network_id", owner[1], f"{called} and its router {names} would both be in l3 VPNs")
        if len(routers) > 1:
            raise ConflictError("router_id", owner[1], f"{called} would be in l3 VPNs by several routers: {names}")

    def _is_l3(self, association: Association) -> bool:
        vpn = self.index.objects[("bgpvpn", association.bgpvpn_id)]
        return isinstance(vpn, Bgpvpn) and vpn.type == "l3"

    def _owners(self, association: Association) -> list[Key]:
        """Return whose segments an association is about: networks, or a port by itself."""
        kind, id_ = association.bound
        if kind == "network":
            return [("network", id_)]
        if kind == "router":
            router = self.index.objects[("router", id_)]
            assert isinstance(router, Router)
            subnets = [self.index.objects[("subnet", subnet)] for subnet in router.subnet_ids]
            networks = dict.fromkeys(each.network_id for each in subnets if isinstance(each, Subnet))
            return [("network", network) for network in networks]
        port = self.index.objects[("port", id_)]
        assert isinstance(port, Port)
        return [("port", port.id) if port.network_id is None else ("network", port.network_id)]

    def _check_vnis(self, owner: Key) -> None:
        """Check that a VNI is in one segment of one owner, and each of the owner's segments in one VNI of each type.

        Ports that are bound to more VPNs than their network are a segment of their own (see bgpvpn.segment).
        """
        called = f"{owner[0]} {title(self.index.objects[owner])!r}"
        shared = self._vpns_of(owner)
        for router in self.index.routers_of(owner[1]) if owner[0] == "network" else ():
            shared |= self._vpns_of(("router", router.id))
        segments = {frozenset(shared)}
        for port in self.index.referring(*owner, "port"):
            segments.add(frozenset(shared | self._vpns_of(("port", port.id))))
        used: set[int] = set()
        for segment in segments:
            vpns = [vpn for id_ in segment if (vpn := self.index.objects[("bgpvpn", id_)]) and isinstance(vpn, Bgpvpn)]
            names: dict[str, dict[int, str]] = {"l2": {}, "l3": {}}
            for vpn in vpns:
                if vpn.vni is not None:
                    names[vpn.type][vpn.vni] = title(vpn)
            for by_vni in names.values():
                if len(by_vni) > 1:
                    each = listed(sorted(f"{name} (VNI {vni})" for vni, name in by_vni.items()))
                    raise ConflictError("vni", sorted(by_vni), f"{called} would be in VPNs with different VNIs: {each}")
            for vni in names["l2"]:
                if vni in used:
                    raise ConflictError(
                        "vni",
                        vni,
                        f"ports of {called} are bound to different VPNs, and VNI {vni} cannot be in both segments",
                    )
                used.add(vni)
        for vni in sorted(used):
            for id_ in self.index.of_vni[vni]:
                for association in self.index.referring("bgpvpn", id_, "association"):
                    for other in self._owners(association):
                        if other != owner:
                            theirs = f"{other[0]} {title(self.index.objects[other])!r}"
                            raise ConflictError(
                                "vni", vni, f"VNI {vni} would be in two networks: {called} and {theirs}"
                            )

    def _vpns_of(self, bound: Key) -> set[str]:
        return {association.bgpvpn_id for association in self.index.referring(*bound, "association")}


def _has(port: Port, address: str | None) -> bool:
    """Tell whether a port has an address, if one is named."""
    return address is None or address in [text.partition("/")[0] for text in port.ip_addresses]
