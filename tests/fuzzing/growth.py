"""How the processor time of one message grows with its size: messages of every shape that can be long, 1 to 64 KiB."""

from __future__ import annotations

import contextlib
import struct
import time
from collections.abc import Callable, Iterator

import attrs

from speaker.errors import DisableFamily, SessionReset
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.message import Open
from speaker.wire.update import UpdateDecoder
from tests.fuzzing.seeds import LABELS, RD, ROUTES
from tests.fuzzing.shapes import EXTENDED, MP_REACH, MP_UNREACH, Attribute, Routes

SIZES = tuple(1024 << step for step in range(7))
LONGEST = 65516  # octets of a body
MOST_MS = 10.0
"""What a message of 64 KiB should take; those of 65,000 routes of one octet take longer."""

EXPONENT = 3.0
"""Times for twice the octets: 2 is linear, 4 quadratic."""

TIMES = 5
"""The least of so many measurements counts: what else runs on the machine makes it longer, never shorter."""

SMALL = [Attribute(0x40, 1, b"\0"), Attribute(0x40, 2, b""), Attribute(0x40, 5, bytes(4))]
WITH_HOP = [*SMALL, Attribute(0x40, 3, bytes((192, 0, 2, 1)))]
ROUTE = [b"\x18\x0a\x01\x02"]


@attrs.frozen
class Growth:
    """The times of one shape."""

    name: str
    ms: tuple[float, ...]  # for each of SIZES

    @property
    def exponent(self) -> float:
        """Times for twice the octets, over the last three doublings."""
        return float((self.ms[-1] / max(self.ms[-4], 1e-6)) ** (1 / 3))


def shapes() -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """Names, and what makes a body of about so many octets."""
    for family, routes in ROUTES.items():
        yield f"{family.text} announced", lambda size, family=family: _reach(family, _distinct(family, size - 60))  # type: ignore[misc]
        yield f"{family.text} withdrawn", lambda size, family=family: _unreach(family, _distinct(family, size - 20))  # type: ignore[misc]
        del routes
    yield "ipv4 prefixes of 0 bits", lambda size: Routes([], WITH_HOP, [b"\0"] * (size - 30)).octets()
    yield "ipv4 withdrawn, 0 bits", lambda size: Routes([b"\0"] * (size - 4), [], []).octets()
    yield "evpn routes that are malformed", lambda size: _reach(Family.EVPN, [b"\x02\0"] * (size // 2 - 30))
    yield "evpn routes of no known type", lambda size: _reach(Family.EVPN, [b"\xee\0"] * (size // 2 - 30))
    yield "vpnv4 stacks of labels", lambda size: _reach(Family.VPNV4, [_stack()] * ((size - 60) // len(_stack())))
    yield "rtc memberships that are malformed", lambda size: _reach(Family.RTC, [b"\x01\0"] * (size // 2 - 30))
    for name, flags, code, unit in (
        ("communities", 0xC0, 8, struct.pack("!I", 5)),
        ("extended communities", 0xC0, 16, bytes.fromhex("0002fc0000000064")),
        ("extended communities that differ", 0xC0, 16, b""),
        ("large communities", 0xC0, 32, bytes(12)),
        ("AS path, long segments", 0x40, 2, b"\x02\x3c" + struct.pack("!60I", *range(1, 61))),
        ("AS path, short segments", 0x40, 2, b"\x02\x01\0\0\0\x07"),
        ("AS path, sets", 0x40, 2, b"\x01\x01\0\0\0\x07"),
        ("AS path that ends within a segment", 0x40, 2, b"\x02\x01\0\0\0\x07\x02"),
        ("cluster list", 0x80, 10, bytes((1, 1, 1, 1))),
        ("an attribute that is not known", 0xC0, 99, b"x"),
    ):
        yield name, lambda size, flags=flags, code=code, unit=unit: _long(flags, code, unit, size)  # type: ignore[misc]
    yield "attributes that are not known", lambda size: _many(lambda n: Attribute(0xC0, 40 + n % 200, b""), size)
    yield "the same attribute again and again", lambda size: _many(lambda n: Attribute(0x80, 4, bytes(4)), size)
    yield "attributes without an end", lambda size: _many(lambda n: Attribute(0xC0, 40 + n % 200, b""), size)[:-1]


def _distinct(family: Family, size: int) -> list[bytes]:
    """NLRI that differ, as many as there is room for."""
    match family:
        case Family.IPV4:
            one = [b"\x18" + (0x0A0000 + n).to_bytes(3, "big") for n in range(size // 4)]
        case Family.IPV6:
            one = [b"\x40" + bytes.fromhex("20010db8") + n.to_bytes(4, "big") for n in range(size // 9)]
        case Family.VPNV4:
            one = [b"\x70" + LABELS[0] + RD + (0x0A0000 + n).to_bytes(3, "big") for n in range(size // 15)]
        case Family.VPNV6:
            one = [
                b"\x98" + LABELS[0] + RD + bytes.fromhex("20010db8") + n.to_bytes(4, "big") for n in range(size // 20)
            ]
        case Family.EVPN:
            one = [
                b"\x02\x21" + RD + bytes(14) + b"\x30\x02\0" + n.to_bytes(4, "big") + b"\0" + LABELS[0]
                for n in range(size // 35)
            ]
        case Family.RTC:
            one = [b"\x60" + bytes.fromhex("0000fc000002fc00") + n.to_bytes(4, "big") for n in range(size // 13)]
        case _:
            front = RD if family.safi == 134 else b""
            flow = b"\x03\x81\x06\x05\x91"
            one = [
                bytes((len(front) + len(flow) + 2,)) + front + flow + (n & 0xFFFF).to_bytes(2, "big")
                for n in range(size // (len(front) + 8))
            ]
    return one


def _stack() -> bytes:
    return bytes((24 * 6 + 64 + 24,)) + b"\0\0\x10" * 5 + b"\0\0\x11" + RD + b"\x0a\1\2"


_HOPS = {Family.VPNV4: bytes(8), Family.VPNV6: bytes(8)}


def _reach(family: Family, routes: list[bytes]) -> bytes:
    hop = (
        b""
        if family.safi in (133, 134)
        else _HOPS.get(family, b"")
        + (bytes.fromhex("20010db8" + "00" * 11 + "01") if family.afi == 2 else bytes((192, 0, 2, 1)))
    )
    head = struct.pack("!HBB", family.afi, family.safi, len(hop)) + hop + b"\0"
    return Routes([], [Attribute(0x80 | EXTENDED, MP_REACH, head, routes), *SMALL], []).octets()


def _unreach(family: Family, routes: list[bytes]) -> bytes:
    head = struct.pack("!HB", family.afi, family.safi)
    return Routes([], [Attribute(0x80 | EXTENDED, MP_UNREACH, head, routes)], []).octets()


def _long(flags: int, code: int, unit: bytes, size: int) -> bytes:
    room = size - 40
    value = unit * (room // len(unit)) if unit else b"".join(struct.pack("!HHI", 2, 1, n) for n in range(room // 8))
    others = [each for each in WITH_HOP if each.code != code]
    return Routes([], [*others, Attribute(flags | EXTENDED, code, value)], ROUTE).octets()


def _many(make: Callable[[int], Attribute], size: int) -> bytes:
    each = len(make(0).octets())
    return Routes([], [*WITH_HOP, *(make(n) for n in range((size - 40) // each))], []).octets()


def measure(name: str, make: Callable[[int], bytes]) -> Growth:
    """Decode messages of each size, new to the decoder every time."""
    found = []
    for size in SIZES:
        body = make(min(size, LONGEST))
        assert len(body) <= LONGEST, f"{name}: {len(body)} octets"
        assert len(body) > size * 0.8, f"{name}: {len(body)} octets of {size}"
        found.append(min(_ms(body) for _ in range(TIMES)))
    return Growth(name, tuple(found))


def _ms(body: bytes) -> float:
    decoder = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset(Family))
    begin = time.thread_time_ns()
    with contextlib.suppress(SessionReset, DisableFamily):
        decoder.decode(body)
    return (time.thread_time_ns() - begin) / 1e6


def longest_open() -> float:
    """Milliseconds for an OPEN of 4,077 octets full of capabilities."""
    told = b"\x83\0" * 2000
    head = b"\x04\xfc\0\0\x5a\xc0\0\x02\x01\xff\xff"
    body = head + struct.pack("!H", len(told) + 3) + b"\x02" + struct.pack("!H", len(told)) + told
    begin = time.thread_time_ns()
    assert len(Open.decode(body).capabilities) == 2000
    return (time.thread_time_ns() - begin) / 1e6


def report() -> int:
    """Print a table; 1 if the time of a shape grows faster than its size."""
    print(f"{'ms for a message of':44}" + "".join(f"{size // 1024:>7}K" for size in SIZES) + "  doubling")
    bad = 0
    for name, make in shapes():
        growth = measure(name, make)
        bad += growth.exponent > EXPONENT
        times = "".join(f"{each:8.3f}" for each in growth.ms)
        slow = f"  above {MOST_MS:g} ms" if growth.ms[-1] > MOST_MS else ""
        print(f"{name:44}{times}  x {growth.exponent:.2f}{slow}", flush=True)
    print(f"{'OPEN of 2000 capabilities':44}{longest_open():8.3f}")
    return 1 if bad else 0
