"""Counters and gauges of a node, as plain values that the API shows in the form of Prometheus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from bgpvpn.node import Node
from bgpvpn.reconcile import Reconciler
from bgpvpn.views import Plain
from speaker.rib import peer_of

_OF_SESSIONS = (
    ("messages_received", "messages_in", "BGP messages received", "counter"),
    ("messages_sent", "messages_out", "BGP messages sent", "counter"),
    ("updates_received", "updates_in", "UPDATE messages received", "counter"),
    ("malformed", "malformed", "errors in UPDATE messages, each treated as RFC 7606 says", "counter"),
    ("flaps", "flaps", "sessions lost after they were established", "counter"),
    ("routes_stale", "routes_stale", "routes kept for a peer that restarts (RFC 4724)", "gauge"),
    ("routes_refused", "routes_refused", "routes refused as loops, as our own, or above a limit", "gauge"),
    ("routes_rejected", "routes_rejected", "routes rejected by the import policy", "gauge"),
)


def metrics(
    node: Node, reconciler: Reconciler, sessions: Iterable[Mapping[str, Any]], messages: Mapping[str, int]
) -> list[Plain]:
    """Return one entry for each metric: name, help, type, and samples with their labels."""
    sessions = list(sessions)
    found = [
        _metric(
            "bgpvpn_session_established",
            "1: the session is established",
            "gauge",
            [({"peer": each["address"]}, int(each["state"] == "established")) for each in sessions],
        )
    ]
    for name, field, words, kind in _OF_SESSIONS:
        samples = [({"peer": each["address"]}, each[field]) for each in sessions]
        found.append(_metric(f"bgpvpn_session_{name}", words, kind, samples))
    held: Counter[tuple[str, str]] = Counter()
    for (family, source), table in node.rib.tables.items():
        held[family.text, peer_of(source)] += len(table)
    rib = [({"family": family, "source": source}, count) for (family, source), count in held.items()]
    statuses = [status.state for status in reconciler.status.rows.values()]
    found += [
        _metric("bgpvpn_rib_routes", "routes held, by family and source", "gauge", rib),
        _metric(
            "bgpvpn_kernel_rows",
            "rows of ours in the kernel, by kind",
            "gauge",
            [
                ({"kind": "routes"}, sum(map(len, reconciler.actual.routes.values()))),
                *(({"kind": str(kind)}, len(rows)) for kind, rows in reconciler.actual.rows.items()),
            ],
        ),
        _metric(
            "bgpvpn_kernel_messages",
            "netlink messages sent, by kind",
            "counter",
            [({"kind": kind}, count) for kind, count in messages.items()],
        ),
        _metric(
            "bgpvpn_objects",
            "objects of the dataplane, by state",
            "gauge",
            [({"state": state}, statuses.count(state)) for state in ("active", "pending", "failed")],
        ),
        _metric(
            "bgpvpn_kernel_refusals", "rows refused, each trial counted", "counter", [({}, reconciler.refused.total)]
        ),
        _metric(
            "bgpvpn_kernel_repairs",
            "rows put right after others changed them",
            "counter",
            [({}, reconciler.repairs.total)],
        ),
        _metric("bgpvpn_synced", "1: all peers have said all that they know", "gauge", [({}, int(reconciler.synced))]),
    ]
    return found


def _metric(name: str, words: str, kind: str, samples: Iterable[tuple[dict[str, str], int]]) -> Plain:
    return {
        "name": name,
        "help": words,
        "type": kind,
        "samples": [{"labels": labels, "value": value} for labels, value in samples],
    }
