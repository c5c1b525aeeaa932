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

ROUTES: dict[Family, st.SearchStrategy[Route]] = {
    Family.IPV4: st.tuples(prefixes(32), st.just(b"")),
    Family.IPV6: st.tuples(prefixes(128), st.just(b"")),
    Family.VPNV4: st.tuples(st.builds(bytes.__add__, RDS, prefixes(32)), LABELS),
    Family.VPNV6: st.tuples(st.builds(bytes.__add__, RDS, prefixes(128)), LABELS),
    Family.EVPN: st.one_of(_EVPN),
    Family.RTC: st.tuples(st.one_of(st.just(b"\0"), prefixes(96, least=32)), st.just(b"")),
}

_AS = st.one_of(st.integers(1, 0xFFFF), st.integers(0x10000, 0xFFFFFFFF))


def _as_paths(kinds: list[int]) -> st.SearchStrategy[tuple[tuple[int, tuple[int, ...]], ...]]:
    numbers = st.one_of(
        st.lists(_AS, min_size=1, max_size=4), st.integers(200, 255).map(lambda n: list(range(1, n + 1)))
    )
    segments = st.tuples(st.sampled_from(kinds), numbers.map(tuple))
    return st.lists(segments, max_size=3).map(tuple)


_UNKNOWN = st.builds(
    lambda code, value: (OPTIONAL | TRANSITIVE | PARTIAL | (EXTENDED if len(value) > 255 else 0), code, value),
    st.sampled_from([25, 26, 40, 128, 200]),
    st.one_of(st.binary(max_size=20), st.binary(min_size=256, max_size=300)),
)
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
    next_hops = NEXT_HOPS_4 if family is Family.IPV4 else st.one_of(NEXT_HOPS_4, NEXT_HOPS_16)
    targets = st.builds(lambda kind, six: bytes((kind, 2)) + six, st.integers(0, 2), octets(6))
    communities = draw(st.lists(st.one_of(targets, octets(8)), max_size=5))
    return Attributes(
        next_hop=draw(next_hops),
        origin=draw(st.integers(0, 2)),
        as_path=draw(_as_paths(kinds)),
        med=draw(st.none() | u32),
        local_pref=draw(u32) if ibgp else None,
        atomic_aggregate=draw(st.booleans()),
        aggregator=draw(st.none() | st.tuples(_AS, octets(4))),
        communities=tuple(draw(st.lists(u32, max_size=4))),
        ext_communities=tuple(communities),
        large_communities=tuple(draw(st.lists(st.tuples(u32, u32, u32), max_size=3, unique=True))),
        originator_id=draw(st.none() | octets(4)) if ibgp else None,
        cluster_list=tuple(draw(st.lists(octets(4), max_size=3))) if ibgp else (),
        pmsi=draw(st.none() | _PMSI),
        unknown=tuple(sorted(draw(st.lists(_UNKNOWN, max_size=2, unique_by=lambda each: each[1])), key=lambda e: e[1])),
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
