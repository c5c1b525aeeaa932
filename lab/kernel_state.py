"""What a node has in its kernel, as text that is the same whenever the state is the same."""

from __future__ import annotations

import re

from lab.runner import Lab

State = dict[str, list[str]]
"""Lines by kind."""

COMMANDS = {
    "links": ("ip", "-details", "-oneline", "link", "show"),
    "addresses": ("ip", "-oneline", "address", "show"),
    "rules": ("ip", "rule", "show"),
    "rules (IPv6)": ("ip", "-6", "rule", "show"),
    "routes": ("ip", "-4", "route", "show", "table", "all"),
    "routes (IPv6)": ("ip", "-6", "route", "show", "table", "all"),
    "next hops": ("ip", "nexthop", "show"),
    "label routes": ("ip", "-f", "mpls", "route", "show"),
    "forwarding entries": ("bridge", "fdb", "show"),
    "neighbours": ("ip", "neighbour", "show"),
}

TIMERS = (
    "used updated expires valid_lft preferred_lft hello_timer hold_timer message_age_timer forward_delay_timer "
    "tcn_timer topology_change_timer gc_timer"
)
PASSING = re.compile(rf" (?:{'|'.join(TIMERS.split())})\s+\S+| probes \d+")
"""What changes while nothing happens."""

RULE_OF_VRFS = "1000:\tfrom all lookup [l3mdev-table]"
"""What the kernel itself makes with the first VRF of a network namespace, and never takes away."""

RESOLVED = re.compile(r" (?:REACHABLE|STALE|DELAY|PROBE|FAILED|INCOMPLETE)\b")
GIVEN = re.compile(r" (?:dst|permanent|static|extern_learn)\b")


def kernel_state(lab: Lab, node: str) -> State:
    """Everything that forwards packets in a node, by kind: sorted lines without what passes by itself."""
    return {kind: steady(kind, lab.run(node, *command).splitlines()) for kind, command in COMMANDS.items()}


def steady(kind: str, lines: list[str]) -> list[str]:
    """The lines of one kind, sorted, without timers and without what the kernel learned from the traffic.

    Neighbours that it resolved, and forwarding entries that a bridge saw at a port, come and go with the packets.
    """
    match kind:
        case "neighbours":
            lines = [line for line in lines if not RESOLVED.search(line)]
        case "forwarding entries":
            lines = [line for line in lines if GIVEN.search(line)]
        case "rules" | "rules (IPv6)":
            lines = [line for line in lines if line.strip() != RULE_OF_VRFS]
    return sorted(PASSING.sub("", line).strip() for line in lines)


def difference(before: State, after: State) -> list[str]:
    """The lines that were lost (-) and gained (+), with their kind; none when the states are the same."""
    found = []
    for kind, old in before.items():
        new = after[kind]
        found += [f"- {kind}: {line}" for line in old if line not in new]
        found += [f"+ {kind}: {line}" for line in new if line not in old]
    return found
