"""What became of each wish, in one word and a reason: from the tables to the `status` of an object in the API.

ACTIVE   it is in the kernel (a peer: its session is established; a policy: a peer uses it; a speaker: all its peers are
         there; what speakers tell: one does, to peers that are there)
PENDING  it waits for something that the reason names
DOWN     nothing is to be done: administratively down, or bound to nothing
ERROR    the kernel refused it
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bgpvpn.desired import ObjectKey
from bgpvpn.instance import AFI_OF
from bgpvpn.node import Node
from bgpvpn.objects import (
    Advertisement,
    Association,
    Bgpvpn,
    FloatingIp,
    Kind,
    Network,
    Peer,
    Policy,
    Port,
    Router,
    Speaker,
    Subnet,
    title,
)
from bgpvpn.segment import Segment
from speaker.values import prefix_text

Verdict = tuple[str, str]
"""(state, reason)"""

ACTIVE: Verdict = ("ACTIVE", "")


def verdict(
    node: Node,
    kind: Kind,
    id_: str,
    of_peer: Callable[[Peer], Verdict] = lambda _: ACTIVE,
    of_plug: Callable[[str], str] = lambda _: "",
) -> Verdict:
    """Return what became of an object that is there.

    `of_peer` judges peers, by their sessions; `of_plug` says what the plug of a port waits for, "" if for nothing.
    """
    thing = node.intent.tables[kind][id_]
    match thing:
        case Port():
            return _port(node, thing, of_plug)
        case Network():
            return _network(node, thing.id)
        case Subnet():
            return _network(node, thing.network_id)
        case Router():
            return _router(node, thing)
        case Bgpvpn():
            return _bgpvpn(node, thing)
        case Association():
            return _association(node, thing, of_plug)
        case Speaker():
            return _speaker(node, thing, of_peer)
        case Advertisement():
            return _told_by(node, [thing.speaker_id], of_peer)
        case FloatingIp():
            return _floating_ip(node, thing, of_peer)
        case Peer():
            return of_peer(thing)
        case Policy():
            used = any(True for _ in node.intent.referring("policy", thing.id, "peer"))
            return ACTIVE if used else ("DOWN", "no peer uses it")
    raise AssertionError(f"{kind} has no verdict")


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


def _port(node: Node, port: Port, of_plug: Callable[[str], str]) -> Verdict:
    if not port.admin_state_up:
        return "DOWN", "administratively down"
    if port.host not in ("", node.settings.host):
        return "DOWN", f"it is on node {port.host}"
    endpoint = node.segments.endpoints.get(port.id)
    if endpoint is None:
        return "DOWN", "neither the port nor its network is bound to a VPN that is up"
    state, reason = _segments(node, [node.segments.segments[endpoint.segment]], ("attachment", endpoint.attachment))
    if state != "ERROR" and (waiting := of_plug(port.id)):
        return "PENDING", waiting
    return state, reason


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


def _association(node: Node, association: Association, of_plug: Callable[[str], str]) -> Verdict:
    vpn = node.intent.bgpvpns[association.bgpvpn_id]
    if not vpn.admin_state_up:
        return "DOWN", f"VPN {vpn.name or vpn.id} is administratively down"
    kind, id_ = association.bound
    if kind == "port":
        state, reason = _port(node, node.intent.ports[id_], of_plug)
    elif kind == "router":
        state, reason = _router(node, node.intent.routers[id_])
    else:
        state, reason = _network(node, id_)
    return state, "; ".join(filter(None, (reason, *_refused(node, association))))


def _router(node: Node, router: Router) -> Verdict:
    if not router.admin_state_up:
        return "DOWN", "administratively down"
    if not any(True for _ in node.intent.referring("router", router.id, "association")):
        untold = node.advertising.reason_untold("router", router.id) if router.gateway_network_id else "bound to no VPN"
        return ("DOWN", untold) if untold else ACTIVE
    networks = {node.intent.subnets[id_].network_id for id_ in router.subnet_ids}
    segments = [segment for network_id in sorted(networks) for segment in node.segments.of(network_id)]
    return _segments(node, segments) if segments else ("DOWN", "its networks have no port on this node that is up")


def _ports(node: Node, association: Association) -> Iterator[str]:
    """Yield the ports behind which something of an association may lie: a network announces addresses only."""
    if association.port_id is not None:
        yield association.port_id
    elif association.router_id is not None and node.intent.routers[association.router_id].routes:
        for owner in node.segments.owners(association):
            yield from (port.id for port in node.intent.referring("network", owner, "port"))


def _refused(node: Node, association: Association) -> Iterator[str]:
    """Say what an association wants announced and its VPN does not take, an example of each reason."""
    endpoints = node.segments.endpoints.rows
    examples: dict[str, str] = {}  # one of each reason
    for port_id in _ports(node, association):
        for binding in endpoints[port_id].bindings if port_id in endpoints else ():
            for refused in binding.refused:
                if refused.association == association.id:
                    examples.setdefault(refused.reason, refused.prefix)
    yield from (f"{prefix} is not announced: {reason}" for reason, prefix in examples.items())
    for leak in node.instances.leaks_of(association.port_id or "", association.bgpvpn_id):
        for (family, prefix), reason in islice(leak.refused.items(), 1):
            example = prefix_text(prefix, AFI_OF[family])
            yield f"{len(leak.refused)} routes are not announced, {example} among them: {reason}"


def _speaker(node: Node, speaker: Speaker, of_peer: Callable[[Peer], Verdict]) -> Verdict:
    """Return the worst of the peers that are to hear it."""
    peers = [node.intent.peers[id_] for id_ in speaker.peers]
    if not peers:
        return "DOWN", "no peer is in it"
    verdicts = [(f"peer {title(peer)}", of_peer(peer)) for peer in peers]
    otherwise = [peer for peer in peers if peer.local_as not in (None, speaker.local_as)]
    known = [f"peer {title(peer)} knows this node as AS {peer.local_as}" for peer in otherwise]
    for state in ("ERROR", "PENDING"):
        reasons = [f"{called}: {reason}" for called, (found, reason) in verdicts if found == state]
        if reasons:
            return state, "; ".join([*reasons, *known])
    if all(state == "DOWN" for _, (state, _) in verdicts):
        return "DOWN", "its peers are administratively down"
    untold = [] if node.advertising.told.get(speaker.id) else ["there is nothing to tell"]
    return "ACTIVE", "; ".join([*untold, *known])


def _floating_ip(node: Node, floating: FloatingIp, of_peer: Callable[[Peer], Verdict]) -> Verdict:
    untold = node.advertising.reason_untold("floating_ip", floating.id)
    if untold:
        return "DOWN", untold
    places = node.advertising.places("floating_ip", floating.id)
    own = [id_ for (id_, to), offer in places.items() if node.advertising.told[id_][to] == offer]
    if places and not own:
        id_, to = next(iter(places))
        return "DOWN", f"something else is told of it: {node.advertising.why(node.advertising.told[id_][to])}"
    return _told_by(node, own, of_peer)


def _told_by(node: Node, speakers: Iterable[str], of_peer: Callable[[Peer], Verdict]) -> Verdict:
    """Return what became of a route that some speakers tell: what is best of them."""
    verdicts: dict[str, str] = {}
    for id_ in speakers:
        speaker = node.intent.speakers[id_]
        state, reason = _speaker(node, speaker, of_peer)
        verdicts.setdefault(state, f"speaker {title(speaker)}: {reason}")
    if "ACTIVE" in verdicts:
        return ACTIVE
    state = next((state for state in ("PENDING", "ERROR", "DOWN") if state in verdicts), "PENDING")
    return state, verdicts.get(state, "it is about to be told")
