"""What became of each wish, in one word and a reason: from the tables to the `status` of an object in the API.

ACTIVE   it is in the kernel (a peer: its session is established; a policy: a peer uses it)
PENDING  it waits for something that the reason names
DOWN     nothing is to be done: administratively down, or bound to nothing
ERROR    the kernel refused it
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from bgpvpn.desired import ObjectKey
from bgpvpn.ipvpn import AFI_OF
from bgpvpn.node import Node
from bgpvpn.objects import (
    Association,
    Bgpvpn,
    Kind,
    Network,
    Policy,
    Port,
    Router,
    Subnet,
)
from bgpvpn.segment import Segment
from speaker.values import prefix_text

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
        case Router():
            return _router(node, thing)
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
    if segment.of_type("l3"):
        keys.append(("vrf", segment.vrf))
    evi = node.instances.evis.get(segment.name)
    if evi is not None:
        keys.append(("vxlan", str(evi.vni)))
    return keys


def _port(node: Node, port: Port) -> Verdict:
    if not port.admin_state_up:
        return "DOWN", "administratively down"
    if port.host not in ("", node.settings.host):
        return "DOWN", f"it is on node {port.host}"
    endpoint = node.segments.endpoints.get(port.id)
    if endpoint is None:
        return "DOWN", "neither the port nor its network is bound to a VPN that is up"
    return _segments(node, [node.segments.segments[endpoint.segment]], ("attachment", endpoint.attachment))


def _segments(node: Node, segments: Iterable[Segment], *beside: ObjectKey) -> Verdict:
    """Return what became of segments and of objects beside them."""
    keys = list(beside)
    for segment in segments:
        if failure := node.instances.failure(segment):
            return "ERROR", failure
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
    owners = dict.fromkeys(owner for association in bound for owner in node.segments.owners(association))
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
    kind, id_ = association.bound
    if kind == "port":
        state, reason = _port(node, node.intent.ports[id_])
    elif kind == "router":
        state, reason = _router(node, node.intent.routers[id_])
    else:
        state, reason = _network(node, id_)
    return state, "; ".join(filter(None, (reason, *_refused(node, association))))


def _router(node: Node, router: Router) -> Verdict:
    if not router.admin_state_up:
        return "DOWN", "administratively down"
    if not any(True for _ in node.intent.referring("router", router.id, "association")):
        return "DOWN", "bound to no VPN"
    networks = {node.intent.subnets[id_].network_id for id_ in router.subnet_ids}
    segments = [segment for network_id in sorted(networks) for segment in node.segments.of(network_id)]
    return _segments(node, segments) if segments else ("DOWN", "its networks have no port on this node that is up")


def _refused(node: Node, association: Association) -> Iterator[str]:
    """Say what an association wants announced and its VPN does not take, an example of each reason."""
    endpoints = node.segments.endpoints.rows
    for port_id in endpoints if association.port_id is None else [association.port_id]:
        bindings = endpoints[port_id].bindings if port_id in endpoints else ()
        for binding in bindings if association.network_id is None else ():
            if binding.bgpvpn_id == association.bgpvpn_id:
                yield from (f"{prefix} is not announced: {reason}" for prefix, reason in binding.refused[:1])
    for leak in node.instances.leaks_of(association.port_id or "", association.bgpvpn_id):
        for (family, prefix), reason in islice(leak.refused.items(), 1):
            example = prefix_text(prefix, AFI_OF[family])
            yield f"{len(leak.refused)} routes are not announced, {example} among them: {reason}"
