"""UPDATEs that are as costly to read as a peer can make them, of any size.

`python -m tests.speaker.wire.worst` tells how long the largest take.
Each builder takes the octets that the costly part may have and gives a body.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import count, islice

from speaker.errors import BgpError
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.update import UpdateDecoder

GOOD = bytes.fromhex("40010100 400200 40050400000064")
PREFIX = bytes.fromhex("180a0102")
RD = bytes.fromhex("0000fc0000000001")

Build = Callable[[int], bytes]


def attribute(flags: int, code: int, value: bytes) -> bytes:
    return bytes((flags | 0x10, code)) + len(value).to_bytes(2, "big") + value


def body(attributes: bytes, nlri: bytes = b"", withdrawn: bytes = b"") -> bytes:
    return len(withdrawn).to_bytes(2, "big") + withdrawn + len(attributes).to_bytes(2, "big") + attributes + nlri


def repeated(part: bytes, size: int) -> bytes:
    return part * (size // len(part))


def numbered(form: Callable[[int], bytes], size: int) -> bytes:
    """Parts that all differ."""
    parts = islice((form(number) for number in count()), size // len(form(0)))
    return b"".join(parts)


def with_attribute(code: int, value: Callable[[int], bytes], flags: int = 0xC0) -> Build:
    """Beside one usable route, an attribute with such a value."""

    def build(size: int) -> bytes:
        good = b"" if code == 2 else bytes.fromhex("400200")
        good += bytes.fromhex("40010100 400304c0000201 40050400000064")
        return body(good + attribute(flags, code, value(size)), PREFIX)

    return build


def reaching(family: Family, next_hop: str, run: Callable[[int], bytes]) -> Build:
    """Announced NLRI of a family."""

    def build(size: int) -> bytes:
        head = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + bytes.fromhex(next_hop + "00")
        return body(attribute(0x80, 14, head + run(size)) + GOOD)

    return build


def unreaching(family: Family, run: Callable[[int], bytes]) -> Build:
    def build(size: int) -> bytes:
        head = family.afi.to_bytes(2, "big") + bytes((family.safi,))
        return body(attribute(0x80, 15, head + run(size)))

    return build


V4, VPN_HOP = "04c0000201", "0c0000000000000000c0000201"
NEXT_HOP = bytes.fromhex("400304c0000201")
WORST: dict[str, Build] = {
    "attributes of no octets, unknown": lambda size: body(
        GOOD + NEXT_HOP + numbered(lambda n: bytes((0xC0, 64 + n % 64, 0)), size), PREFIX
    ),
    "one attribute again and again": lambda size: body(
        GOOD + NEXT_HOP + repeated(bytes.fromhex("40010100"), size), PREFIX
    ),
    "an AS path of segments of one AS": with_attribute(2, lambda size: repeated(b"\2\1\0\0\xfc\1", size), 0x40),
    "an AS path of full segments": with_attribute(
        2, lambda size: repeated(b"\2\xff" + b"\0\0\xfc\1" * 255, size), 0x40
    ),
    "an AS path that is malformed at its end": with_attribute(
        2, lambda size: repeated(b"\2\1\0\0\xfc\1", size) + b"\2", 0x40
    ),
    "communities": with_attribute(8, lambda size: numbered(lambda n: n.to_bytes(4, "big"), size)),
    "extended communities": with_attribute(16, lambda size: numbered(lambda n: b"\0\2" + n.to_bytes(6, "big"), size)),
    "large communities": with_attribute(32, lambda size: numbered(lambda n: n.to_bytes(12, "big"), size)),
    "a list of clusters": with_attribute(10, lambda size: numbered(lambda n: n.to_bytes(4, "big"), size), 0x80),
    "tunnels of no octets": with_attribute(23, lambda size: repeated(b"\0\x08\0\0", size)),
    "a tunnel of many words": with_attribute(
        23, lambda size: b"\0\x08" + size.to_bytes(2, "big") + repeated(b"\1\0", size)
    ),
    "SIDs of no octets": with_attribute(40, lambda size: repeated(b"\x09\0\0", size)),
    "a set of attributes": with_attribute(128, lambda size: bytes(4) + repeated(b"\xc0\x63\0", size)),
    "default routes": lambda size: body(GOOD + NEXT_HOP, bytes(size)),
    "withdrawn default routes": lambda size: body(b"", b"", bytes(size)),
    "routes of 24 bits": lambda size: body(GOOD + NEXT_HOP, numbered(lambda n: b"\x18" + n.to_bytes(3, "big"), size)),
    "VPN default routes": reaching(Family.VPNV4, VPN_HOP, lambda size: repeated(b"\x58\0\6\x41" + RD, size)),
    "VPN routes with other labels": reaching(
        Family.VPNV4, VPN_HOP, lambda size: numbered(lambda n: b"\x58" + (n << 4 | 1).to_bytes(3, "big") + RD, size)
    ),
    "VPN routes with label stacks": reaching(
        Family.VPNV4, VPN_HOP, lambda size: repeated(b"\xb8" + b"\0\6\x40" * 4 + b"\0\6\x41" + RD, size)
    ),
    "withdrawn VPN routes with label stacks": unreaching(
        Family.VPNV4, lambda size: repeated(b"\xb8" + b"\0\6\x40" * 4 + b"\0\6\x41" + RD, size)
    ),
    "EVPN routes that are malformed": reaching(Family.EVPN, V4, lambda size: repeated(b"\3\0", size)),
    "EVPN routes that are malformed beside their keys": reaching(
        Family.EVPN,
        V4,
        lambda size: numbered(lambda n: b"\3\x12" + RD + n.to_bytes(4, "big") + b"\x20\xc0\0\2\1\0", size),
    ),
    "EVPN routes of a type that is not known": reaching(Family.EVPN, V4, lambda size: repeated(b"\x63\0", size)),
    "flow specifications": reaching(
        Family.IPV4_FLOWSPEC, "00", lambda size: numbered(lambda n: b"\5\1\x18" + n.to_bytes(3, "big"), size)
    ),
    "flow specifications again and again": reaching(Family.IPV4_FLOWSPEC, "00", lambda size: repeated(b"\2\1\0", size)),
    "flow specifications of many values": reaching(
        Family.IPV4_FLOWSPEC,
        "00",
        lambda size: numbered(lambda n: b"\xff\xf8\4" + b"\0\1" * 2039 + b"\xb0" + n.to_bytes(8, "big"), size),
    ),
    "flow specifications that are malformed": reaching(
        Family.IPV4_FLOWSPEC, "00", lambda size: numbered(lambda n: b"\3\x63" + n.to_bytes(2, "big"), size)
    ),
    "flow specifications without octets": reaching(Family.IPV4_FLOWSPEC, "00", bytes),
    "memberships that are malformed": reaching(Family.RTC, V4, lambda size: repeated(b"\1\0", size)),
    "memberships that are malformed, all of them others": reaching(
        Family.RTC,
        V4,
        lambda size: numbered(lambda n: bytes((9 + n % 8,)) + (n * 40503 % 65536).to_bytes(2, "big"), size),
    ),
    "prefixes with bits beyond their lengths": lambda size: body(
        GOOD + NEXT_HOP,
        numbered(lambda n: bytes((9 + n % 7,)) + (n * 40503 % 65536 | 1).to_bytes(2, "big"), size),
    ),
    "IPv6 prefixes of 16 bits": reaching(
        Family.IPV6, "10" + "20" * 16, lambda size: numbered(lambda n: b"\x10" + n.to_bytes(2, "big"), size)
    ),
    "EVPN routes that are malformed, all of them others": reaching(
        Family.EVPN, V4, lambda size: numbered(lambda n: bytes((1 + n % 5, 2)) + n.to_bytes(2, "big"), size)
    ),
    "flow specifications of an octet": reaching(
        Family.IPV4_FLOWSPEC, "00", lambda size: numbered(lambda n: b"\2" + bytes((n & 15, n >> 4 & 255)), size)
    ),
    "IPv6 flow specifications of a few octets": reaching(
        Family.IPV6_FLOWSPEC, "00", lambda size: numbered(lambda n: b"\3\1" + n.to_bytes(2, "big"), size)
    ),
    "VPN routes with other labels and bits beyond": reaching(
        Family.VPNV4,
        VPN_HOP,
        lambda size: numbered(lambda n: b"\x59" + (n << 4).to_bytes(3, "big") + RD + b"\xff", size),
    ),
    "a family that is not carried": lambda size: body(attribute(0x80, 14, b"\0\x63\1\0\0" + bytes(size)) + GOOD),
    "octets that are no attributes": lambda size: body(repeated(b"\xc0\x08", size)),
}


def identified(part: Callable[[int], bytes]) -> Callable[[int], bytes]:
    """A run of such parts with path identifiers."""
    return lambda size: numbered(lambda n: n.to_bytes(4, "big") + part(n), size)


WITH_IDENTIFIERS: dict[str, Build] = {
    "default routes": lambda size: body(GOOD + NEXT_HOP, identified(lambda n: b"\0")(size)),
    "withdrawn default routes": lambda size: body(b"", b"", identified(lambda n: b"\0")(size)),
    "prefixes with bits beyond their lengths": lambda size: body(
        GOOD + NEXT_HOP, identified(lambda n: bytes((1 + n % 7, n & 255)))(size)
    ),
    "VPN default routes": reaching(Family.VPNV4, VPN_HOP, identified(lambda n: b"\x58\0\6\x41" + RD)),
    "EVPN routes that are malformed": reaching(Family.EVPN, V4, identified(lambda n: b"\3\0")),
    "EVPN routes that are malformed, all of them others": reaching(
        Family.EVPN, V4, identified(lambda n: bytes((1 + n % 5, 2)) + n.to_bytes(2, "big"))
    ),
    "memberships that are malformed": reaching(Family.RTC, V4, identified(lambda n: bytes((1 + n % 7, n & 255)))),
    "flow specifications without octets": reaching(Family.IPV4_FLOWSPEC, "00", identified(lambda n: b"\0")),
    "flow specifications that are malformed": reaching(
        Family.IPV4_FLOWSPEC, "00", identified(lambda n: b"\2" + n.to_bytes(2, "big"))
    ),
}
"""The same for a session with path identifiers (RFC 7911)."""


def decoder(*, add_path: bool = False) -> UpdateDecoder:
    families = frozenset(Family)
    return UpdateDecoder(
        Interner(), ibgp=True, as4=True, families=families, add_path=families if add_path else frozenset()
    )


def main() -> None:
    """Print how long the largest of each takes: the least processor time of five."""
    largest = 65535 - 19 - 64
    both = [(name, build, False) for name, build in WORST.items()]
    both += [(f"{name}, with path identifiers", build, True) for name, build in WITH_IDENTIFIERS.items()]
    for name, build, add_path in both:
        octets = build(largest)
        assert 60000 < len(octets) <= 65535 - 19, name
        took, outcome = [], ""
        for _ in range(5):
            reader = decoder(add_path=add_path)
            began = time.process_time()
            try:
                update = reader.decode(octets)
                outcome = f"{len(update.errors)} errors and {update.errors.left_out} left out"
            except BgpError as error:
                outcome = f"{type(error).__name__}: {error.reason}"[:60]
            took.append(time.process_time() - began)
        print(f"{min(took) * 1000:6.2f} ms  {name}: {outcome}")


if __name__ == "__main__":
    main()
