"""What the dataplane holds and what it refused, as plain values for the looking glass."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from bgpvpn.reconcile import Reconciler
from speaker.values import address_text, prefix_text

Plain = dict[str, Any]

REFUSED_SHOWN = 1000


def kernel(reconciler: Reconciler, foreign: Iterable[str], messages: Mapping[str, int]) -> Plain:
    """Return the objects with their states, the refused rows, what others put among ours, and counters."""
    trials = list(reconciler.refused.trials.items())
    return {
        "objects": [
            {"object": f"{kind} {name}", "state": status.state, "reason": status.reason}
            for (kind, name), status in sorted(reconciler.status.rows.items())
        ],
        "refused": [
            {"row": row_text(row), "reason": trial.refusal.reason, "waits": trial.refusal.waits}
            for row, trial in trials[:REFUSED_SHOWN]
        ],
        "foreign": list(foreign),
        "counters": {
            "routes": sum(map(len, reconciler.actual.routes.values())),
            **{kind: len(rows) for kind, rows in reconciler.actual.rows.items()},
            "refused": len(trials),
            "repairs": reconciler.repairs,
        },
        "messages": dict(messages),
        "synced": reconciler.synced,
        "unknown": reconciler.unknown_reason if reconciler.unknown_since is not None else "",
    }


def row_text(row: Hashable) -> str:
    """Return the name of a row, or of a route, as people read it."""
    match row:
        case ("route", (int(table), (4 | 6) as afi), bytes(prefix)):
            return f"route {prefix_text(prefix, afi)} table {table}"
        case (str(kind), (str(device), bytes(octets))):
            return f"{kind} {octets.hex(':') if len(octets) == 6 else address_text(octets)} dev {device}"
        case (str(kind), (int(table), int(afi))):
            return f"{kind} IPv{afi} default of table {table}"
        case (str(kind), key):
            return f"{kind} {key}"
    return str(row)
