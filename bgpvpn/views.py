"""The looking glass: functions from tables to plain values, for the API and for people.

A peer's routes are numbers and addresses, put into words here; of octets without a meaning the hex digits are shown.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from bgpvpn.desired import InVrf, Labelled, NextHop, OnBridge, Via
from bgpvpn.instance import AFI_OF, FAMILY_OF, Instance, Originated, targets
from bgpvpn.ipvpn import Ipvpn
from bgpvpn.node import Node
from bgpvpn.objects import Association, Bgpvpn, Port, title
from bgpvpn.prefixes import IP_PREFIX, is_overlaid
from bgpvpn.segment import Binding, Endpoint, Segment
from speaker.adj_rib_in import AdjRibIn
from speaker.adj_rib_out import AdjRibOut
from speaker.decision import LLGR_STALE, Candidate, is_own, local, local_pref, tiers
from speaker.path import Path
from speaker.rib import Rib, peer_of
from speaker.values import Family, Mac, RouteTarget, address_text, key_text, prefix_bytes, prefix_text
from speaker.wire.community import community_text

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
Plain = dict[str, Any]

ORIGINS = ("igp", "egp", "incomplete")


def hop_text(hop: NextHop) -> str:
    """Return a next hop in words."""
    match hop:
        case Labelled(pe, label, weight):
            share = f", weight {weight}" if weight > 1 else ""
            return f"PE {address_text(pe)}, MPLS label {label} over GRE{share}"
        case InVrf(vrf):
            return f"VRF {vrf} on this node"
        case OnBridge(_, address):
            return f"port at {address_text(address)} on this node"


def path_plain(path: Path, family: Family) -> Plain:
    """Return what a path says, in the field's words."""
    attributes = path.attributes
    plain: Plain = {
        "next_hop": address_text(attributes.next_hop) if attributes.next_hop else "",
        "origin": _origin(attributes.origin),
        "as_path": [number for _, numbers in attributes.as_path for number in numbers],
        "local_pref": attributes.local_pref,
        "med": attributes.med,
        "route_targets": sorted(str(RouteTarget(wire)) for wire in attributes.route_targets),
        "communities": [f"{c >> 16}:{c & 0xFFFF}" for c in attributes.communities],
        "large_communities": [":".join(map(str, each)) for each in attributes.large_communities],
        "extended_communities": [
            community_text(wire) for wire in attributes.ext_communities if wire not in attributes.route_targets
        ],
    }
    if attributes.originator_id is not None:
        plain["originator_id"] = address_text(attributes.originator_id)
        plain["cluster_list"] = [address_text(cluster) for cluster in attributes.cluster_list]
    if family in AFI_OF and len(path.extra) == 3:
        plain["label"] = int.from_bytes(path.extra, "big") >> 4
    if family is Family.EVPN and len(path.extra) >= 13:
        plain["vni"] = int.from_bytes(path.extra[10:13], "big")
    return plain


def _origin(origin: int) -> str:
    return ORIGINS[origin] if origin < 3 else str(origin)


def source_text(source: str) -> str:
    """Return the name of a source: a peer's address, or "local"."""
    return peer_of(source)


Heard = Mapping[str, AdjRibIn]
"""What peers told, by the name of their source."""


def routes(
    node: Node,
    family: str | None = None,
    route_target: str | None = None,
    prefix: str | None = None,
    sources: Collection[str] | None = None,
    most: int = 10_000,
    vpn: Bgpvpn | None = None,
    *,
    heard: Heard | None = None,
    received: bool = False,
) -> list[Plain]:
    """Return the routes of the RIB that fit, at most `most`; of a VPN: those that it imports or exports.

    `sources`: from these peers, by their addresses, or LOCAL.  `received`: instead of them those of peers as they came,
    before the import policy.
    """
    heard = heard or {}
    wanted = None if family is None else Family.parse(family)
    if received:
        rows = as_they_came({peer: each for peer, each in heard.items() if sources is None or peer in sources}, wanted)
    else:
        rows = in_rib(node.rib, heard, wanted, sources)
    return list(islice(_routes(node, rows, heard, route_target, prefix, vpn), most))


class Row(NamedTuple):
    """One route and where it is from."""

    family: Family
    key: bytes
    path: Path
    source: str  # a peer, or LOCAL
    path_id: int | None  # where the session has them (RFC 7911)


def in_rib(
    rib: Rib, heard: Heard, wanted: Family | None = None, sources: Collection[str] | None = None
) -> Iterator[Row]:
    """Yield the routes of the RIB, of a family and some sources if these are wanted."""
    for (family, source), table in rib.tables.items():
        peer = peer_of(source)
        if wanted not in (None, family) or (sources is not None and peer not in sources):
            continue
        adj_rib_in = heard.get(peer)
        with_ids = adj_rib_in is not None and adj_rib_in.has_path_ids(family)
        for key, path in list(table.rows.items()):
            path_id = None
            if with_ids and adj_rib_in is not None:
                ids = adj_rib_in.sources(family, key)
                path_id = next((number for number, at in ids.items() if at == source), None)
            yield Row(family, key, path, peer, path_id)


def as_they_came(heard: Heard, wanted: Family | None = None) -> Iterator[Row]:
    """Yield the routes of peers before the import policy: what it changed or rejected, and the rest from the RIB."""
    for peer, adj_rib_in in heard.items():
        tables: dict[Family, list[dict[bytes, Path]]] = {family: [] for family in adj_rib_in.held}
        for (family, source), table in adj_rib_in.rib.tables.items():
            if peer_of(source) == peer:
                tables.setdefault(family, []).append(table.rows)
        for family, of_slots in tables.items():
            if wanted not in (None, family):
                continue
            held = adj_rib_in.held[family].rows if family in adj_rib_in.held else {}
            if not adj_rib_in.has_path_ids(family):
                for key in dict.fromkeys(chain(*of_slots, held)):
                    path = held.get(key) or next(rows[key] for rows in of_slots if key in rows)
                    yield Row(family, key, path, peer, None)
                continue
            for told, path in list(held.items()):
                yield Row(family, told[4:], path, peer, int.from_bytes(told[:4], "big"))
            for key in dict.fromkeys(chain(*of_slots)):
                for path_id, source in adj_rib_in.sources(family, key).items():
                    if path_id.to_bytes(4, "big") + key not in held:
                        yield Row(family, key, adj_rib_in.rib.table(family, source).rows[key], peer, path_id)


def _routes(
    node: Node,
    rows: Iterable[Row],
    heard: Heard,
    route_target: str | None,
    prefix: str | None,
    vpn: Bgpvpn | None,
) -> Iterator[Plain]:
    of_vpn = None if vpn is None else targets([vpn], "import") | targets([vpn], "export")
    wanted_target = None if route_target is None else RouteTarget.parse(route_target).wire
    is_about = None if prefix is None else about(ipaddress.ip_network(prefix, strict=False))
    for row in rows:
        if wanted_target is not None and wanted_target not in row.path.attributes.route_targets:
            continue
        if of_vpn is not None and of_vpn.isdisjoint(row.path.attributes.route_targets):
            continue
        if is_about is not None and not is_about(row.family, row.key):
            continue
        yield {
            "family": row.family.text,
            "nlri": key_text(row.family, row.key),
            "source": row.source,
            "path_id": row.path_id,
            "stale": _stale(row, heard),
            "imported_by": [each.name for each in _importers(node, row.family, row.path)],
            **path_plain(row.path, row.family),
        }


def _stale(row: Row, heard: Heard) -> str:
    """Say whether a route outlives its session, or that of somebody before it; "": no."""
    if LLGR_STALE in row.path.attributes.communities:
        return "long-lived"
    told = row.key if row.path_id is None else row.path_id.to_bytes(4, "big") + row.key
    adj_rib_in = heard.get(row.source)
    return "" if adj_rib_in is None or told not in adj_rib_in.stale.get(row.family, ()) else "restarting"


def about(network: Network) -> Callable[[Family, bytes], bool]:
    """Return what tells whether a route is to a network; an EVPN MAC/IP route is to its address."""
    address, length, prefix = network.network_address.packed, network.prefixlen, prefix_bytes(str(network))
    offsets = {Family.IPV4: 0, Family.VPNV4: 8} if network.version == 4 else {Family.IPV6: 0, Family.VPNV6: 8}

    def is_about(family: Family, key: bytes) -> bool:
        offset = offsets.get(family)
        if offset is not None:
            return key[offset:] == prefix
        if family is not Family.EVPN:
            return False
        if key[0] == 2:
            return key[21:] == address and length == network.max_prefixlen
        return key[0] == 5 and key[14:] == address and key[13] == length

    return is_about


def _importers(node: Node, family: Family, path: Path) -> list[Instance]:
    importers: tuple[Instance, ...] = node.interest.of(path.attributes)  # type: ignore[assignment]
    return [instance for instance in importers if family in instance.families]


def instances(node: Node) -> list[Plain]:
    """Return the segments of this node with their VRFs and EVIs."""
    ports: dict[str, list[str]] = {}
    for port, endpoint in node.segments.endpoints.rows.items():
        ports.setdefault(endpoint.segment, []).append(port)
    macs = Counter(vni for vni, _ in node.desired.macs.rows)
    vteps: dict[int, list[str]] = {}
    for vni, vtep in node.desired.floods.rows:
        vteps.setdefault(vni, []).append(address_text(vtep))
    found = []
    for name, segment in node.segments.segments.rows.items():
        vrf, evi = node.instances.vrfs.get(segment.vrf), node.instances.evis.get(name)
        plain: Plain = {
            "name": segment.title,
            "segment": name,
            "vpns": [vpn.name or vpn.id for vpn in segment.vpns],
            "ports": ports.get(name, []),
            "status": _status(node, ("bridge", name)),
        }
        if failure := node.instances.failure(segment):
            plain["status"] = {"state": "failed", "reason": failure}
        if vrf is not None and segment.of_type("l3"):
            wanted = node.desired.objects.get(("vrf", vrf.name))
            plain["vrf"] = {
                "name": vrf.name,
                "table": vrf.table,
                "label": getattr(wanted, "label", None),
                "routes": sum(len(table) for table in vrf.routes.values()),
                "status": _status(node, ("vrf", vrf.name)),
            }
        if evi is not None:
            plain["evi"] = {
                "vni": evi.vni,
                "route_distinguisher": str(evi.rd),
                "macs": macs[evi.vni],
                "vteps": vteps.get(evi.vni, []),
                "status": _status(node, ("vxlan", str(evi.vni))),
            }
        found.append(plain)
    return found


def _status(node: Node, key: tuple[str, str]) -> Plain:
    status = node.status.get(key)
    if status is None:
        return {"state": "pending", "reason": "not tried yet"}
    return {"state": status.state, "reason": status.reason}


def explain_prefix(node: Node, text: str, heard: Mapping[str, AdjRibIn], told: Mapping[str, AdjRibOut]) -> Plain:
    """Walk the tables for a prefix or address: what was heard, what was chosen and why, what the kernel is to hold.

    ValueError if the text is neither.
    """
    network = ipaddress.ip_network(text, strict=False)
    prefix = prefix_bytes(str(network))
    family = FAMILY_OF[network.version]
    answer: Plain = {
        "prefix": str(network),
        "instances": [],
        "refused": [],
        "not_imported": [],
        "passed_on": [],
        "own": [],
    }
    covering = []
    for name, vrf in node.instances.vrfs.items():
        walked = _walk(node, vrf, family, prefix)
        if walked is not None:
            answer["instances"].append({"name": _title(node, name), **walked})
        elif (words := _covering(node, vrf, family, network)) is not None:
            covering.append({"name": _title(node, name), "candidates": [], "table": vrf.table, "wanted": words})
    is_about = about(network)
    answer["refused"] = list(_refused(heard, is_about))
    kept: set[tuple[Family, bytes]] = set()
    for (its_family, source), table in node.rib.tables.items():
        if is_own(source):
            continue
        for key, path in table.rows.items():
            if not is_about(its_family, key):
                continue
            kept.add((its_family, key))
            if reason := _unused(node, its_family, key, path):
                answer["not_imported"].append(
                    {
                        "family": its_family.text,
                        "nlri": key_text(its_family, key),
                        "source": source_text(source),
                        "reason": reason,
                        **path_plain(path, its_family),
                    }
                )
    reflecting = any(each.reflecting for each in heard.values())
    if reflecting:
        answer["passed_on"] = [
            {"family": its_family.text, "nlri": key_text(its_family, key), **_told(its_family, key, told)}
            for its_family, key in sorted(kept)
        ]
    answer["own"] = [
        _own(node, its_family, key, told)
        for its_family, key in node.originated.rows
        if its_family is family and key[8:] == prefix
    ]
    answer["own"] += _own_of_speakers(node, network, told)
    said = list(_bridged(node, network.network_address.packed)) if network.prefixlen == network.max_prefixlen else []
    if not said and not kept and not any(answer[part] for part in ("instances", "refused", "own")):
        unkept = "" if covering or reflecting else "; a route that no VPN of this node imports is not kept"
        said = [f"nobody told this node about {network}{unkept}"]
    if said:
        answer["verdict"] = "; ".join(said)
    answer["instances"] += covering
    return answer


def _refused(heard: Heard, is_about: Callable[[Family, bytes], bool]) -> Iterator[Plain]:
    """Yield what of peers is not in the RIB, and why; what it says where it is kept, as behind an import policy."""
    for source, adj_rib_in in heard.items():
        for family, key, path_id, reason in adj_rib_in.refusals():
            if is_about(family, key):
                of_peer = key if path_id is None else path_id.to_bytes(4, "big") + key
                path = adj_rib_in.held[family].get(of_peer) if family in adj_rib_in.held else None
                yield {
                    "family": family.text,
                    "nlri": key_text(family, key),
                    "source": source_text(source),
                    "reason": reason,
                    **({} if path is None else path_plain(path, family)),
                }


def _unused(node: Node, family: Family, key: bytes, path: Path) -> str:
    """Say why a route of the RIB is in no VPN of this node; "": it is in one."""
    if family not in AFI_OF and family is not Family.EVPN:
        return f"routes of {family.text} are in no VPN"
    if not _importers(node, family, path):
        return "no VPN of this node imports any of its route targets"
    halves = node.instances.prefixes.values()
    if (
        family is Family.EVPN
        and key[0] == IP_PREFIX
        and not any(half in halves for half in _importers(node, family, path))
    ):
        return "no VPN of the technique evpn-prefix imports any of its route targets"
    return ""


def _title(node: Node, name: str) -> str:
    """Return what people call a segment, or the VRF or EVI of that name."""
    segment = node.segments.segments.get(name)
    if segment is None and name.startswith("router/"):
        router = node.intent.routers.get(name.removeprefix("router/").partition("+")[0])
        return f"router {title(router)}" if router is not None else name
    return name if segment is None else segment.title


def _bridged(node: Node, address: bytes) -> Iterator[str]:
    """Say where an address is in the l2 VPNs."""
    for name, evi in node.instances.evis.items():
        mac = node.desired.neighbours.get((name, address))
        if mac is not None:
            vtep, _ = node.desired.macs.get((evi.vni, mac)) or (b"", 0)
            where = f"behind VTEP {address_text(vtep)}" if vtep else "on this node"
            yield f"in the l2 VPN of {_title(node, name)} it is MAC {Mac(mac)} {where}"


def _covering(node: Node, vrf: Ipvpn, family: Family, network: Network) -> str | None:
    """Say which longest prefix of a VRF covers a network, and where it leads; None if none does."""
    lengths = {
        gateway.prefix_length
        for segment in node.instances.segments_of(vrf.name)
        for gateway in segment.gateways
        if len(gateway.address) * 8 == network.max_prefixlen
        and network.subnet_of(ipaddress.ip_network((gateway.address, gateway.prefix_length), strict=False))  # type: ignore[arg-type]
    }
    for length in range(network.prefixlen, -1, -1):
        wider = network.supernet(new_prefix=length)
        via = vrf.routes[family].get(prefix_bytes(str(wider)))
        if via is not None:
            leading = ", else to ".join(" and ".join(map(hop_text, tier)) for tier in via.tiers)
            return f"{wider} covers it: to {leading}"
        if length in lengths:
            return f"{wider} covers it, the segment's own subnet"
    return None


def _walk(node: Node, vrf: Ipvpn, family: Family, prefix: bytes) -> Plain | None:
    held = vrf.keys[family].get(prefix)
    keys = () if held is None else (held,) if isinstance(held, bytes) else held
    candidates = vrf.all_candidates(family, keys, prefix)
    via = vrf.routes[family].get(prefix)
    if not candidates and via is None:
        return None
    found = tiers([c for c in candidates if not vrf.refusal(c.path)])
    plain: Plain = {
        "candidates": [
            {
                "nlri": key_text(its_family, candidate.key),
                "source": source_text(candidate.source),
                "verdict": _verdict(candidate, found, vrf.refusal(candidate.path)),
                **path_plain(candidate.path, its_family),
            }
            for candidate in candidates
            for its_family in [Family.EVPN if is_overlaid(candidate.path) else family]
        ],
        "table": vrf.table,
        "wanted": _via_plain(via),
    }
    if via is None and any(node.vias.own.get(candidate.path) == vrf.name for candidate in candidates):
        plain["wanted"] = "the segment's own subnet leads there"
    return plain


def _verdict(candidate: Candidate, found: Sequence[Sequence[Candidate]], refusal: str) -> str:
    """Say what became of a candidate, and why."""
    if refusal:
        return f"refused ({refusal})"
    if candidate in found[0]:
        return "best"
    rank = "backup" if candidate in found[1] else "worse than best and backup"
    return f"{rank} ({worse(candidate, found[0][0])})"


def worse(candidate: Candidate, than: Candidate) -> str:
    """Say by which step of the decision a candidate lost to another (see `speaker.decision`)."""
    mine, others = candidate.path.attributes, than.path.attributes
    if local_pref(candidate.path) != local_pref(than.path):
        return f"LOCAL_PREF {local_pref(candidate.path)} is below {local_pref(than.path)}"
    if is_own(candidate.source) != is_own(than.source):
        return "our own routes come before received ones"
    if mine.as_path_length() != others.as_path_length():
        return f"AS_PATH of {mine.as_path_length()} is longer than {others.as_path_length()}"
    if mine.origin != others.origin:
        return f"ORIGIN {_origin(mine.origin)} comes after {_origin(others.origin)}"
    if candidate.external != than.external:
        return "routes by eBGP come before those by iBGP"
    return f"MED {mine.med or 0} is above another of its neighbouring AS"


def _via_plain(via: Via | None) -> list[list[str]] | str:
    return "nothing" if via is None else [[hop_text(hop) for hop in tier] for tier in via.tiers]


def _own(node: Node, family: Family, key: bytes, told: Mapping[str, AdjRibOut]) -> Plain:
    """Return one route of our own: whether it is announced, to whom, and what it waits for."""
    originated = node.originated[(family, key)]
    waits = node.announcing.waits_for((family, key))
    return {
        "family": family.text,
        "nlri": key_text(family, key),
        "announced": not waits,
        "waits_for": [{"object": f"{kind} {name}", **_status(node, (kind, name))} for kind, name in waits],
        **_told(family, key, told),
        **path_plain(originated.path, family),
    }


def _own_of_speakers(node: Node, network: Network, told: Mapping[str, AdjRibOut]) -> Iterator[Plain]:
    """Yield the routes to a network that speakers tell, and who of their peers holds them."""
    family = Family.IPV4 if network.version == 4 else Family.IPV6
    key = prefix_bytes(str(network))
    for speaker in node.intent.speakers.rows.values():
        offer = node.advertising.told.get(speaker.id, {}).get(str(network))
        table = node.rib.tables.get((family, local(speaker.id)))
        path = table.get(key) if table is not None else None
        if offer is None or path is None:
            continue
        plain: Plain = {
            "family": family.text,
            "nlri": key_text(family, key),
            "announced": True,
            "waits_for": [],
            "speaker": title(speaker),
            "why": node.advertising.why(offer),
            "told_to": [],
            "not_told_to": [],
            **path_plain(path, family),
        }
        for peer, out in told.items():
            sent = out.sent.get(family)
            if sent is not None and any(source == local(speaker.id) for _, source, _ in sent.paths(key)):
                plain["told_to"].append(source_text(peer))
                continue
            heard = local(speaker.id) in out.terms.hears
            reason = out.reason_untold(family, key) if heard else f"it is no peer of speaker {title(speaker)}"
            plain["not_told_to"].append({"peer": source_text(peer), "reason": reason})
        yield plain


def _told(family: Family, key: bytes, told: Mapping[str, AdjRibOut]) -> Plain:
    """Return which peers were told of a key, and why the others were not."""
    return {
        "told_to": [source_text(peer) for peer, out in told.items() if key in out.sent.get(family, {})],
        "not_told_to": [
            {"peer": source_text(peer), "reason": out.reason_untold(family, key)}
            for peer, out in told.items()
            if key not in out.sent.get(family, {})
        ],
    }


def explain_port(node: Node, port_id: str, told: Mapping[str, AdjRibOut]) -> Plain:
    """Walk the tables for a port: its VPNs and why, its segment, its interface, its routes and who was told."""
    port = node.intent.ports[port_id]
    answer: Plain = {"port": port.name or port_id, "id": port_id}
    endpoint = node.segments.endpoints.get(port_id)
    if endpoint is None:
        answer["verdict"] = _unbound(node, port)
        return answer
    segment = node.segments.segments[endpoint.segment]
    lacking = list(_lacking(node, endpoint, segment))
    if lacking:
        answer["verdict"] = "; ".join(lacking)
    answer["segment"] = segment.title
    answer["vpns"] = [
        {
            "vpn": vpn.name or vpn.id,
            "type": vpn.type,
            "because": [
                f"{association.bound[0]} association {association.id}"
                for association in _associations(node, port)
                if association.bgpvpn_id == vpn.id
            ],
        }
        for vpn in segment.vpns
    ]
    answer["objects"] = [
        {"object": f"{kind} {name}", **_status(node, (kind, name))}
        for kind, name in (
            ("bridge", segment.name),
            ("attachment", endpoint.attachment),
            *((("vrf", segment.vrf),) if segment.of_type("l3") else ()),
            *((("vxlan", str(node.instances.evis[segment.name].vni)),) if segment.name in node.instances.evis else ()),
        )
    ]
    own = [at for at, originated in node.originated.rows.items() if _is_of(endpoint, *at, originated)]
    answer["own"] = [_own(node, *at, told) for at in sorted(own, key=lambda at: (at[0].text, at[1]))]
    return answer


def _associations(node: Node, port: Port) -> list[Association]:
    """Return the associations that are about a port: its own, those of its network and of routers there."""
    intent = node.intent
    found = list(intent.referring("port", port.id, "association"))
    if port.network_id is not None:
        found += intent.referring("network", port.network_id, "association")
        for router in intent.routers_of(port.network_id):
            found += intent.referring("router", router.id, "association")
    return found


def _is_of(endpoint: Endpoint, family: Family, key: bytes, originated: Originated) -> bool:
    """Tell whether a route of ours is that of a port: others may be behind its interface as well."""
    if ("attachment", endpoint.attachment) not in originated.needs:
        return False
    if endpoint.attachment == endpoint.port or family not in AFI_OF:
        return endpoint.attachment == endpoint.port or key[14:20] == endpoint.mac
    prefix = key[8:]
    told = {prefix for binding in endpoint.bindings for (_, prefix), _ in binding.prefixes}
    return prefix in told or prefix[:-1] in endpoint.addresses


def _as_prefixes(endpoint: Endpoint, binding: Binding) -> bool:
    """Tell whether addresses of an endpoint are announced as prefixes, as clients of bagpipe-bgp ask for it."""
    own = {address + bytes([8 * len(address)]) for address in endpoint.addresses}
    return any(prefix in own for (_, prefix), _ in binding.prefixes)


def _unbound(node: Node, port: Port) -> str:
    """Say why a port is in no segment."""
    if not port.admin_state_up:
        return "the port is administratively down"
    down = [
        vpn.name or vpn.id
        for association in _associations(node, port)
        if not (vpn := node.intent.bgpvpns[association.bgpvpn_id]).admin_state_up
    ]
    if down:
        return f"administratively down is all that it is bound to: {', '.join(down)}"
    return "neither it nor its network is bound to a VPN"


def _lacking(node: Node, endpoint: Endpoint, segment: Segment) -> Iterator[str]:
    """Say what of a port is not announced that one might expect, but for what waits for an object."""
    if failure := node.instances.failure(segment):
        yield f"its segment is not built as it should be: {failure}"
    vpns = {vpn.id: vpn for vpn in segment.vpns}
    for binding in endpoint.bindings:
        vpn = vpns[binding.bgpvpn_id]
        name = vpn.name or vpn.id
        if not targets([vpn], "export"):
            yield f"VPN {name} has no export target, so nothing is announced into it"
        elif vpn.type == "l3" and not endpoint.addresses:
            yield f"it has no address that could be announced into VPN {name}"
        elif vpn.type == "l3" and not binding.addresses and not _as_prefixes(endpoint, binding):
            yield f"its association does not let its addresses be announced into VPN {name}"
        for refused in binding.refused:
            yield f"{refused.prefix} is not announced: {refused.reason}"
        for (version, prefix), _ in binding.prefixes:
            if not any(len(address) == (4 if version == 4 else 16) for address in endpoint.addresses):
                text = prefix_text(prefix, 4 if version == 4 else 6)
                yield f"{text} is not announced: the port has no IPv{version} address that leads there"
    evi = node.instances.evis.get(segment.name)
    elsewhere = node.desired.macs.get((evi.vni, endpoint.mac)) if evi is not None else None
    if elsewhere is not None:
        yield f"its MAC {Mac(endpoint.mac)} lives behind VTEP {address_text(elsewhere[0])} now, which said so last"
