"""Path attributes: one table says how each is read, written, and what follows when it is malformed.

    octets --decode--> Attributes (decoded once per block, RFC 7606 applied) --block--> octets

The reaction to a malformed attribute is in the class of what its reader raises (RFC 7606 section 7): `TreatAsWithdraw`
takes the routes of the UPDATE away, `AttributeDiscard` drops the attribute alone, `SessionReset` is left for what
RFC 4271 section 6.3 still asks it for.  MP_REACH_NLRI and MP_UNREACH_NLRI are not here: they carry routes and belong
to `speaker.wire.update`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from speaker.errors import OCTETS_AT_MOST, AttributeDiscard, SessionReset, TreatAsWithdraw
from speaker.path import AsPath, Attributes
from speaker.wire import as_path as paths
from speaker.wire.community import is_route_target
from speaker.wire.framing import Tolerated
from speaker.wire.opaque import ATTR_SET, CARRIED

OPTIONAL, TRANSITIVE, PARTIAL, EXTENDED = 0x80, 0x40, 0x20, 0x10
AS_TRANS = paths.AS_TRANS

ORIGIN, AS_PATH, NEXT_HOP, MULTI_EXIT_DISC, LOCAL_PREF, ATOMIC_AGGREGATE, AGGREGATOR = 1, 2, 3, 4, 5, 6, 7
COMMUNITIES, ORIGINATOR_ID, CLUSTER_LIST, MP_REACH, MP_UNREACH, EXT_COMMUNITIES = 8, 9, 10, 14, 15, 16
AS4_PATH, AS4_AGGREGATOR, PMSI_TUNNEL, LARGE_COMMUNITIES, ONLY_TO_CUSTOMER = 17, 18, 22, 32, 35

MADE_AT_MOST = 65536
"""Attributes of our own that are held; when there are more all are forgotten, which costs sharing and nothing else."""

HELD_OCTETS_AT_MOST = 64 << 20
"""The same for what came by sessions of one kind, by what it takes in memory, about."""

BLOCK_OCTETS, DECODED_TIMES, PATH_OCTETS = 1024, 16, 192
"""What is taken by a block that is held, by each octet of it, and by a path."""


@attrs.frozen
class Context:
    """What the reading of an attribute depends on: the session it came by."""

    ibgp: bool
    as4: bool  # AS numbers have 4 octets (RFC 6793)


Fields = dict[str, Any]
Read = Callable[[bytes, Context], Any]


def _exactly(size: int, value: bytes, name: str) -> None:
    if len(value) != size:
        raise TreatAsWithdraw(f"{name} has {len(value)} octets, not {size}")


def _multiple(size: int, value: bytes, name: str) -> None:
    if not value or len(value) % size:
        raise TreatAsWithdraw(f"{name} has {len(value)} octets, not a multiple of {size}")


def _origin(value: bytes, context: Context) -> int:
    _exactly(1, value, "ORIGIN")
    if value[0] > 2:
        raise TreatAsWithdraw(f"ORIGIN is {value[0]}, not 0, 1 or 2")
    return value[0]


def _as_path(value: bytes, context: Context) -> AsPath:
    path = paths.read(value, 4 if context.as4 else 2, "AS_PATH")
    if not context.ibgp and paths.confederate(path):
        raise TreatAsWithdraw("AS_PATH from an external peer has a segment of a confederation (RFC 5065 section 4)")
    return path


def _next_hop(value: bytes, context: Context) -> bytes:
    _exactly(4, value, "NEXT_HOP")
    return value


def _med(value: bytes, context: Context) -> int:
    _exactly(4, value, "MULTI_EXIT_DISC")
    return int.from_bytes(value, "big")


def _local_pref(value: bytes, context: Context) -> int:
    _exactly(4, value, "LOCAL_PREF")
    return int.from_bytes(value, "big")


def _atomic_aggregate(value: bytes, context: Context) -> bool:
    if value:
        raise AttributeDiscard(f"ATOMIC_AGGREGATE has {len(value)} octets, not 0")
    return True


def _aggregator(value: bytes, context: Context) -> tuple[int, bytes]:
    size = 4 if context.as4 else 2
    if len(value) != size + 4:
        raise AttributeDiscard(f"AGGREGATOR has {len(value)} octets, not {size + 4}")
    return _aggregating(value, size, "AGGREGATOR")


def _aggregating(value: bytes, size: int, name: str) -> tuple[int, bytes]:
    asn = int.from_bytes(value[:size], "big")
    if asn == 0:
        raise AttributeDiscard(f"{name} holds AS 0 (RFC 7607)")
    return asn, value[size:]


def _communities(value: bytes, context: Context) -> tuple[int, ...]:
    _multiple(4, value, "COMMUNITIES")
    return struct.unpack(f"!{len(value) // 4}I", value)


def _originator_id(value: bytes, context: Context) -> bytes:
    _exactly(4, value, "ORIGINATOR_ID")
    return value


def _cluster_list(value: bytes, context: Context) -> tuple[bytes, ...]:
    _multiple(4, value, "CLUSTER_LIST")
    return tuple(value[at : at + 4] for at in range(0, len(value), 4))


def _ext_communities(value: bytes, context: Context) -> tuple[bytes, ...]:
    _multiple(8, value, "EXTENDED COMMUNITIES")
    return tuple(value[at : at + 8] for at in range(0, len(value), 8))


def _as4_path(value: bytes, context: Context) -> AsPath:
    try:
        return paths.without_confederation(paths.read(value, 4, "AS4_PATH"))
    except TreatAsWithdraw as error:
        raise AttributeDiscard(error.reason) from None


def _as4_aggregator(value: bytes, context: Context) -> tuple[int, bytes]:
    if len(value) != 8:
        raise AttributeDiscard(f"AS4_AGGREGATOR has {len(value)} octets, not 8")
    return _aggregating(value, 4, "AS4_AGGREGATOR")


def _pmsi(value: bytes, context: Context) -> tuple[int, int, bytes, bytes]:
    if len(value) < 5:
        raise TreatAsWithdraw(f"PMSI_TUNNEL has {len(value)} octets, fewer than 5 (RFC 6514 section 5)")
    if value[1] == 6 and len(value) not in (9, 21):  # ingress replication: the address of the PE
        raise TreatAsWithdraw(f"PMSI_TUNNEL for ingress replication has {len(value)} octets, not 9 or 21")
    return value[0], value[1], value[2:5], value[5:]


def _large_communities(value: bytes, context: Context) -> tuple[tuple[int, int, int], ...]:
    _multiple(12, value, "LARGE_COMMUNITY")
    return tuple(dict.fromkeys(struct.iter_unpack("!III", value)))  # repeated ones are dropped (RFC 8092 section 3)


def _only_to_customer(value: bytes, context: Context) -> int:
    _exactly(4, value, "ONLY_TO_CUSTOMER")
    return int.from_bytes(value, "big")


def _write_pmsi(pmsi: tuple[int, int, bytes, bytes]) -> bytes:
    flags, kind, label, tunnel = pmsi
    return bytes((flags, kind)) + label + tunnel


def _never(context: Context) -> str:
    return ""


def _external(context: Context) -> str:
    return "" if context.ibgp else "from an external peer"  # RFC 7606 sections 7.5, 7.9 and 7.10


def _wide(context: Context) -> str:
    return "from a peer with 4-octet AS numbers (RFC 6793 section 4.1)" if context.as4 else ""


@attrs.frozen
class Kind:
    """One row of the table."""

    code: int
    name: str
    flags: int  # OPTIONAL and TRANSITIVE as the RFC has them
    field: str  # of speaker.path.Attributes
    read: Read
    write: Callable[[Any], bytes]  # from the field's value, 4-octet AS numbers
    unwanted: Callable[[Context], str] = _never  # why it is discarded, whatever it is, from such a peer; empty if not


_U32 = struct.Struct("!I").pack
_KINDS = (
    Kind(ORIGIN, "ORIGIN", TRANSITIVE, "origin", _origin, lambda value: bytes((value,))),
    Kind(AS_PATH, "AS_PATH", TRANSITIVE, "as_path", _as_path, paths.write),
    Kind(NEXT_HOP, "NEXT_HOP", TRANSITIVE, "next_hop", _next_hop, bytes),
    Kind(MULTI_EXIT_DISC, "MULTI_EXIT_DISC", OPTIONAL, "med", _med, _U32),
    Kind(LOCAL_PREF, "LOCAL_PREF", TRANSITIVE, "local_pref", _local_pref, _U32, _external),
    Kind(ATOMIC_AGGREGATE, "ATOMIC_AGGREGATE", TRANSITIVE, "atomic_aggregate", _atomic_aggregate, lambda value: b""),
    Kind(AGGREGATOR, "AGGREGATOR", OPTIONAL | TRANSITIVE, "aggregator", _aggregator, lambda v: _U32(v[0]) + v[1]),
    Kind(
        COMMUNITIES,
        "COMMUNITIES",
        OPTIONAL | TRANSITIVE,
        "communities",
        _communities,
        lambda value: b"".join(map(_U32, value)),
    ),
    Kind(ORIGINATOR_ID, "ORIGINATOR_ID", OPTIONAL, "originator_id", _originator_id, bytes, _external),
    Kind(CLUSTER_LIST, "CLUSTER_LIST", OPTIONAL, "cluster_list", _cluster_list, b"".join, _external),
    Kind(EXT_COMMUNITIES, "EXTENDED COMMUNITIES", OPTIONAL | TRANSITIVE, "ext_communities", _ext_communities, b"".join),
    Kind(AS4_PATH, "AS4_PATH", OPTIONAL | TRANSITIVE, "as4_path", _as4_path, paths.write, _wide),
    Kind(AS4_AGGREGATOR, "AS4_AGGREGATOR", OPTIONAL | TRANSITIVE, "as4_aggregator", _as4_aggregator, bytes, _wide),
    Kind(PMSI_TUNNEL, "PMSI_TUNNEL", OPTIONAL | TRANSITIVE, "pmsi", _pmsi, _write_pmsi),
    Kind(
        LARGE_COMMUNITIES,
        "LARGE_COMMUNITY",
        OPTIONAL | TRANSITIVE,
        "large_communities",
        _large_communities,
        lambda value: b"".join(struct.pack("!III", *each) for each in value),
    ),
    Kind(ONLY_TO_CUSTOMER, "ONLY_TO_CUSTOMER", OPTIONAL | TRANSITIVE, "only_to_customer", _only_to_customer, _U32),
)
TABLE = {kind.code: kind for kind in _KINDS}
"""By attribute code.  RFC 4271 (1 to 7), 1997 (8), 4456 (9, 10), 4360 (16), 6793 (17, 18), 6514 (22), 8092 (32),
9234 (35).
"""

_WRITTEN = tuple(
    (kind.code, kind.flags, kind.field, kind.write)
    for kind in _KINDS
    if kind.code not in (ORIGIN, AS_PATH, NEXT_HOP, AS4_PATH, AS4_AGGREGATOR, AGGREGATOR)
)


class Blocks:
    """The attribute blocks that came by sessions of one kind, each decoded once, with the paths made of them.

    All are forgotten when they take too much: a peer that never says the same twice, in attributes or in labels, costs
    bounded memory beside that of its routes.
    """

    def __init__(self) -> None:
        self.held: dict[bytes, Attributes] = {}  # `decode` says what the keys are
        self.octets = 0

    def hold(self, key: bytes, attributes: Attributes) -> None:
        """Remember a block."""
        self.held[key] = attributes
        self.grow(BLOCK_OCTETS + DECODED_TIMES * len(key))

    def grow(self, octets: int) -> None:
        """Count what was added."""
        self.octets += octets
        if self.octets > HELD_OCTETS_AT_MOST:
            for attributes in self.held.values():
                attributes.paths.clear()
            self.held.clear()
            self.octets = 0


class Interner:
    """Holds each attribute block decoded once, and each combination of values that the node makes once."""

    def __init__(self) -> None:
        self._received: dict[Context, Blocks] = {}
        self._made: dict[tuple[Any, ...], Attributes] = {}

    def received(self, context: Context) -> Blocks:
        """Return the blocks that came by sessions of this kind."""
        return self._received.setdefault(context, Blocks())

    def made(self, key: tuple[Any, ...], build: Callable[[], Attributes]) -> Attributes:
        """Return the attributes with these values, built at the first asking."""
        found = self._made.get(key)
        if found is None:
            if len(self._made) >= MADE_AT_MOST:
                self._made.clear()
            found = self._made[key] = build()
        return found


def decode(block: bytes, next_hop: bytes | None, context: Context, blocks: Blocks, errors: Tolerated) -> Attributes:
    """Return what a block says, decoded at its first coming (hot: one look-up in `blocks`).

    `block` holds whole attributes other than MP_REACH_NLRI and MP_UNREACH_NLRI; `next_hop` is MP_REACH_NLRI's, 0, 4 or
    16 octets, None where the block's own NEXT_HOP counts.  What was discarded is added to `errors`.
    TreatAsWithdraw or SessionReset if the block cannot be used.
    """
    key = b"\xff" + block if next_hop is None else _LENGTHS[len(next_hop)] + next_hop + block
    found = blocks.held.get(key)
    if found is None:
        found = _decode(block, next_hop, context)
        blocks.hold(key, found)
    if found.discarded:
        for reason, octets in found.discarded:
            errors.add(AttributeDiscard(reason, octets))
    return found


_LENGTHS = tuple(bytes((number,)) for number in range(17))


def split(block: bytes) -> Iterator[tuple[int, int, int, int]]:
    """Yield (flags, code, start, end) of each value; TreatAsWithdraw if the last is cut off (RFC 7606 section 4)."""
    at, size = 0, len(block)
    while at < size:
        flags = block[at]
        wide = flags & EXTENDED
        start = at + 4 if wide else at + 3
        if start > size:
            raise TreatAsWithdraw(f"the attributes end within a header: {block[at:].hex()}", block[at:])
        code = block[at + 1]
        end = start + (block[at + 2] << 8 | block[at + 3] if wide else block[at + 2])
        if end > size:
            raise TreatAsWithdraw(f"attribute {code} has {size - start} octets of its {end - start}", block[at:])
        yield flags, code, start, end
        at = end


def _decode(block: bytes, next_hop: bytes | None, context: Context) -> Attributes:
    read = _read(block, context, ignored=None if next_hop is None else NEXT_HOP)
    missing = _missing(read.seen, next_hop, context)
    if missing:
        raise TreatAsWithdraw(f"{missing} missing", block)
    fields = read.fields
    if next_hop is not None:
        fields["next_hop"] = next_hop
    if is_nobodys(fields["next_hop"]):
        octets = attribute(TRANSITIVE, NEXT_HOP, fields["next_hop"]) if next_hop is None else next_hop
        raise TreatAsWithdraw(f"next hop {fields['next_hop'].hex()} is no host's address", octets)
    _merge_as4(fields)
    targets = frozenset(filter(is_route_target, fields.get("ext_communities", ())))
    discarded = tuple(read.discarded.items())
    return Attributes(
        **fields,
        unknown=tuple(read.unknown),
        partial=frozenset(read.partial),
        discarded=discarded,
        route_targets=targets,
    )


def check(block: bytes, context: Context) -> None:
    """Look through attributes that belong to no route; TreatAsWithdraw or SessionReset if one is malformed."""
    _read(block, context)


@attrs.define
class _Block:
    fields: Fields = attrs.field(factory=dict)
    unknown: list[tuple[int, int, bytes]] = attrs.field(factory=list)
    partial: set[int] = attrs.field(factory=set)
    discarded: dict[str, bytes] = attrs.field(factory=dict)  # why, and the first attribute with which it was so
    seen: set[int] = attrs.field(factory=set)
    again: set[int] = attrs.field(factory=set)
    failure: TreatAsWithdraw | None = None


def _read(block: bytes, context: Context, ignored: int | None = None) -> _Block:
    """Read all attributes but the one `ignored`; of several errors the one with the strongest reaction is raised."""
    read = _Block()
    seen, again = read.seen, read.again
    try:
        for flags, code, start, end in split(block):
            if code in seen:
                if code not in again:
                    again.add(code)
                    reason = f"attribute {code} came twice; the first counts (RFC 7606 section 3 g)"
                    read.discarded[reason] = attribute(flags, code, block[start:end])[:OCTETS_AT_MOST]
                continue
            seen.add(code)
            if code != ignored:
                _read_one(read, flags, code, block[start:end], context)
    except TreatAsWithdraw as error:  # from split
        read.failure = read.failure or error
    if read.failure is not None:
        raise read.failure
    return read


def _read_one(read: _Block, flags: int, code: int, value: bytes, context: Context) -> None:
    """Read an attribute into what is read; SessionReset if it asks for that."""
    try:
        kind = TABLE.get(code)
        if kind is not None:
            unwanted = kind.unwanted(context)
            if unwanted:
                raise AttributeDiscard(f"{kind.name} {unwanted}")
            _check_flags(kind.name, flags, kind.flags)
            read.fields[kind.field] = kind.read(value, context)
            if flags & PARTIAL and kind.flags == OPTIONAL | TRANSITIVE and code not in (AS4_PATH, AS4_AGGREGATOR):
                read.partial.add(code)
            return
        if not flags & OPTIONAL:
            raise SessionReset(3, 2, f"well-known attribute {code} is not known", attribute(flags, code, value))
        carried = CARRIED.get(code)
        if carried is not None:
            if flags & TRANSITIVE and not carried.transitive:  # it came through somebody who does not know it
                raise AttributeDiscard(f"{carried.name} has the flags 0x{flags:02x} (RFC 7311 section 3.2)")
            _check_flags(carried.name, flags, OPTIONAL | TRANSITIVE if carried.transitive else OPTIONAL)
            wrong = carried.wrong(value)
            if wrong:
                raise carried.reaction(f"{carried.name} has {wrong}")
        elif code == ATTR_SET:
            _check_flags("ATTR_SET", flags, OPTIONAL | TRANSITIVE)
            _check_attr_set(value)
        if flags & TRANSITIVE:
            read.unknown.append((flags, code, value))
    except AttributeDiscard as error:
        read.discarded.setdefault(error.reason, attribute(flags, code, value)[:OCTETS_AT_MOST])
    except TreatAsWithdraw as error:  # the whole block is looked through: a SessionReset weighs more
        read.failure = read.failure or TreatAsWithdraw(error.reason, attribute(flags, code, value))


def _check_flags(name: str, flags: int, right: int) -> None:
    if (flags ^ right) & (OPTIONAL | TRANSITIVE):
        raise TreatAsWithdraw(f"{name} has the flags 0x{flags:02x} (RFC 7606 section 3 c)")


def _check_attr_set(value: bytes) -> None:
    """Look through a set of attributes of a customer's network: an AS number, then attributes.

    It is malformed if it is too short, has one of those that carry routes, or one that is malformed (RFC 6368 section
    5), and then the routes count as withdrawn (RFC 7606 section 7.16).
    """
    if len(value) < 4:
        raise TreatAsWithdraw(f"ATTR_SET has {len(value)} octets, fewer than 4")
    inside = Context(ibgp=True, as4=True)
    for flags, code, start, end in split(value[4:]):
        if code in (MP_REACH, MP_UNREACH):
            raise TreatAsWithdraw(f"ATTR_SET has the attribute {code}, which carries routes")
        kind = TABLE.get(code)
        if kind is not None and code not in _NOT_IN_A_SET:
            try:
                _check_flags(kind.name, flags, kind.flags)
                kind.read(value[4 + start : 4 + end], inside)
            except (AttributeDiscard, TreatAsWithdraw) as error:
                raise TreatAsWithdraw(f"{error.reason}, in an ATTR_SET") from None


_NOT_IN_A_SET = (NEXT_HOP, AS4_PATH, AS4_AGGREGATOR)
"""What a set should not have, and what is ignored in it (RFC 6368 section 5)."""


def _missing(seen: set[int], next_hop: bytes | None, context: Context) -> str:
    """Return the names of the mandatory attributes that are not there (RFC 4271 section 5, RFC 7606 section 3 d)."""
    wanted = [ORIGIN, AS_PATH]
    wanted += [LOCAL_PREF] if context.ibgp else []
    wanted += [NEXT_HOP] if next_hop is None else []
    return ", ".join(TABLE[code].name for code in wanted if code not in seen)


def is_nobodys(next_hop: bytes) -> bool:
    """Say whether a next hop can be no host's address (RFC 4271 section 6.3); none at all is not wrong."""
    if len(next_hop) == 4:
        return next_hop[0] in (0, 127) or next_hop[0] >= 224
    return next_hop[:1] == b"\xff" or next_hop in (bytes(16), bytes(15) + b"\x01")


def _merge_as4(fields: Fields) -> None:
    """Put what went around a 2-octet speaker in its place (RFC 6793 section 4.2.3)."""
    as4_path: AsPath = fields.pop("as4_path", ())
    as4_aggregator = fields.pop("as4_aggregator", None)
    if "aggregator" in fields and as4_aggregator is not None:
        if fields["aggregator"][0] != AS_TRANS:
            return  # a speaker with 2-octet AS numbers aggregated later: what went around it is out of date
        fields["aggregator"] = as4_aggregator
    fields["as_path"] = paths.merge(fields["as_path"], as4_path)


def make(
    interner: Interner,
    *,
    next_hop: bytes,
    origin: int = 0,
    as_path: AsPath = (),
    med: int | None = None,
    local_pref: int | None = None,
    communities: tuple[int, ...] = (),
    ext_communities: tuple[bytes, ...] = (),
    large_communities: tuple[tuple[int, int, int], ...] = (),
    pmsi: tuple[int, int, bytes, bytes] | None = None,
) -> Attributes:
    """Return the attributes of a route of our own, interned: equal values give the same object."""
    key = (next_hop, origin, as_path, med, local_pref, communities, ext_communities, large_communities, pmsi)
    return interner.made(
        key,
        lambda: Attributes(
            next_hop=next_hop,
            origin=origin,
            as_path=as_path,
            med=med,
            local_pref=local_pref,
            communities=communities,
            ext_communities=ext_communities,
            large_communities=large_communities,
            pmsi=pmsi,
            route_targets=frozenset(filter(is_route_target, ext_communities)),
        ),
    )


def attribute(flags: int, code: int, value: bytes) -> bytes:
    """Return one attribute as on the wire; ValueError if it is longer than can be told."""
    if len(value) > 255 or flags & EXTENDED:
        if len(value) > 0xFFFF:
            raise ValueError(f"attribute {code} of {len(value)} octets, of at most 65535")
        return bytes((flags | EXTENDED, code)) + len(value).to_bytes(2, "big") + value
    return bytes((flags, code, len(value))) + value


def block(attributes: Attributes, *, as4: bool, next_hop: bool = False) -> bytes:
    """Return the attributes as sent, ordered by code, without the MP attributes, and with NEXT_HOP only if asked for.

    To a peer with 2-octet AS numbers, AS_PATH goes with AS_TRANS and the true one in AS4_PATH (RFC 6793 section 4.2.2).
    """
    out = [attribute(TRANSITIVE, ORIGIN, bytes((attributes.origin,)))]
    wide = paths.write(attributes.as_path)
    if as4:
        out.append(attribute(TRANSITIVE, AS_PATH, wide))
    else:
        out.append(attribute(TRANSITIVE, AS_PATH, paths.write_narrow(attributes.as_path)))
        if any(number > 0xFFFF for _, numbers in attributes.as_path for number in numbers):
            true = paths.write(paths.without_confederation(attributes.as_path))
            out.append(attribute(OPTIONAL | TRANSITIVE, AS4_PATH, true))
    if next_hop:
        out.append(attribute(TRANSITIVE, NEXT_HOP, attributes.next_hop))
    if attributes.aggregator is not None:
        asn, address = attributes.aggregator
        octets = _U32(asn) if as4 else (AS_TRANS if asn > 0xFFFF else asn).to_bytes(2, "big")
        out.append(attribute(OPTIONAL | TRANSITIVE, AGGREGATOR, octets + address))
        if not as4 and asn > 0xFFFF:
            out.append(attribute(OPTIONAL | TRANSITIVE, AS4_AGGREGATOR, _U32(asn) + address))
    for code, flags, field, write in _WRITTEN:
        value = getattr(attributes, field)
        if value is not None and value is not False and value != ():
            out.append(attribute(flags, code, write(value)))
    if attributes.partial:  # which nobody may take away again (RFC 4271 section 5)
        out = [bytes((each[0] | PARTIAL,)) + each[1:] if each[1] in attributes.partial else each for each in out]
    for flags, code, value in attributes.unknown:
        out.append(attribute((flags | PARTIAL) & ~EXTENDED, code, value))  # RFC 4271 section 5
    out.sort(key=lambda each: each[1])
    return b"".join(out)
