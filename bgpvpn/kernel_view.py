"""What the dataplane holds and what it refused, as plain values for the looking glass."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bgpvpn.dataplane.words import row_text
from bgpvpn.reconcile import Reconciler
from bgpvpn.views import Plain

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
            "repairs": reconciler.repairs.total,
        },
        "messages": dict(messages),
        "synced": reconciler.synced,
        "unknown": reconciler.unknown_reason if reconciler.unknown_since is not None else "",
    }
