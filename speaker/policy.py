"""Import and export policy: what becomes of a route on its way in from a neighbour, or out to one.

A policy is a list of statements, looked at in order, and what is done with a route that none of them decides:

    statement   match: conditions, all of which must hold; none of them: every route
                changes: what the route is to say instead
                then: "accept", "reject", or "next", which goes on with the route as it was changed

It is compiled once for a neighbour and a family, so that a route costs as little as can be:

    neighbours, families      decided when it is compiled: a statement that can never hold is not there
    attributes                decided once for each attribute block, and remembered
    prefixes, route_types     decided for each route, and only where the attributes have not settled it

                attributes --remembered--> outcome: attributes as they shall be, or rejected
                                              or a Branch: --key holds--> outcome
                                                           --or not-----> outcome

A prefix is what a route of the families ipv4, ipv6, vpnv4 and vpnv6 leads to, an EVPN route of type 5 as well, and
one of type 2 leads to its address, if it has one. A condition about prefixes holds for no other route.
"""

from __future__ import annotations

import ipaddress
import operator
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

import attrs

from speaker.path import AS_SEQUENCE, AS_SET, AsPath, Attributes, Path
from speaker.terms import Decide, accept, reject
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.community import is_route_target

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
OnAttributes = Callable[[Attributes], bool]
OnKey = Callable[[bytes], bool]
Then = Literal["accept", "reject", "next"]
Default = Literal["accept", "reject"]

REMEMBERED_AT_MOST = 16384
"""Outcomes that one compiled policy remembers of a family; when there are more all are worked out anew."""


@attrs.frozen(kw_only=True)
class Facts:
    """The neighbour that a policy is for."""

    address: str
    remote_as: int
    local_as: int  # ours towards it


@attrs.frozen
class PrefixRange:
    """The prefixes within one, of these lengths."""

    network: Network
    least: int
    most: int


@attrs.frozen
class Among:
    """Some communities of one kind, in octets: standard 4, extended 8, large 12."""

    exact: frozenset[bytes] = frozenset()
    leading: tuple[bytes, ...] = ()  # every one that begins so

    def __contains__(self, community: bytes) -> bool:
        return community in self.exact or community.startswith(self.leading)


@attrs.frozen(kw_only=True)
class AsPathMatch:
    """What an AS_PATH is like; all that is given must hold."""

    contains: frozenset[int] | None = None  # one of these, anywhere
    originated_in: frozenset[int] | None = None  # the last AS is one of these; of a set at the end: any of it
    neighbour_as: frozenset[int] | None = None  # the first is
    max_length: int | None = None  # counted as the decision does (RFC 4271 section 9.1.2.2 a)

    def holds(self, attributes: Attributes) -> bool:
        """Tell whether a route has such a path."""
        path = attributes.as_path
        if self.contains is not None and not any(self.contains.intersection(numbers) for _, numbers in path):
            return False
        if self.originated_in is not None and self.originated_in.isdisjoint(_last(path)):
            return False
        if self.neighbour_as is not None and attributes.neighbour_as() not in self.neighbour_as:
            return False
        return self.max_length is None or attributes.as_path_length() <= self.max_length


def _last(path: AsPath) -> tuple[int, ...]:
    if not path:
        return ()
    kind, numbers = path[-1]
    return numbers if kind == AS_SET else numbers[-1:]


@attrs.frozen(kw_only=True, cache_hash=True)
class Match:
    """The conditions of a statement; None: is not asked."""

    families: frozenset[Family] | None = None
    neighbours: tuple[Network | int, ...] | None = None  # its address is in one, or its AS is one
    prefixes: tuple[PrefixRange, ...] | None = None
    route_types: frozenset[int] | None = None  # of EVPN (RFC 7432 section 7)
    communities: Among | None = None  # has one of them
    ext_communities: Among | None = None
    large_communities: Among | None = None
    route_targets: Among | None = None
    as_path: AsPathMatch | None = None
    next_hops: tuple[Network, ...] | None = None


@attrs.frozen(kw_only=True)
class Edit:
    """What becomes of the communities of one kind: some replaced by others, some removed, some added, in this order."""

    rewrite: tuple[tuple[bytes, bytes], ...] = ()
    replace: tuple[bytes, ...] | None = None  # by these, all of them
    remove: Among = attrs.field(factory=Among)
    add: tuple[bytes, ...] = ()

    def of(self, communities: Iterable[bytes]) -> list[bytes]:
        """Return the communities as they shall be, each once."""
        new = dict(self.rewrite)
        kept = [new.get(each, each) for each in communities] if self.replace is None else self.replace
        return list(dict.fromkeys([*(each for each in kept if each not in self.remove), *self.add]))


@attrs.frozen(kw_only=True)
class Changes:
    """What a route is to say instead; None: stays."""

    local_pref: int | None = None
    med: int | None = None
    next_hop: bytes | None = None  # 4 or 16 octets
    communities: Edit | None = None
    large_communities: Edit | None = None
    route_targets: Edit | None = None
    prepend: tuple[int | None, int] | None = None  # this AS, None: ours towards the neighbour; so many times


@attrs.frozen(kw_only=True, cache_hash=True)
class Statement:
    """Conditions, changes, and a verdict."""

    name: str
    match: Match = Match()
    changes: Changes = Changes()
    then: Then


@attrs.frozen(kw_only=True, cache_hash=True)
class Policy:
    """Statements, and what becomes of a route that none of them accepts or rejects."""

    name: str
    default: Default = "reject"
    statements: tuple[Statement, ...] = ()


ACCEPT = Policy(name="accept", default="accept")
REJECT = Policy(name="reject", default="reject")


def specialised(policy: Policy, facts: Facts) -> Policy:
    """Return the policy as it is for one neighbour: equal for neighbours that it treats the same."""
    statements = [
        _specialised(each, facts)
        for each in policy.statements
        if each.match.neighbours is None or _is_one(each.match.neighbours, facts)
    ]
    same = len(statements) == len(policy.statements) and all(map(operator.is_, statements, policy.statements))
    return policy if same else attrs.evolve(policy, statements=tuple(statements))


def _specialised(statement: Statement, facts: Facts) -> Statement:
    match, prepend = statement.match, statement.changes.prepend
    if match.neighbours is not None:
        statement = attrs.evolve(statement, match=attrs.evolve(match, neighbours=None))
    if prepend is not None and prepend[0] is None:
        changes = attrs.evolve(statement.changes, prepend=(facts.local_as, prepend[1]))
        statement = attrs.evolve(statement, changes=changes)
    return statement


def _is_one(neighbours: Iterable[Network | int], facts: Facts) -> bool:
    address = ipaddress.ip_address(facts.address)
    return any(facts.remote_as == each if isinstance(each, int) else address in each for each in neighbours)


def compiled(policies: Mapping[Family, Policy], interner: Interner) -> Decide:
    """Return the decision of policies that are specialised already, by family; a family without one is rejected.

    The changed attributes are the interner's, so equal results are one object.
    """
    if not any(policy.statements for policy in policies.values()):
        defaults = {policy.default for policy in policies.values()}
        if len(defaults) < 2:
            return accept if defaults == {"accept"} else reject
    programs = {family: _Program(policy, family, interner) for family, policy in policies.items()}

    def decide(family: Family, key: bytes, path: Path) -> Path | None:
        """Decide on one route (hot: two look-ups when the attributes settle it)."""
        program = programs.get(family)
        if program is None:
            return None
        attributes = path.attributes
        outcome = program.outcomes.get(attributes) or program.first(attributes)
        while outcome.__class__ is _Branch:
            outcome = (
                (outcome.yes or outcome.expand(True)) if outcome.test(key) else outcome.no or outcome.expand(False)
            )
        if outcome is attributes:
            return path
        return None if outcome is _REJECTED else outcome.path(path.extra)

    return decide


_REJECTED = object()


class _Branch:
    """An outcome that depends on the NLRI key; what comes after it is worked out when it is wanted."""

    __slots__ = ("attributes", "index", "no", "program", "test", "yes")

    def __init__(self, program: _Program, index: int, attributes: Attributes, test: OnKey) -> None:
        self.program = program
        self.index = index
        self.attributes = attributes
        self.test = test
        self.yes: Any = None
        self.no: Any = None

    def expand(self, holds: bool) -> Any:
        """Return the outcome behind one of the two ways, and remember it."""
        if holds:
            self.yes = self.program.after(self.index, self.attributes)
            return self.yes
        self.no = self.program.from_(self.index + 1, self.attributes)
        return self.no


@attrs.frozen
class _Step:
    """A statement that can hold in a family: its conditions on attributes, that on the key, and the rest."""

    holds: tuple[OnAttributes, ...]
    test: OnKey | None
    changes: Changes
    then: Then


class _Program:
    """A policy in one family."""

    def __init__(self, policy: Policy, family: Family, interner: Interner) -> None:
        self.outcomes: dict[Attributes, Any] = {}
        self._between: dict[tuple[int, Attributes], Any] = {}  # the same, from a later statement on
        self._accepts = policy.default == "accept"
        self._interner = interner
        self._steps: list[_Step] = []
        for statement in policy.statements:
            conditions = _Conditions.of(statement.match, family)
            if conditions is not None:
                test = _all_of(list(conditions.on_key.values()))
                holds = tuple(conditions.on_attributes.values())
                self._steps.append(_Step(holds, test, statement.changes, statement.then))

    def first(self, attributes: Attributes) -> Any:
        """Work out what becomes of routes with these attributes."""
        self._bound()
        outcome = self.outcomes[attributes] = self._from(0, attributes)
        return outcome

    def from_(self, index: int, attributes: Attributes) -> Any:
        """Return the outcome from a statement on."""
        at = (index, attributes)
        found = self._between.get(at)
        if found is None:
            self._bound()
            found = self._between[at] = self._from(index, attributes)
        return found

    def _bound(self) -> None:
        if len(self.outcomes) + len(self._between) >= REMEMBERED_AT_MOST:
            self.outcomes.clear()
            self._between.clear()

    def _from(self, index: int, attributes: Attributes) -> Any:
        for number in range(index, len(self._steps)):
            step = self._steps[number]
            if all(holds(attributes) for holds in step.holds):
                if step.test is not None:
                    return _Branch(self, number, attributes, step.test)
                return self.after(number, attributes)
        return attributes if self._accepts else _REJECTED

    def after(self, index: int, attributes: Attributes) -> Any:
        """Return the outcome when the conditions of a statement hold."""
        step = self._steps[index]
        if step.then == "reject":
            return _REJECTED
        attributes = changed(attributes, step.changes, self._interner)
        return attributes if step.then == "accept" else self.from_(index + 1, attributes)


# Conditions


@attrs.frozen
class _Conditions:
    """What is left of a match in a family, by the names of the conditions."""

    on_attributes: dict[str, OnAttributes]
    on_key: dict[str, OnKey]

    @classmethod
    def of(cls, match: Match, family: Family) -> _Conditions | None:
        """Return the conditions; None if they can never hold in the family."""
        if match.families is not None and family not in match.families:
            return None
        found = cls({}, {})
        if match.route_types is not None:
            if family is not Family.EVPN:
                return None
            found.on_key["route_types"] = _of_type(match.route_types)
        if match.prefixes is not None:
            test = _within(match.prefixes, family)
            if test is False:
                return None
            if test is not True:
                found.on_key["prefixes"] = test
        for name in ("communities", "ext_communities", "large_communities", "route_targets"):
            among: Among | None = getattr(match, name)
            if among is not None:
                found.on_attributes[name] = _has(among, name)
        if match.as_path is not None:
            found.on_attributes["as_path"] = match.as_path.holds
        if match.next_hops is not None:
            found.on_attributes["next_hop"] = _leads_into(match.next_hops)
        return found


def _all_of(tests: list[OnKey]) -> OnKey | None:
    if len(tests) < 2:
        return tests[0] if tests else None
    return lambda key: all(test(key) for test in tests)


def _of_type(types: frozenset[int]) -> OnKey:
    return lambda key: key[0] in types


def _has(among: Among, name: str) -> OnAttributes:
    return lambda attributes: any(each in among for each in octets(attributes, name))


def _leads_into(networks: tuple[Network, ...]) -> OnAttributes:
    def holds(attributes: Attributes) -> bool:
        if not attributes.next_hop:
            return False
        address = ipaddress.ip_address(attributes.next_hop)
        return any(address in network for network in networks)

    return holds


def _within(prefixes: tuple[PrefixRange, ...], family: Family) -> OnKey | bool:
    """Return the condition on the key of a family; False, True if it holds for none of its keys, for all."""
    match family:
        case Family.EVPN:
            tests = {size: _Ranges(prefixes, size).test(0) for size in (4, 16)}

            def test(key: bytes) -> bool:
                where = evpn_prefix(key)
                return where is not None and tests[where[0]](where[1])

            return test
        case Family.IPV4 | Family.VPNV4 | Family.IPV6 | Family.VPNV6:
            size = 4 if family.afi == 1 else 16
            ranges = _Ranges(prefixes, size)
            return ranges.everything or (bool(ranges) and ranges.test(0 if family.safi == 1 else 8))
        case _:
            return False


def evpn_prefix(key: bytes) -> tuple[int, bytes] | None:
    """Return what an EVPN route leads to, the size of its addresses and a prefix; None: to no prefix."""
    if key[0] == 5:
        address, length = key[14:], key[13]
    elif key[0] == 2 and len(key) > 21:
        address, length = key[21:], 8 * len(key) - 8 * 21
    else:
        return None
    return len(address), address[: (length + 7) // 8] + bytes((length,))


class _Ranges:
    """Ranges of one address size, found by what a prefix begins with."""

    def __init__(self, prefixes: Iterable[PrefixRange], size: int) -> None:
        self.exact: set[bytes] = set()  # single prefixes, as a key has them
        self.wide: list[tuple[int, int, int, dict[int, list[tuple[int, int]]]]] = []  # see `test`, shortest first
        self.everything = False  # every prefix of this size is in one
        by_length: dict[int, dict[int, list[tuple[int, int]]]] = {}
        for each in prefixes:
            packed, length = each.network.network_address.packed, each.network.prefixlen
            if len(packed) != size:
                continue
            if each.least == each.most == length:
                self.exact.add(packed[: (length + 7) // 8] + bytes((length,)))
                continue
            self.everything |= (length, each.least, each.most) == (0, 0, 8 * size)
            beginning = int.from_bytes(packed, "big") >> 8 * size - length
            by_length.setdefault(length, {}).setdefault(beginning, []).append((each.least, each.most))
        for length, table in sorted(by_length.items()):
            octets = (length + 7) // 8
            self.wide.append((length, octets, 8 * octets - length, table))

    def __bool__(self) -> bool:
        return bool(self.exact or self.wide)

    def test(self, offset: int) -> OnKey:
        """Return the condition on keys whose prefix begins at an offset (hot)."""
        exact, wide = (
            self.exact,
            [(length, offset + octets, shift, table) for length, octets, shift, table in self.wide],
        )
        number = int.from_bytes

        def is_exact(key: bytes) -> bool:
            return key[offset:] in exact

        def is_within(key: bytes) -> bool:
            length = key[-1]
            for shortest, end, shift, table in wide:
                if shortest > length:
                    break
                for least, most in table.get(number(key[offset:end], "big") >> shift, ()):
                    if least <= length <= most:
                        return True
            return False

        if not wide:
            return is_exact
        return (lambda key: key[offset:] in exact or is_within(key)) if exact else is_within


# Changes

_LARGE = struct.Struct("!III")
_VALUES = tuple(
    field.name
    for field in attrs.fields(Attributes)
    if field.name not in ("route_targets", "importers", "imports_version", "paths", "discarded")
)


def octets(attributes: Attributes, kind: str) -> list[bytes]:
    """Return the communities of a kind (a field of Match), each in its octets."""
    match kind:
        case "communities":
            return [each.to_bytes(4, "big") for each in attributes.communities]
        case "large_communities":
            return [_LARGE.pack(*each) for each in attributes.large_communities]
        case "route_targets":
            return [each for each in attributes.ext_communities if is_route_target(each)]
        case _:
            return list(attributes.ext_communities)


def changed(attributes: Attributes, changes: Changes, interner: Interner) -> Attributes:
    """Return the attributes with some changes; the same object if they make no difference."""
    new: dict[str, Any] = {}
    if changes.local_pref is not None:
        new["local_pref"] = changes.local_pref
    if changes.med is not None:
        new["med"] = changes.med
    if changes.next_hop is not None:
        new["next_hop"] = changes.next_hop
    if changes.communities is not None:
        edited = changes.communities.of(octets(attributes, "communities"))
        new["communities"] = tuple(int.from_bytes(each, "big") for each in edited)
    if changes.large_communities is not None:
        edited = changes.large_communities.of(octets(attributes, "large_communities"))
        new["large_communities"] = tuple(_LARGE.unpack(each) for each in edited)
    if changes.route_targets is not None:
        others = [each for each in attributes.ext_communities if not is_route_target(each)]
        targets = changes.route_targets.of(octets(attributes, "route_targets"))
        if targets != octets(attributes, "route_targets"):
            new["ext_communities"] = (*targets, *others)
    if changes.prepend is not None:
        asn, times = changes.prepend
        assert asn is not None, "the policy is specialised"
        new["as_path"] = prepended(attributes.as_path, asn, times)
    if all(getattr(attributes, name) == value for name, value in new.items()):
        return attributes
    fields = {name: getattr(attributes, name) for name in _VALUES} | new
    targets_of = frozenset(filter(is_route_target, fields["ext_communities"]))
    return interner.made(tuple(fields.items()), lambda: Attributes(**fields, route_targets=targets_of))


def prepended(path: AsPath, asn: int, times: int) -> AsPath:
    """Return the path with an AS in front, so many times (RFC 4271 section 5.1.2)."""
    numbers = (asn,) * times
    if path and path[0][0] == AS_SEQUENCE and len(path[0][1]) + times <= 255:
        return ((AS_SEQUENCE, numbers + path[0][1]), *path[1:])
    return ((AS_SEQUENCE, numbers), *path)


# What it did, for people


@attrs.frozen
class Seen:
    """One statement that a route came to."""

    statement: str
    lacking: str  # the first condition that does not hold; "": all hold
    before: Attributes
    after: Attributes  # the same object where nothing is changed
    then: Then


@attrs.frozen
class Explanation:
    """What a policy did with a route, statement by statement."""

    seen: tuple[Seen, ...]
    decided_by: str  # a statement; "": none, so the default
    path: Path | None  # None: rejected


def explain(policy: Policy, facts: Facts, family: Family, key: bytes, path: Path, interner: Interner) -> Explanation:
    """Do what the compiled policy does, and say it: slowly, and remembering nothing."""
    attributes, seen = path.attributes, []
    for original in policy.statements:
        kept = specialised(attrs.evolve(policy, statements=(original,)), facts).statements
        before = attributes
        lacking = _lacking(original.match, family, key, attributes) if kept else "neighbours"
        if not lacking and original.then != "reject":
            attributes = changed(attributes, kept[0].changes, interner)
        seen.append(Seen(original.name, lacking, before, attributes, original.then))
        if not lacking and original.then != "next":
            return Explanation(
                tuple(seen), original.name, attributes.path(path.extra) if original.then == "accept" else None
            )
    return Explanation(tuple(seen), "", attributes.path(path.extra) if policy.default == "accept" else None)


def _lacking(match: Match, family: Family, key: bytes, attributes: Attributes) -> str:
    """Return the name of the first condition that does not hold; "": all do."""
    if match.families is not None and family not in match.families:
        return "families"
    conditions = _Conditions.of(match, family)
    if conditions is None:
        return "prefixes" if match.route_types is None else "route_types"
    for name, test in conditions.on_key.items():
        if not test(key):
            return name
    return next((name for name, holds in conditions.on_attributes.items() if not holds(attributes)), "")
