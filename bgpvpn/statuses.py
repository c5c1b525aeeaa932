"""What became of each wish, in one word and a reason: from the tables to the `status` of an object in the API.

ACTIVE   it is in the kernel (a peer: its session is established; a policy: a peer uses it)
PENDING  it waits for something that the reason names
DOWN     nothing is to be done: administratively down, or bound to nothing
ERROR    the kernel refused it
"""

from __future__ import annotations

from collections.abc import Iterable

from bgpvpn.desired import ObjectKey
from bgpvpn.node import Node
from bgpvpn.objects import (
    Association,
    Bgpvpn,
    Kind,
    Network,
    Policy,
    Port,
    Subnet,
)
from bgpvpn.segment import Segment

Verdict = tuple[str, str]
"""(state, reason)"""

ACTIVE: Verdict = ("ACTIVE", "")


def verdict(node: Node, kind: Kind, id_: str) -> Verdict:
    """Return what became of an object that is there; peers are judged by their sessions, elsewhere."""
    thing = node.intent.tables[kind][id_]
    match thing:
        case Port():
            return _port(node, thing)
        case Network():
            return _network(node, thing.id)
        case Subnet():
            return _network(node, thing.network_id)
        case Bgpvpn():
            return _bgpvpn(node, thing)
        case Association():
            return _association(node, thing)
        case Policy():
            used = any(True for _ in node.intent.referring("policy", thing.id, "peer"))
            return ACTIVE if used else ("DOWN", "no peer uses it")
    raise AssertionError(f"{kind} has no verdict here")


def worst(node: Node, keys: Iterable[ObjectKey]) -> Verdict:
    """Return the worst of the dataplane's objects: refused, then waiting, then active."""
    waiting: Verdict | None = None
    for key in keys:
        status = node.status.get(key)
        if status is None:
            waiting = waiting or ("PENDING", f"{key[0]} {key[1]} is about to be made")
        elif status.state == "failed":
            return "ERROR", status.reason
        elif status.state == "pending":
            waiting = waiting or ("PENDING", status.reason)
    return waiting or ACTIVE


def _segment_keys(node: Node, segment: Segment) -> list[ObjectKey]:
    keys: list[ObjectKey] = [("bridge", segment.name)]
    if segment.name in node.instances.vrfs:
        keys.append(("vrf", segment.name))
    evi = node.instances.evis.get(segment.name)
    if evi is not None:
        keys.append(("vxlan", str(evi.vni)))
    return keys


def _port(node: Node, port: Port) -> Verdict:
    if not port.admin_state_up:
        return "DOWN", "administratively down"
    endpoint = node.segments.endpoints.get(port.id)
    if endpoint is None:
        return "DOWN", "neither the port nor its network is bound to a VPN that is up"
    return _segments(node, [node.segments.segments[endpoint.segment]], ("attachment", port.id))


def _segments(node: Node, segments: Iterable[Segment], *beside: ObjectKey) -> Verdict:
    """Return what became of segments and of objects beside them."""
    keys = list(beside)
    for segment in segments:
        if segment.name in node.instances.failed:
            return "ERROR", node.instances.failed[segment.name]
        keys += _segment_keys(node, segment)
    return worst(node, keys)


def _network(node: Node, network_id: str) -> Verdict:
    bound = any(True for _ in node.intent.referring("network", network_id, "association"))
    without = "it has no port on this node that is up" if bound else "bound to no VPN"
    segments = node.segments.of(network_id)
    return _segments(node, segments) if segments else ("DOWN", without)


def _bgpvpn(node: Node, vpn: Bgpvpn) -> Verdict:
    if not vpn.admin_state_up:
        return "DOWN", "administratively down"
    bound = list(node.intent.referring("bgpvpn", vpn.id, "association"))
    if not bound:
        return "DOWN", "nothing is bound to it"
    owners = dict.fromkeys(node.segments.owner(association) for association in bound)
    segments = [
        segment
        for owner in owners
        for segment in node.segments.of(owner)
        if any(each.id == vpn.id for each in segment.vpns)
    ]
    without = "nothing that is bound to it has a port on this node that is up"
    return _segments(node, segments) if segments else ("DOWN", without)


def _association(node: Node, association: Association) -> Verdict:
    vpn = node.intent.bgpvpns[association.bgpvpn_id]
    if not vpn.admin_state_up:
        return "DOWN", f"VPN {vpn.name or vpn.id} is administratively down"
    if association.port_id is not None:
        return _port(node, node.intent.ports[association.port_id])
    return _network(node, association.network_id or "")
