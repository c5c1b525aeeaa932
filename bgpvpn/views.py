"""The looking glass: functions from tables to plain values, for the API and for people.

Everything that a peer chose freely is escaped and bounded here, once, so that nobody who shows it need
think of it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from bgpvpn.desired import InVrf, Labelled, NextHop, OnBridge, Via
from bgpvpn.instance import targets
from bgpvpn.ipvpn import AFI_OF, FAMILY_OF, Ipvpn
from bgpvpn.node import Node
from bgpvpn.objects import Bgpvpn
from speaker.adj_rib_in import AdjRibIn
from speaker.adj_rib_out import AdjRibOut
from speaker.decision import LOCAL, tiers
from speaker.path import Path
from speaker.values import Family, RouteTarget, key_text, prefix_bytes
from speaker.wire.community import community_text

Plain = dict[str, Any]

ORIGINS = ("igp", "egp", "incomplete")


def safe_text(text: str, most: int = 128) -> str:
    """Return text from a peer without control characters, at most so long."""
    cut = text if len(text) <= most else text[:most] + "..."
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in cut)


def address_text(octets: bytes) -> str:
    """Return an address as people write it."""
    return str(ipaddress.ip_address(octets)) if len(octets) in (4, 16) else octets.hex()


def hop_text(hop: NextHop) -> str:
    """Return a next hop in words."""
    match hop:
        case Labelled(pe, label):
            return f"PE {address_text(pe)}, MPLS label {label} over GRE"
        case InVrf(vrf):
            return f"VRF of segment {vrf} on this node"
        case OnBridge(_, address):
            return f"port at {address_text(address)} on this node"


def path_plain(path: Path, family: Family) -> Plain:
    """Return what a path says, in the field's words."""
    attributes = path.attributes
    plain: Plain = {
        "next_hop": address_text(attributes.next_hop) if attributes.next_hop else "",
        "origin": ORIGINS[attributes.origin] if attributes.origin < 3 else str(attributes.origin),
        "as_path": [number for _, numbers in attributes.as_path for number in numbers],
        "local_pref": attributes.local_pref,
        "med": attributes.med,
        "route_targets": sorted(str(RouteTarget(wire)) for wire in attributes.route_targets),
        "communities": [f"{c >> 16}:{c & 0xFFFF}" for c in attributes.communities],
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


def source_text(node: Node, source: str) -> str:
    """Return the name of a source: a peer's id, or "local"."""
    peer = node.intent.peers.get(source)
    return source if peer is None else peer.address


def routes(
    node: Node,
    family: str | None = None,
    route_target: str | None = None,
    prefix: str | None = None,
    source: str | None = None,
    most: int = 10_000,
    vpn: Bgpvpn | None = None,
) -> list[Plain]:
    """Return the routes of the RIB that fit, at most `most`; of a VPN: those that it imports or exports."""
    return list(islice(_routes(node, family, route_target, prefix, source, vpn), most))


def _routes(
    node: Node,
    family: str | None,
    route_target: str | None,
    prefix: str | None,
    source: str | None,
    vpn: Bgpvpn | None,
) -> Iterator[Plain]:
    of_vpn = None if vpn is None else targets([vpn], "import") | targets([vpn], "export")
    wanted_family = None if family is None else Family.parse(family)
    wanted_target = None if route_target is None else RouteTarget.parse(route_target).wire
    for (its_family, its_source), table in node.rib.tables.items():
        if wanted_family not in (None, its_family):
            continue
        if source is not None and source not in (its_source, source_text(node, its_source)):
            continue
        for key, path in list(table.rows.items()):
            if wanted_target is not None and wanted_target not in path.attributes.route_targets:
                continue
            if of_vpn is not None and of_vpn.isdisjoint(path.attributes.route_targets):
                continue
            text = key_text(its_family, key)
            if prefix is not None and prefix not in text.split():
                continue
            yield {
                "family": its_family.text,
                "nlri": text,
                "source": source_text(node, its_source),
                "imported_by": [instance.name for instance in node.interest.of(path.attributes)],  # type: ignore[attr-defined]
                **path_plain(path, its_family),
            }


def instances(node: Node) -> list[Plain]:
    """Return the segments of this node with their VRFs and EVIs."""
    found = []
    for name, segment in node.segments.segments.rows.items():
        vrf, evi = node.instances.vrfs.get(name), node.instances.evis.get(name)
        plain: Plain = {
            "name": segment.title,
            "segment": name,
            "vpns": [vpn.name or vpn.id for vpn in segment.vpns],
            "ports": [port for port, endpoint in node.segments.endpoints.rows.items() if endpoint.segment == name],
            "status": _status(node, ("bridge", name)),
        }
        if vrf is not None:
            wanted = node.desired.objects.get(("vrf", name))
            plain["vrf"] = {
                "table": vrf.table,
                "label": getattr(wanted, "label", None),
                "routes": sum(len(table) for table in vrf.routes.values()),
                "status": _status(node, ("vrf", name)),
            }
        if evi is not None:
            plain["evi"] = {
                "vni": evi.vni,
                "route_distinguisher": str(evi.rd),
                "macs": sum(1 for vni, _ in node.desired.macs.rows if vni == evi.vni),
                "vteps": [address_text(vtep) for vni, vtep in node.desired.floods.rows if vni == evi.vni],
                "status": _status(node, ("vxlan", str(evi.vni))),
            }
        found.append(plain)
    return found


def _status(node: Node, key: tuple[str, str]) -> Plain:
    status = node.status.get(key)
    return (
        {"state": "pending", "reason": "not tried yet"}
        if status is None
        else {
            "state": status.state,
            "reason": status.reason,
        }
    )


def explain_prefix(node: Node, text: str, heard: Mapping[str, AdjRibIn], told: Mapping[str, AdjRibOut]) -> Plain:
    """Walk the tables for a prefix or address: what was heard, what was chosen and why, what the kernel is to hold."""
    network = ipaddress.ip_network(text, strict=False)
    prefix = prefix_bytes(str(network))
    family = FAMILY_OF[network.version]
    answer: Plain = {"prefix": str(network), "instances": [], "refused": [], "not_imported": [], "own": []}
    for name, vrf in node.instances.vrfs.items():
        walked = _walk(node, vrf, family, prefix)
        if walked is not None:
            segment = node.segments.segments.get(name)
            answer["instances"].append({"name": segment.title if segment else name, **walked})
    for source, adj_rib_in in heard.items():
        for (its_family, key), reason in adj_rib_in.refused.items():
            if its_family is family and key[8:] == prefix:
                answer["refused"].append(
                    {"nlri": key_text(family, key), "source": source_text(node, source), "reason": reason}
                )
    for source, table in node.rib.sources(family):
        for key, path in table.rows.items():
            if key[8:] == prefix and source != LOCAL and not node.interest.of(path.attributes):
                answer["not_imported"].append(
                    {
                        "nlri": key_text(family, key),
                        "source": source_text(node, source),
                        "reason": "no VPN of this node imports any of its route targets",
                        **path_plain(path, family),
                    }
                )
    answer["own"] = [
        _own(node, its_family, key, told)
        for its_family, key in node.originated.rows
        if its_family is family and key[8:] == prefix
    ]
    if not any(answer[part] for part in ("instances", "refused", "not_imported", "own")):
        covering = _covering(node, family, network)
        answer["verdict"] = f"nobody told this node about {network}" + (
            f"; {covering} covers it" if covering else "; a route that no VPN of this node imports is not kept"
        )
    return answer


def _covering(node: Node, family: Family, network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """Return the longest known prefix that covers a network, in words."""
    for length in range(network.prefixlen - 1, -1, -1):
        wider = network.supernet(new_prefix=length)
        prefix = prefix_bytes(str(wider))
        for vrf in node.instances.vrfs.values():
            if prefix in vrf.routes[family]:
                return f"{wider} in {vrf.name}"
    return ""


def _walk(node: Node, vrf: Ipvpn, family: Family, prefix: bytes) -> Plain | None:
    held = vrf.keys[family].get(prefix)
    keys = () if held is None else (held,) if isinstance(held, bytes) else held
    candidates = vrf.candidates(family, keys)
    via = vrf.routes[family].get(prefix)
    if not candidates and via is None:
        return None
    ranks = {
        candidate: rank
        for rank, tier in enumerate(tiers([c for c in candidates if not vrf.refusal(c.path)]))
        for candidate in tier
    }
    plain: Plain = {
        "candidates": [
            {
                "nlri": key_text(family, candidate.key),
                "source": source_text(node, candidate.source),
                "verdict": {0: "best", 1: "backup"}.get(
                    ranks.get(candidate, -1), vrf.refusal(candidate.path) or "worse than best and backup"
                ),
                **path_plain(candidate.path, family),
            }
            for candidate in candidates
        ],
        "table": vrf.table,
        "wanted": _via_plain(via),
    }
    if via is None and any(path in node.vias.own for path in (c.path for c in candidates)):
        plain["wanted"] = "the segment's own subnet leads there"
    return plain


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
        "told_to": [source_text(node, peer) for peer, out in told.items() if key in out.sent.get(family, {})],
        "not_told_to": [
            {"peer": source_text(node, peer), "reason": out.reason_untold(family, key)}
            for peer, out in told.items()
            if key not in out.sent.get(family, {})
        ],
        **path_plain(originated.path, family),
    }


def explain_port(node: Node, port_id: str, told: Mapping[str, AdjRibOut]) -> Plain:
    """Walk the tables for a port: its VPNs and why, its segment, its interface, its routes and who was told."""
    port = node.intent.ports[port_id]
    answer: Plain = {"port": port.name or port_id, "id": port_id}
    endpoint = node.segments.endpoints.get(port_id)
    if endpoint is None:
        answer["verdict"] = (
            "the port is administratively down"
            if not port.admin_state_up
            else "neither it nor its network is bound to a VPN"
        )
        return answer
    segment = node.segments.segments[endpoint.segment]
    answer["segment"] = segment.title
    answer["vpns"] = [
        {
            "vpn": vpn.name or vpn.id,
            "type": vpn.type,
            "because": [
                f"{'network' if a.network_id else 'port'} association {a.id}"
                for a in node.intent.associations.rows.values()
                if a.bgpvpn_id == vpn.id
                and (a.port_id == port_id or (a.network_id and a.network_id == port.network_id))
            ],
        }
        for vpn in segment.vpns
    ]
    answer["objects"] = [
        {"object": f"{kind} {name}", **_status(node, (kind, name))}
        for kind, name in (
            ("bridge", segment.name),
            ("attachment", port_id),
            *((("vrf", segment.name),) if segment.name in node.instances.vrfs else ()),
            *((("vxlan", str(node.instances.evis[segment.name].vni)),) if segment.name in node.instances.evis else ()),
        )
    ]
    answer["own"] = [
        _own(node, family, key, told)
        for (family, key), originated in node.originated.rows.items()
        if ("attachment", port_id) in originated.needs
    ]
    return answer
