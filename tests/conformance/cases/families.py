"""MP_REACH_NLRI and MP_UNREACH_NLRI of each family: next hops, reserved octet, NLRI (RFC 4760, RFC 7606 5.3 and 7.11).

NLRI that cannot be told apart ends the session or the family (RFC 7606 section 3 j, RFC 4760 section 7).
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tests.conformance import wire
from tests.conformance.case import EBGP, IBGP, add, message_case, update_case
from tests.conformance.place import BAD, GOOD, NEW, Place
from tests.conformance.wire import NON_TRANSITIVE, OPTIONAL_TRANSITIVE, WELL_KNOWN, attribute, mp_reach, mp_unreach

AREA = "MP_REACH and MP_UNREACH"
UNREADABLE = ("3/9", "3/10", "3/1", "disabled")
CUT_OFF = ("3/9", "3/1", "3/5", "disabled")
EXTENDED_NEXT_HOP = 5
FAMILIES = ("ipv4", "ipv6", "vpnv4", "vpnv6", "evpn", "rtc")
V4, V6, LINK_LOCAL = wire.ip("198.51.100.1"), wire.ip("2001:db8:ffff::1"), wire.ip("fe80::1")
NO_RD = bytes(8)


def reach(place: Place, family: str, next_hop: bytes | None = None, nlri: bytes | None = None, **more: int) -> bytes:
    """An UPDATE whose routes are in MP_REACH_NLRI, also those of IPv4."""
    told = place.nlri(family, GOOD) + place.nlri(family, NEW) if nlri is None else nlri
    made = mp_reach(family, place.next_hop(family) if next_hop is None else next_hop, told, **more)
    attributes = place.attributes(family)
    attributes.pop("next_hop", None)
    return wire.update(made + b"".join(attributes.values()))


def plus(update: bytes, more: bytes) -> bytes:
    """An UPDATE without withdrawn routes and NLRI, with more attributes."""
    return wire.update(update[23:] + more)


def one(name: str, rfc: str, family: str, said: Callable[[Place], bytes], *reactions: str, **more: object) -> None:
    peering = more.pop("peering", IBGP if family in ("vpnv4", "vpnv6", "evpn", "rtc") else EBGP)
    made = update_case(
        f"{name}-{family}",
        more.pop("area", AREA),  # type: ignore[arg-type]
        rfc,
        family,
        said,
        *reactions,
        peering=peering,  # type: ignore[arg-type]
        **more,  # type: ignore[arg-type]
    )
    add(made)


for family in FAMILIES:
    one("mp-right", "RFC 4760 3", family, lambda p, f=family: reach(p, f), "accepted")
    one("mp-reserved-octet", "RFC 4760 3", family, lambda p, f=family: reach(p, f, reserved=0xFF), "accepted")
    for bits, word in ((0x80, "optional"), (0x40, "transitive")):
        one(
            f"mp-flags-{word}-inverted",
            "RFC 7606 3 c",
            family,
            lambda p, f=family, b=bits: reach(p, f, flags=NON_TRANSITIVE ^ b),
            "withdrawn",
        )
    one("mp-flags-extended-length", "RFC 4271 4.3", family, lambda p, f=family: reach(p, f, flags=0x90), "accepted")
    one(
        "mp-next-hop-attribute-beside",
        "RFC 4760 3",
        family,
        lambda p, f=family: plus(reach(p, f), attribute(WELL_KNOWN, 3, wire.ip("198.51.100.7"))),
        "accepted",
    )
    one(
        "mp-twice",
        "RFC 7606 3 g",
        family,
        lambda p, f=family: plus(reach(p, f), mp_reach(f, p.next_hop(f), p.nlri(f, NEW))),
        "3/1",
    )
    one(
        "mp-unreach-twice",
        "RFC 7606 3 g",
        family,
        lambda p, f=family: wire.update(mp_unreach(f, p.nlri(f, GOOD)) * 2),
        "3/1",
    )
    one(
        "mp-last-in-order",
        "RFC 7606 5.1",
        family,
        lambda p, f=family: wire.update(
            b"".join(each for name, each in p.attributes(f).items() if name != "next_hop")
            + mp_reach(f, p.next_hop(f), p.nlri(f, GOOD) + p.nlri(f, NEW))
        ),
        "accepted",
    )
    one("mp-without-nlri", "RFC 4760 3", family, lambda p, f=family: reach(p, f, nlri=b""), "ignored", *UNREADABLE)
    one(
        "mp-unreach-flags-transitive",
        "RFC 7606 3 c",
        family,
        lambda p, f=family: wire.update(mp_unreach(f, p.nlri(f, GOOD), flags=0xC0)),
        "withdrawn",
        "3/4",
    )
    one(
        "mp-unreach-right",
        "RFC 4760 4",
        family,
        lambda p, f=family: wire.update(mp_unreach(f, p.nlri(f, GOOD))),
        "withdrawn",
    )
    for size in (0, 1, 2):
        one(
            f"mp-unreach-of-{size}-octets",
            "RFC 4760 4, RFC 7606 7.12",
            family,
            lambda p, f=family, n=size: wire.update(attribute(NON_TRANSITIVE, 15, mp_unreach(f)[3 : 3 + n])),
            *CUT_OFF,
        )
    for size in (0, 2, 3, 4):
        one(
            f"mp-reach-of-{size}-octets",
            "RFC 7606 7.11",
            family,
            lambda p, f=family, n=size: wire.update(
                attribute(NON_TRANSITIVE, 14, mp_reach(f, p.next_hop(f), b"")[3 : 3 + n]) + _others(p, f)
            ),
            *CUT_OFF,
        )
    for reach_or_not in (True, False):
        one(
            f"mp-{'reach' if reach_or_not else 'unreach'}-nlri-cut-off",
            "RFC 7606 5.3",
            family,
            lambda p, f=family, r=reach_or_not: (
                reach(p, f, nlri=p.nlri(f, GOOD) + p.nlri(f, NEW)[:-1])
                if r
                else wire.update(mp_unreach(f, p.nlri(f, GOOD) + p.nlri(f, NEW)[:-1]))
            ),
            *UNREADABLE,
        )
    one(
        "mp-next-hop-length-overruns",
        "RFC 7606 7.11",
        family,
        lambda p, f=family: reach(p, f, next_hop_length=200),
        *CUT_OFF,
    )


def _others(place: Place, family: str) -> bytes:
    return b"".join(each for name, each in place.attributes(family).items() if name != "next_hop")


# Lengths of next hops (RFC 4760 section 3, RFC 2545, RFC 4364, RFC 4659, RFC 7432 section 9.2, RFC 4684)
NEXT_HOPS: dict[str, tuple[tuple[bytes, ...], tuple[int, ...]]] = {
    # those that are right, lengths that are not
    "ipv4": ((V4,), (0, 3, 5, 12, 17)),
    "ipv6": ((V6, V6 + LINK_LOCAL), (0, 4, 15, 17, 24, 33)),
    "vpnv4": ((NO_RD + V4,), (0, 4, 11, 13, 16)),
    "vpnv6": (
        (NO_RD + V6, NO_RD + V6 + NO_RD + LINK_LOCAL, NO_RD + b"\0" * 10 + b"\xff\xff" + V4),
        (0, 16, 23, 25, 32),
    ),
    "evpn": ((V4, V6), (0, 3, 5, 12, 17)),
    "rtc": ((V4, V6), (0, 3, 5)),
}
for family, (right, wrong) in NEXT_HOPS.items():
    for number, hop in enumerate(right):
        name = f"next-hop-of-{len(hop)}-octets{'-mapped' if number == 2 else ''}"
        one(name, "RFC 4760 3", family, lambda p, f=family, h=hop: reach(p, f, h), "accepted")
    for size in wrong:
        one(
            f"next-hop-of-{size}-octets",
            "RFC 7606 7.11",
            family,
            lambda p, f=family, n=size: reach(p, f, (NO_RD + V6 * 2)[:n]),
            *UNREADABLE,
            *CUT_OFF,
            # without a route distinguisher, as RFC 5549 had it, which RFC 8950 section 3 mends
            *(("accepted",) if (family, size) == ("vpnv4", 16) else ()),
        )
# IPv6 next hops of IPv4 routes (RFC 8950). The peer under test tells that it takes them, and section 4 asks no more of
# who sends one: it may be accepted also where the neighbour does not take them itself.
for family, hops in {"ipv4": (V6, V6 + LINK_LOCAL), "vpnv4": (NO_RD + V6, NO_RD + V6 + NO_RD + LINK_LOCAL)}.items():
    afi, safi = wire.FAMILIES[family]
    told = wire.capability(EXTENDED_NEXT_HOP, wire.u16(afi) + wire.u16(safi) + wire.u16(2))
    for hop in hops:
        for capable in (True, False):
            one(
                f"next-hop-of-{len(hop)}-octets-{'with' if capable else 'without'}-extended-next-hop",
                "RFC 8950 3, 4",
                family,
                lambda p, f=family, h=hop: reach(p, f, h),
                "accepted",
                *(() if capable else ("withdrawn", *UNREADABLE, *CUT_OFF)),
                capabilities=(told,) if capable else (),
                needs=(EXTENDED_NEXT_HOP,),
            )

# Families that were not agreed on (RFC 4760 section 8)
for family in ("ipv6", "vpnv4", "evpn"):
    for word in ("reach", "unreach"):
        add(
            message_case(
                f"mp-{word}-{family}-not-agreed",
                AREA,
                "RFC 4760 8",
                "established",
                lambda p, f=family, r=word: reach(p, f) if r == "reach" else p.withdraw(f, NEW),
                "stays",
                peering=attrs.evolve(EBGP, families=("ipv4",)),
            )
        )
for name, value in {
    "unknown-afi": b"\x12\x34\1\4" + V4 + b"\0\1\1",
    "unknown-safi": b"\0\1\xc8\4" + V4 + b"\0\1\1",
}.items():
    add(
        message_case(
            f"mp-reach-{name}",
            AREA,
            "RFC 4760 8",
            "established",
            lambda p, v=value: wire.update(attribute(NON_TRANSITIVE, 14, v) + _others(p, "ipv4")),
            "stays",
        )
    )

# Prefix lengths
PREFIXES: dict[str, list[tuple[str, bytes]]] = {
    "ipv4": [("33-bits", b"\x21" + bytes(5)), ("255-bits", b"\xff" + bytes(32))],
    "ipv6": [("129-bits", b"\x81" + bytes(17)), ("255-bits", b"\xff" + bytes(32))],
    "vpnv4": [
        ("121-bits", b"\x79" + bytes(16)),
        ("216-bits", b"\xd8" + bytes(27)),
        ("87-bits", b"\x57" + bytes(11)),
        ("24-bits", b"\x18" + bytes(3)),
        ("0-bits", b"\0"),
    ],
    "vpnv6": [("217-bits", b"\xd9" + bytes(28)), ("87-bits", b"\x57" + bytes(11)), ("0-bits", b"\0")],
    "rtc": [("97-bits", b"\x61" + bytes(13)), ("1-bit", b"\1" + bytes(1)), ("31-bits", b"\x1f" + bytes(4))],
}
for family, each in PREFIXES.items():
    for name, octets in each:
        for place_of in ("told", "withdrawn"):
            one(
                f"nlri-{place_of}-of-{name}",
                "RFC 7606 5.3",
                family,
                lambda p, f=family, o=octets, w=place_of: (
                    reach(p, f, nlri=p.nlri(f, GOOD) + o) if w == "told" else wire.update(mp_unreach(f, o))
                ),
                *UNREADABLE,
                *(("ignored",) if name in ("1-bit", "31-bits") else ()),  # its length tells where it ends
            )

# Labels (RFC 8277)
AREA = "labels"
LABELS = {
    "without-bottom-of-stack": b"\x00\x06\x40",
    "with-exp": b"\x00\x06\x4f",
    "explicit-null": b"\x00\x00\x01",
    "implicit-null": b"\x00\x00\x31",
    "highest": b"\xff\xff\xf1",
}
for family in ("vpnv4", "vpnv6"):
    plain = "ipv4" if family == "vpnv4" else "ipv6"
    for name, label in LABELS.items():
        one(
            f"label-{name}",
            "RFC 8277 2.2",
            family,
            lambda p, f=family, x=plain, o=label: reach(
                p, f, nlri=b"".join(wire.vpn_prefix(p.unique(n), p.token(x, n), o) for n in (GOOD, NEW))
            ),
            "accepted",
            area=AREA,
        )
    for name, label in {
        "800000": b"\x80\0\0",
        "000000": bytes(3),
        "of-another": b"\x01\x23\x41",
        "top": b"\xff" * 3,
    }.items():
        one(
            f"withdrawn-with-label-{name}",
            "RFC 8277 2.4",
            family,
            lambda p, f=family, x=plain, o=label: wire.update(
                mp_unreach(f, wire.vpn_prefix(p.unique(GOOD), p.token(x, GOOD), o))
            ),
            "withdrawn",
            area=AREA,
        )
    one(
        "label-changed",
        "RFC 8277 2.4",
        family,
        lambda p, f=family, x=plain: reach(
            p, f, nlri=b"".join(wire.vpn_prefix(p.unique(n), p.token(x, n), b"\0\x07\x71") for n in (GOOD, NEW))
        ),
        "accepted",
        area=AREA,
    )

# EVPN (RFC 7432 section 7, RFC 9136); what a route says of its length is known, so that it alone may be left out (5.4)
AREA = "EVPN"
LEFT_OUT = ("accepted", "withdrawn", *UNREADABLE)
ESI, TAG = bytes(10), bytes(4)


def beside(place: Place, octets: bytes) -> bytes:
    """An UPDATE with GOOD, a bad route, and NEW."""
    pmsi = attribute(OPTIONAL_TRANSITIVE, 22, b"\0\6" + wire.u24(100) + V4)
    made = reach(place, "evpn", nlri=place.nlri("evpn", GOOD) + octets + place.nlri("evpn", NEW))
    return plus(made, pmsi)


def bad_rd(place: Place) -> bytes:
    return wire.rd(place.unique(BAD))


EVPN: list[tuple[str, Callable[[Place], bytes]]] = [
    ("type-1-of-24-octets", lambda p: wire.evpn(1, bad_rd(p) + ESI + TAG + b"\0\0")),
    ("type-1-of-26-octets", lambda p: wire.evpn(1, bad_rd(p) + ESI + TAG + bytes(4))),
    ("type-2-of-32-octets", lambda p: wire.evpn(2, p.mac_route(BAD)[:-1])),
    ("type-2-of-35-octets", lambda p: wire.evpn(2, p.mac_route(BAD) + b"\0\0")),
    ("type-2-of-300-octets", lambda p: wire.evpn(2, p.mac_route(BAD) + bytes(200))),
    ("type-2-mac-of-40-bits", lambda p: wire.evpn(2, p.mac_route(BAD, mac_bits=40))),
    ("type-2-mac-of-0-bits", lambda p: wire.evpn(2, p.mac_route(BAD, mac_bits=0))),
    ("type-2-ip-of-31-bits", lambda p: wire.evpn(2, p.mac_route(BAD, address=V4, ip_bits=31))),
    ("type-2-ip-of-64-bits", lambda p: wire.evpn(2, p.mac_route(BAD, address=V6[:8], ip_bits=64))),
    ("type-2-ip-of-128-bits-in-4-octets", lambda p: wire.evpn(2, p.mac_route(BAD, address=V4, ip_bits=128))),
    ("type-2-ip-of-32-bits-missing", lambda p: wire.evpn(2, p.mac_route(BAD, ip_bits=32))),
    ("type-3-of-16-octets", lambda p: wire.evpn(3, bad_rd(p) + TAG + b"\x20" + V4[:3])),
    ("type-3-of-13-octets", lambda p: wire.evpn(3, bad_rd(p) + TAG + b"\0")),
    ("type-3-ip-of-33-bits", lambda p: wire.evpn(3, bad_rd(p) + TAG + b"\x21" + V4)),
    ("type-3-ip-of-128-bits-in-4-octets", lambda p: wire.evpn(3, bad_rd(p) + TAG + b"\x80" + V4)),
    ("type-4-of-22-octets", lambda p: wire.evpn(4, bad_rd(p) + ESI + b"\x20" + V4[:3])),
    ("type-4-ip-of-24-bits", lambda p: wire.evpn(4, bad_rd(p) + ESI + b"\x18" + V4)),
    ("type-5-of-33-octets", lambda p: wire.evpn(5, bad_rd(p) + ESI + TAG + b"\x18" + V4 + V4 + b"\0\1")),
    ("type-5-of-35-octets", lambda p: wire.evpn(5, bad_rd(p) + ESI + TAG + b"\x18" + V4 + V4 + bytes(4))),
    ("type-5-of-46-octets", lambda p: wire.evpn(5, bad_rd(p) + ESI + TAG + b"\x18" + V6 + V4 + bytes(3))),
    ("type-5-ipv4-of-33-bits", lambda p: wire.evpn(5, bad_rd(p) + ESI + TAG + b"\x21" + V4 + V4 + bytes(3))),
    ("type-5-ipv6-of-129-bits", lambda p: wire.evpn(5, bad_rd(p) + ESI + TAG + b"\x81" + V6 + V6 + bytes(3))),
    ("type-1-empty", lambda p: wire.evpn(1, b"")),
    ("type-2-empty", lambda p: wire.evpn(2, b"")),
    ("type-3-empty", lambda p: wire.evpn(3, b"")),
    ("type-5-of-7-octets", lambda p: wire.evpn(5, bytes(7))),
]
for name, octets in EVPN:
    one(
        name,
        "RFC 7432 7, RFC 9136 3.1, RFC 7606 5.3",
        "evpn",
        lambda p, o=octets: beside(p, o(p)),
        *LEFT_OUT,
        area=AREA,
    )
for kind in (0, 6, 8, 11, 200, 255):
    one(
        f"type-{kind}-unknown",
        "RFC 7606 5.4",
        "evpn",
        lambda p, k=kind: beside(p, wire.evpn(k, bad_rd(p) + bytes(10)) if k not in (6, 8) else wire.evpn(k, b"")),
        *(("accepted",) if kind not in (6, 8) else LEFT_OUT),
        area=AREA,
    )
one(
    "length-overruns",
    "RFC 7606 5.3",
    "evpn",
    lambda p: reach(p, "evpn", nlri=wire.evpn(2, p.mac_route(GOOD), length=200)),
    *UNREADABLE,
    area=AREA,
)
one(
    "type-without-length",
    "RFC 7606 5.3",
    "evpn",
    lambda p: reach(p, "evpn", nlri=p.nlri("evpn", GOOD) + b"\2"),
    *UNREADABLE,
    area=AREA,
)

RIGHT: list[tuple[str, Callable[[Place, int], bytes]]] = [
    ("type-1-per-evi", lambda p, n: wire.evpn(1, wire.rd(p.unique(n)) + b"\0" + bytes(8) + b"\1" + TAG + wire.u24(16))),
    (
        "type-1-per-es",
        lambda p, n: wire.evpn(1, wire.rd(p.unique(n)) + b"\0" + bytes(8) + b"\1" + b"\xff" * 4 + bytes(3)),
    ),
    ("type-2-with-ipv4", lambda p, n: wire.evpn(2, p.mac_route(n, address=V4))),
    ("type-2-with-ipv6", lambda p, n: wire.evpn(2, p.mac_route(n, address=V6))),
    ("type-2-with-two-labels", lambda p, n: wire.evpn(2, p.mac_route(n, address=V4) + wire.u24(5000))),
    ("type-2-with-esi", lambda p, n: wire.evpn(2, p.mac_route(n)[:8] + b"\0" + b"\1" * 9 + p.mac_route(n)[18:])),
    ("type-3-ipv4", lambda p, n: wire.evpn(3, wire.rd(p.unique(n)) + TAG + b"\x20" + V4)),
    ("type-3-ipv6", lambda p, n: wire.evpn(3, wire.rd(p.unique(n)) + TAG + b"\x80" + V6)),
    ("type-4-ipv4", lambda p, n: wire.evpn(4, wire.rd(p.unique(n)) + b"\0" + bytes(8) + b"\1" + b"\x20" + V4)),
    ("type-4-ipv6", lambda p, n: wire.evpn(4, wire.rd(p.unique(n)) + b"\0" + bytes(8) + b"\1" + b"\x80" + V6)),
    (
        "type-5-ipv4",
        lambda p, n: wire.evpn(
            5, wire.rd(p.unique(n)) + ESI + TAG + b"\x18" + b"\x0a\1\1\0" + bytes(4) + wire.u24(5000)
        ),
    ),
    (
        "type-5-ipv6",
        lambda p, n: wire.evpn(5, wire.rd(p.unique(n)) + ESI + TAG + b"\x40" + V6[:8] + bytes(24) + wire.u24(5000)),
    ),
    ("type-5-default", lambda p, n: wire.evpn(5, wire.rd(p.unique(n)) + ESI + TAG + b"\0" + bytes(8) + wire.u24(5000))),
]
for name, route in RIGHT:

    def said_right(place: Place, route: Callable[[Place, int], bytes] = route) -> bytes:
        pmsi = attribute(OPTIONAL_TRANSITIVE, 22, b"\0\6" + wire.u24(100) + V4)
        made = reach(place, "evpn", nlri=route(place, NEW))
        return plus(made, pmsi if route(place, NEW)[0] == 3 else b"")

    one(f"{name}-right", "RFC 7432 7, RFC 9136 3.1", "evpn", said_right, "accepted", area=AREA)
for size in (0, 1, 4):
    one(
        f"pmsi-tunnel-of-{size}-octets",
        "RFC 6514 5",
        "evpn",
        lambda p, n=size: plus(
            reach(
                p,
                "evpn",
                nlri=b"".join((p.nlri("evpn", GOOD), wire.evpn(3, wire.rd(p.unique(NEW)) + TAG + b"\x20" + V4))),
            ),
            attribute(OPTIONAL_TRANSITIVE, 22, b"\0\6\0\0"[:n]),
        ),
        "withdrawn",
        knows=22,
        area=AREA,
    )

# RT membership (RFC 4684 section 4)
AREA = "RT membership"
for name, octets in {
    "default": b"\0",
    "of-32-bits": b"\x20" + wire.u32(65001),
    "of-64-bits": b"\x40" + wire.u32(65001) + b"\0\2\xfc\0",
    "of-96-bits": b"\x60" + wire.u32(65001) + wire.route_target(77),
}.items():
    one(
        f"membership-{name}",
        "RFC 4684 4",
        "rtc",
        lambda p, o=octets: reach(p, "rtc", nlri=p.nlri("rtc", GOOD) + o + p.nlri("rtc", NEW)),
        "accepted",
        area=AREA,
    )

# Flow specifications (RFC 8955 sections 4 and 10, RFC 8956)
AREA = "flow specifications"
for family in ("ipv4-flowspec", "ipv6-flowspec"):
    one("flow-right", "RFC 8955 4", family, lambda p, f=family: reach(p, f), "accepted", area=AREA)
    one("flow-with-next-hop", "RFC 8955 4", family, lambda p, f=family: reach(p, f, V4), "accepted", area=AREA)
    one(
        "flow-length-of-2-octets",
        "RFC 8955 4.1",
        family,
        lambda p, f=family: reach(p, f, nlri=_long(p, f)),
        "accepted",
        area=AREA,
    )
    one(
        "flow-unreach",
        "RFC 8955 4",
        family,
        lambda p, f=family: wire.update(mp_unreach(f, p.nlri(f, GOOD))),
        "withdrawn",
        area=AREA,
    )
    one(
        "flow-cut-off",
        "RFC 8955 10",
        family,
        lambda p, f=family: reach(p, f, nlri=p.nlri(f, GOOD) + p.nlri(f, NEW)[:-1]),
        *UNREADABLE,
        area=AREA,
    )
    BROKEN = {
        "empty": b"",
        "component-0": b"\0\1\1",
        "component-99": b"\x63\x81\1",
        "operator-without-value": b"\3\x81",
        "operator-never-ends": b"\3\1\6",
        "wrong-order": b"\5\x81\x50\3\x81\6",
        "component-twice": b"\3\x81\6\3\x81\x11",
        "prefix-too-long": b"\1\xff\0\1\2\3\4",
    }
    for name, octets in BROKEN.items():
        one(
            f"flow-{name}",
            "RFC 8955 4.2, 10",
            family,
            lambda p, f=family, o=octets: reach(p, f, nlri=p.nlri(f, GOOD) + wire.u8(len(o)) + o + p.nlri(f, NEW)),
            "withdrawn",
            "accepted",
            *UNREADABLE,
            area=AREA,
        )


def _long(place: Place, family: str) -> bytes:
    """GOOD and NEW, the length of each in two octets."""
    return b"".join(b"\xf0" + each for each in (place.nlri(family, GOOD), place.nlri(family, NEW)))
