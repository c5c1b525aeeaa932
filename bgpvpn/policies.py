"""Policies as people write them, the same in TOML and in JSON: read as a whole, or refused with every error at once.

    name = "customer-in"
    default = "reject"                                 # of a route that no statement accepts or rejects

    [[statement]]
    name = "theirs"
    match.prefixes = ["10.0.0.0/8 le 24", "192.0.2.0/24"]
    match.as_path = { neighbour_as = [64500], max_length = 10 }
    set.local_pref = 200
    set.communities = { remove = ["64512:*"], add = ["64512:1"] }
    then = "accept"                                    # or "reject", or "next": go on with the next statement

What each option means stands in conf/bgpvpn.toml; what a policy does, in `speaker.policy`.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import attrs

from bgpvpn import rules
from speaker.policy import Among, AsPathMatch, Changes, Edit, Match, Network, Policy, PrefixRange, Statement
from speaker.values import Family, RouteTarget
from speaker.wire.community import ENCAPSULATION_NAMES, encapsulation

BUILT_IN = ("accept", "reject")
"""Policies that are always there."""

STATEMENTS_AT_MOST, VALUES_AT_MOST = 1000, 100_000
"""Of a policy, and of one list in it."""

PREPENDED_AT_MOST = 32

WELL_KNOWN = {
    "graceful-shutdown": 0xFFFF0000,  # RFC 8326
    "llgr-stale": 0xFFFF0006,  # RFC 9494
    "no-llgr": 0xFFFF0007,  # RFC 9494
    "blackhole": 0xFFFF029A,  # RFC 7999
    "no-export": 0xFFFFFF01,  # RFC 1997
    "no-advertise": 0xFFFFFF02,  # RFC 1997
    "no-export-subconfed": 0xFFFFFF03,  # RFC 1997
    "no-peer": 0xFFFFFF04,  # RFC 3765
}
"""Communities of the IANA registry "BGP Well-known Communities" that people write by name."""

Read = Callable[[Any, str], Any]
"""Takes a value and its place, returns what it means; what is wrong is noted, and then what is returned counts not."""


@attrs.frozen
class Fault:
    """One thing that is wrong: where, with which value, and what."""

    where: str  # "statement[0].match.prefixes[2]"
    value: Any
    reason: str

    def __str__(self) -> str:
        return f"{self.where}: {self.reason}"


class PolicyError(ValueError):
    """A policy cannot be so; `faults` has all that is wrong with it."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = tuple(faults)


def read(name: str, default: Any, statements: Any) -> Policy:
    """Return the policy that plain values say; PolicyError with everything that is wrong."""
    reading = _Reading()
    found = Policy(
        name=name,
        default=reading.by(rules.choice(*BUILT_IN), default, "default"),
        statements=tuple(reading.several(reading.statement, statements, "statement", STATEMENTS_AT_MOST)),
    )
    names = [each.name for each in found.statements if each is not None]
    for twice in sorted({each for each in names if names.count(each) > 1}):
        reading.fault("statement", twice, f"{twice!r} is the name of several statements")
    if reading.faults:
        raise PolicyError(reading.faults)
    return found


class _Reading:
    """One reading of one policy, collecting what is wrong."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def fault(self, where: str, value: Any, reason: str) -> None:
        self.faults.append(Fault(where, value, reason))

    def by(self, rule: rules.Rule, value: Any, where: str) -> Any:
        """Return what a rule makes of a value; None when it refuses."""
        try:
            return rule(value)
        except ValueError as error:
            self.fault(where, value, str(error))
            return None

    def several(self, read: Read, value: Any, where: str, most: int = VALUES_AT_MOST) -> list[Any]:
        """Read a list, at its places those of its values that are right."""
        if not isinstance(value, list | tuple):
            self.fault(where, value, f"takes a list, not {value!r}")
            return []
        if len(value) > most:
            self.fault(where, None, f"has {len(value)} entries, more than {most}")
            return []
        found = [read(each, f"{where}[{number}]") for number, each in enumerate(value)]
        return [each for each in found if each is not None]

    def table(self, readers: Mapping[str, Read], value: Any, where: str, wanted: Iterable[str] = ()) -> dict[str, Any]:
        """Read a table whose keys are known."""
        if not isinstance(value, Mapping):
            self.fault(where, value, f"takes a table, not {value!r}")
            return {}
        for key in value:
            if key not in readers:
                close = difflib.get_close_matches(str(key), readers, 1)
                hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(readers)}"
                self.fault(f"{where}.{key}", None, f"is not known; {hint}")
        for key in wanted:
            if key not in value:
                self.fault(f"{where}.{key}", None, "is wanted")
        return {key: reader(value[key], f"{where}.{key}") for key, reader in readers.items() if key in value}

    def all_of(self, rule: rules.Rule) -> Read:
        """Return what reads a list of at least one value by a rule."""

        def read(value: Any, where: str) -> list[Any]:
            if isinstance(value, list | tuple) and not value:
                self.fault(where, value, "takes at least one; leave it out to ask for nothing")
            return self.several(lambda each, place: self.by(rule, each, place), value, where)

        return read

    def any_of(self, rule: rules.Rule) -> Read:
        return lambda value, where: frozenset(self.all_of(rule)(value, where))

    def one(self, rule: rules.Rule) -> Read:
        return lambda value, where: self.by(rule, value, where)

    # The parts of a policy

    def statement(self, value: Any, where: str) -> Statement | None:
        number = where.removeprefix("statement[").removesuffix("]")
        before = len(self.faults)
        found = self.table(
            {
                "name": self.one(_statement_name),
                "match": self.match,
                "set": self.changes,
                "then": self.one(rules.choice("accept", "reject", "next")),
            },
            value,
            where,
            wanted=("then",),
        )
        if len(self.faults) > before:
            return None
        if found["then"] == "reject" and found.get("set", Changes()) != Changes():
            self.fault(f"{where}.set", None, "a rejected route is not changed")
        return Statement(
            name=found.get("name", number),
            match=found.get("match", Match()),
            changes=found.get("set", Changes()),
            then=found["then"],
        )

    def match(self, value: Any, where: str) -> Match | None:
        numbers = self.any_of(rules.number(0, 0xFFFFFFFF))
        as_path = {
            "contains": numbers,
            "originated_in": numbers,
            "neighbour_as": numbers,
            "max_length": self.one(rules.number(0, 65535)),
        }
        before = len(self.faults)
        found = self.table(
            {
                "families": self.any_of(Family.parse),
                "neighbours": lambda each, place: tuple(self.all_of(_neighbour)(each, place)),
                "prefixes": lambda each, place: tuple(self.all_of(prefix_range)(each, place)),
                "route_types": self.any_of(rules.number(1, 255)),
                "communities": self.among(community),
                "ext_communities": self.among(ext_community),
                "large_communities": self.among(large_community),
                "route_targets": self.among(route_target),
                "as_path": lambda each, place: self.table(as_path, each, place),
                "next_hop": lambda each, place: tuple(self.all_of(_network)(each, place)),
            },
            value,
            where,
        )
        if len(self.faults) > before:
            return None
        if "as_path" in found:
            found["as_path"] = AsPathMatch(**found["as_path"])
        if "next_hop" in found:
            found["next_hops"] = found.pop("next_hop")
        return Match(**found)

    def changes(self, value: Any, where: str) -> Changes | None:
        before = len(self.faults)
        found = self.table(
            {
                "local_pref": self.one(rules.number(0, 0xFFFFFFFF)),
                "med": self.one(rules.number(0, 0xFFFFFFFF)),
                "next_hop": self.one(_next_hop),
                "communities": self.edit(community),
                "large_communities": self.edit(large_community),
                "route_targets": self.edit(route_target, rewrites=True),
                "prepend": self.prepend,
            },
            value,
            where,
        )
        return Changes(**found) if len(self.faults) == before else None

    def prepend(self, value: Any, where: str) -> tuple[int | None, int]:
        readers = {"as": self.one(rules.as_number), "times": self.one(rules.number(1, PREPENDED_AT_MOST))}
        found = self.table(readers, value, where)
        return found.get("as"), found.get("times", 1)

    def among(self, rule: rules.Rule) -> Read:
        """Return what reads communities that may end in "*"; a rule returns octets, fewer than all with a "*"."""

        def read(value: Any, where: str) -> Among:
            found = self.all_of(rule)(value, where)
            return Among(
                frozenset(each for each in found if len(each) == OCTETS[rule]),
                tuple(each for each in found if len(each) < OCTETS[rule]),
            )

        return read

    def edit(self, rule: rules.Rule, *, rewrites: bool = False) -> Read:
        def whole(value: Any) -> bytes:
            octets: bytes = rule(value)
            if len(octets) < OCTETS[rule]:
                raise ValueError(f"{value!r} stands for many; one is wanted")
            return octets

        def mapping(value: Any, where: str) -> tuple[tuple[bytes, bytes], ...]:
            if not isinstance(value, Mapping):
                self.fault(where, value, f"takes a table, old = new, not {value!r}")
                return ()
            pairs = [(self.by(whole, old, where), self.by(whole, new, f"{where}.{old}")) for old, new in value.items()]
            return tuple(pairs)

        def replacement(value: Any, where: str) -> tuple[bytes, ...]:
            return tuple(self.several(self.one(whole), value, where))  # by none of them: removes all

        readers: dict[str, Read] = {
            "add": lambda value, where: tuple(self.all_of(whole)(value, where)),
            "remove": self.among(rule),
            "replace": replacement,
        }
        if rewrites:
            readers["rewrite"] = mapping

        def read(value: Any, where: str) -> Edit | None:
            before = len(self.faults)
            found = self.table(readers, value, where)
            if "replace" in found and len(found) > 1:
                self.fault(
                    f"{where}.replace", None, "what is there goes as a whole, and nothing else can be done with it"
                )
            return Edit(**found) if len(self.faults) == before else None

        return read


# Rules for single values


def _statement_name(value: Any) -> str:
    if not rules.name(value):
        raise ValueError("a name is not empty; leave it out, and the number of the statement is its name")
    return str(value)


def _network(value: Any) -> Network:
    return ipaddress.ip_network(rules.prefix(value))


def _neighbour(value: Any) -> Network | int:
    if isinstance(value, int):
        return int(rules.as_number(value))
    return _network(value)


def _next_hop(value: Any) -> bytes:
    return ipaddress.ip_address(rules.address(value)).packed


def prefix_range(value: Any) -> PrefixRange:
    """Prefixes, as "10.0.0.0/8 le 24", "0.0.0.0/0 ge 8 le 24", "192.0.2.0/24": only this one."""
    found = re.fullmatch(r"(\S+)(?: ge ([0-9]{1,3}))?(?: le ([0-9]{1,3}))?", rules.text(value))
    if found is None or "/" not in found[1]:
        raise ValueError(f"takes a prefix, 'PREFIX le LENGTH', or 'PREFIX ge LENGTH le LENGTH', not {value!r}")
    network = _network(found[1])
    if found[2] is None and found[3] is None:
        return PrefixRange(network, network.prefixlen, network.prefixlen)
    least = network.prefixlen if found[2] is None else int(found[2])
    most = network.max_prefixlen if found[3] is None else int(found[3])
    if not network.prefixlen <= least <= most <= network.max_prefixlen:
        raise ValueError(f"{value!r} has lengths that no prefix in {network} has")
    return PrefixRange(network, least, most)


def community(value: Any) -> bytes:
    """A community (RFC 1997): "64512:1", "64512:*", or a well-known one by its name."""
    text = rules.text(value)
    if text in WELL_KNOWN:
        return WELL_KNOWN[text].to_bytes(4, "big")
    found = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5}|\*)", text)
    numbers = [int(each) for each in found.groups() if each != "*"] if found else [1 << 16]
    if max(numbers) > 0xFFFF:
        names = ", ".join(WELL_KNOWN)
        raise ValueError(
            f"takes two numbers up to 65535, as 64512:1, 64512:* for many, or one of {names}, not {value!r}"
        )
    return struct.pack(f"!{len(numbers)}H", *numbers)


def large_community(value: Any) -> bytes:
    """A large community (RFC 8092): "64512:1:2", "64512:1:*", "64512:*"."""
    found = re.fullmatch(r"([0-9]{1,10})(?::([0-9]{1,10}))?(?::([0-9]{1,10}))?(:\*)?", rules.text(value))
    numbers = [int(each) for each in found.groups()[:3] if each is not None] if found else []
    if found is None or (len(numbers) == 3) == (found[4] is not None) or max(numbers) > 0xFFFFFFFF:
        raise ValueError(f"takes three numbers up to 4294967295, as 64512:1:2, or 64512:1:* for many, not {value!r}")
    return struct.pack(f"!{len(numbers)}I", *numbers)


def route_target(value: Any) -> bytes:
    """A route target: "64512:1", or "64512:*" for many."""
    text = rules.text(value)
    if text.endswith(":*"):
        wire = RouteTarget.parse(text.removesuffix("*") + "0").wire
        return wire[:4] if wire[0] == 0 else wire[:6]
    return RouteTarget.parse(text).wire


def ext_community(value: Any) -> bytes:
    """An extended community: "target:64512:1", "origin:64512:1", "encapsulation:vxlan", "0x" and 16 digits."""
    kind, _, rest = rules.text(value).partition(":")
    if kind == "target":
        return route_target(rest)
    if kind == "origin":
        wire = route_target(rest)
        return bytes((wire[0], 3)) + wire[2:]
    numbers = {name: number for number, name in ENCAPSULATION_NAMES.items()}
    if kind == "encapsulation" and rest in numbers:
        return encapsulation(numbers[rest])
    if re.fullmatch(r"0x[0-9a-fA-F]{16}", value):
        return bytes.fromhex(value[2:])
    raise ValueError(f"takes target:RT, origin:RT, encapsulation:NAME, or 0x and 16 hex digits, not {value!r}")


OCTETS: dict[rules.Rule, int] = {community: 4, large_community: 12, route_target: 8, ext_community: 8}
"""Of a whole one; with fewer, a text stands for many."""
