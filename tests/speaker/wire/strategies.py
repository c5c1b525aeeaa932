"""Routes and attributes for property tests of the codec: anything valid, of every family that the speaker carries."""

from __future__ import annotations

import attrs
from hypothesis import strategies as st

from speaker.path import AS_CONFED_SEQUENCE, AS_CONFED_SET, AS_SEQUENCE, AS_SET, Attributes
from speaker.values import Family
from speaker.wire.attribute import EXTENDED, OPTIONAL, PARTIAL, TRANSITIVE
from speaker.wire.community import is_route_target

Route = tuple[bytes, bytes]
"""An NLRI key and its extra part, as speaker.path has them."""

NEXT_HOPS_4 = st.sampled_from([bytes((192, 0, 2, 1)), bytes((10, 255, 0, 9))])
NEXT_HOPS_16 = st.sampled_from([bytes.fromhex("20010db8" + "00" * 11 + "01"), bytes.fromhex("fd" + "00" * 14 + "09")])
RDS = st.builds(lambda kind, six: kind.to_bytes(2, "big") + six, st.integers(0, 2), st.binary(min_size=6, max_size=6))
LABELS = st.integers(0, (1 << 20) - 1).map(lambda label: (label << 4 | 1).to_bytes(3, "big"))
ADDRESSES = st.one_of(st.binary(min_size=4, max_size=4), st.binary(min_size=16, max_size=16))


def octets(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


def prefixes(width: int, least: int = 0) -> st.SearchStrategy[bytes]:
    """Octets of a prefix of up to `width` bits, without bits beyond its length, and the length."""
    return st.builds(cut_prefix, octets(width // 8), st.integers(least, width))


def cut_prefix(address: bytes, length: int) -> bytes:
    size = len(address) * 8
    number = int.from_bytes(address, "big") >> size - length << size - length
    return number.to_bytes(len(address), "big")[: (length + 7) // 8] + bytes((length,))


def _sized(address: bytes) -> bytes:
    return bytes((len(address) * 8,)) + address


def _with_prefix(head: bytes, address: bytes, length: int) -> bytes:
    length %= len(address) * 8 + 1
    whole = cut_prefix(address, length)[:-1].ljust(len(address), b"\0")
    return b"\x05" + head + bytes((length,)) + whole


_EVPN: list[st.SearchStrategy[Route]] = [
    st.tuples(st.builds(lambda rd, rest: b"\x01" + rd + rest, RDS, octets(14)), octets(3)),
    st.tuples(
        st.builds(
            lambda rd, tag, mac, ip: b"\x02" + rd + tag + b"\x30" + mac + _sized(ip),
            RDS,
            octets(4),
            octets(6),
            st.one_of(st.just(b""), ADDRESSES),
        ),
        st.one_of(octets(13), octets(16)),
    ),
    st.tuples(st.builds(lambda rd, tag, ip: b"\x03" + rd + tag + _sized(ip), RDS, octets(4), ADDRESSES), st.just(b"")),
    st.tuples(st.builds(lambda rd, esi, ip: b"\x04" + rd + esi + _sized(ip), RDS, octets(10), ADDRESSES), st.just(b"")),
    st.builds(
        lambda rd, tag, address, length, extra: (
            _with_prefix(rd + tag, address, length),
            extra[:10] + extra[10 : 10 + len(address)] + extra[-3:],
        ),
        RDS,
        octets(4),
        ADDRESSES,
        st.integers(0, 128),
        octets(29),
    ),
]

FLOWSPEC = frozenset({Family.IPV4_FLOWSPEC, Family.IPV6_FLOWSPEC, Family.VPNV4_FLOWSPEC, Family.VPNV6_FLOWSPEC})


def _operators(kind: int, sizes: tuple[int, ...], bits: int) -> st.SearchStrategy[bytes]:
    """A component of operators and values: of `bits` of an operator any are drawn."""
    one = st.sampled_from(sizes).flatmap(lambda size: st.tuples(st.integers(0, 0x7F), st.just(size), octets(1 << size)))

    def written(drawn: list[tuple[int, int, bytes]]) -> bytes:
        terms = [bytes((operator & bits | size << 4,)) + value for operator, size, value in drawn]
        terms[0] = bytes((terms[0][0] & 0xBF,)) + terms[0][1:]
        terms[-1] = bytes((terms[-1][0] | 0x80,)) + terms[-1][1:]
        return bytes((kind,)) + b"".join(terms)

    return st.lists(one, min_size=1, max_size=2).map(written)


def _pattern(kind: int, address: bytes, length: int, offset: int) -> bytes:
    offset %= length or 1
    bits = length - offset
    number = int.from_bytes(address, "big") >> 128 - bits << -bits % 8
    return bytes((kind, length, offset)) + number.to_bytes((bits + 7) // 8, "big")


def _components(width: int) -> st.SearchStrategy[bytes]:
    numeric, flags = 0x47, 0x43
    lists = [_operators(kind, (0, 1, 2, 3), numeric) for kind in (3, 4, 5, 6, 7, 8)]
    lists += [_operators(9, (0, 1), flags), _operators(10, (0, 1, 2, 3), numeric)]
    lists += [_operators(11, (0,), numeric), _operators(12, (0,), flags)]
    if width == 32:
        prefix = [
            prefixes(32).map(lambda drawn, kind=kind: bytes((kind, drawn[-1])) + drawn[:-1])  # type: ignore[misc]
            for kind in (1, 2)
        ]
    else:
        lists.append(_operators(13, (0, 1, 2), numeric))
        prefix = [
            st.builds(
                _pattern, st.just(kind), octets(16), st.integers(0, 128), st.one_of(st.just(0), st.integers(0, 127))
            )
            for kind in (1, 2)
        ]
    some = st.lists(st.one_of(*prefix, *lists), min_size=1, max_size=3, unique_by=lambda each: each[0])
    return some.map(lambda drawn: b"".join(sorted(drawn, key=lambda each: each[0])))


ROUTES: dict[Family, st.SearchStrategy[Route]] = {
    Family.IPV4: st.tuples(prefixes(32), st.just(b"")),
    Family.IPV6: st.tuples(prefixes(128), st.just(b"")),
    Family.VPNV4: st.tuples(st.builds(bytes.__add__, RDS, prefixes(32)), LABELS),
    Family.VPNV6: st.tuples(st.builds(bytes.__add__, RDS, prefixes(128)), LABELS),
    Family.EVPN: st.one_of(_EVPN),
    Family.RTC: st.tuples(st.one_of(st.just(b"\0"), prefixes(96, least=32)), st.just(b"")),
    Family.IPV4_FLOWSPEC: st.tuples(_components(32), st.just(b"")),
    Family.IPV6_FLOWSPEC: st.tuples(_components(128), st.just(b"")),
    Family.VPNV4_FLOWSPEC: st.tuples(st.builds(bytes.__add__, RDS, _components(32)), st.just(b"")),
    Family.VPNV6_FLOWSPEC: st.tuples(st.builds(bytes.__add__, RDS, _components(128)), st.just(b"")),
}

_AS = st.one_of(st.integers(1, 0xFFFF), st.integers(0x10000, 0xFFFFFFFF))


def _as_paths(kinds: list[int]) -> st.SearchStrategy[tuple[tuple[int, tuple[int, ...]], ...]]:
    numbers = st.one_of(
        st.lists(_AS, min_size=1, max_size=4), st.integers(200, 255).map(lambda n: list(range(1, n + 1)))
    )
    segments = st.tuples(st.sampled_from(kinds), numbers.map(tuple))
    return st.lists(segments, max_size=3).map(tuple)


_UNKNOWN = st.one_of(
    st.tuples(st.sampled_from([27, 36, 200]), st.one_of(st.binary(max_size=20), st.binary(min_size=256, max_size=300))),
    st.tuples(st.just(23), octets(6).map(lambda value: b"\0\x08\0\x08\x06\x06" + value)),
    st.tuples(st.just(25), octets(20)),
    st.tuples(st.just(40), octets(7).map(lambda value: b"\x01\0\x07" + value)),
    st.tuples(st.just(128), octets(4).map(lambda value: value + bytes.fromhex("40010100 400200"))),
).map(lambda drawn: (OPTIONAL | TRANSITIVE | PARTIAL | (EXTENDED if len(drawn[1]) > 255 else 0), *drawn))
_PMSI = st.one_of(
    st.tuples(st.integers(0, 1), st.just(6), octets(3), ADDRESSES),
    st.tuples(st.integers(0, 1), st.sampled_from([0, 1, 3, 4]), octets(3), st.binary(max_size=17)),
)


@st.composite
def attributes(draw: st.DrawFn, family: Family, *, ibgp: bool, as4: bool = True) -> Attributes:
    """What a route of this family may carry on such a session."""
    kinds = [AS_SEQUENCE, AS_SET]
    if ibgp and as4:  # those of a confederation do not go around a speaker with 2-octet AS numbers
        kinds += [AS_CONFED_SEQUENCE, AS_CONFED_SET]
    u32 = st.integers(0, 0xFFFFFFFF)
    next_hops = st.one_of(NEXT_HOPS_4, NEXT_HOPS_16)
    if family in FLOWSPEC:
        next_hops = st.one_of(st.just(b""), next_hops)
    targets = st.builds(lambda kind, six: bytes((kind, 2)) + six, st.integers(0, 2), octets(6))
    communities = draw(st.lists(st.one_of(targets, octets(8)), max_size=5))
    plain = tuple(draw(st.lists(u32, max_size=4)))
    return Attributes(
        next_hop=draw(next_hops),
        origin=draw(st.integers(0, 2)),
        as_path=draw(_as_paths(kinds)),
        med=draw(st.none() | u32),
        local_pref=draw(u32) if ibgp else None,
        atomic_aggregate=draw(st.booleans()),
        aggregator=draw(st.none() | st.tuples(_AS, octets(4))),
        communities=plain,
        ext_communities=tuple(communities),
        large_communities=tuple(draw(st.lists(st.tuples(u32, u32, u32), max_size=3, unique=True))),
        originator_id=draw(st.none() | octets(4)) if ibgp else None,
        cluster_list=tuple(draw(st.lists(octets(4), max_size=3))) if ibgp else (),
        pmsi=draw(st.none() | _PMSI),
        only_to_customer=draw(st.none() | u32),
        unknown=tuple(sorted(draw(st.lists(_UNKNOWN, max_size=2, unique_by=lambda each: each[1])), key=lambda e: e[1])),
        partial=frozenset(code for code, value in ((8, plain), (16, communities)) if value and draw(st.booleans())),
        route_targets=frozenset(filter(is_route_target, communities)),
    )


def meaning(made: Attributes) -> dict[str, object]:
    """What attributes say, without what the node keeps beside it; segments in a row that are one count as one."""
    said = attrs.asdict(made, recurse=False)
    for field in ("importers", "imports_version", "paths"):
        del said[field]
    joined: list[tuple[int, tuple[int, ...]]] = []
    for kind, numbers in made.as_path:
        if joined and kind == joined[-1][0] and kind in (AS_SEQUENCE, AS_CONFED_SEQUENCE):
            joined[-1] = (kind, joined[-1][1] + numbers)
        else:
            joined.append((kind, numbers))
    said["as_path"] = joined
    return said
