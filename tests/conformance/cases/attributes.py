"""Path attributes in UPDATE: flags, lengths, contents, duplicates, absence, order (RFC 4271 6.3, RFC 7606).

Each line of a table is a case for IPv4 over eBGP and one for VPNv4 over iBGP, unless it says otherwise: the attributes
travel with NLRI in the one place and with MP_REACH_NLRI in the other.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from tests.conformance import wire
from tests.conformance.case import EBGP, IBGP, add, update_case
from tests.conformance.place import EBGP_AS, GOOD, NEW, PEER_AS, PEER_ROUTER_ID, Place
from tests.conformance.wire import NON_TRANSITIVE, OPTIONAL_TRANSITIVE, WELL_KNOWN, attribute, segment

Change = dict[str, bytes | None]
BOTH, EXTERNAL, INTERNAL, EXTERNAL_VPN = (
    (("ipv4", EBGP), ("vpnv4", IBGP)),
    (("ipv4", EBGP),),
    (("ipv4", IBGP), ("vpnv4", IBGP)),
    (("ipv4", EBGP), ("vpnv4", EBGP)),
)
WITHDRAWN, ACCEPTED, IGNORED = "withdrawn", "accepted", "ignored"
TARGET = wire.route_target(1)


def changed(name: str, value: bytes | None, **more: bytes | None) -> Change:
    return {name: value, **more}


def row(
    area: str,
    name: str,
    rfc: str,
    change: Change | Callable[[Place], Change],
    *reactions: str,
    sides: tuple[tuple[str, object], ...] = BOTH,
    knows: int = 0,
    needs_option: str = "",
) -> None:
    """A case for each side: GOOD and NEW are told with changed attributes."""
    for family, peering in sides:
        external = not peering.ibgp  # type: ignore[attr-defined]

        def said(place: Place, family: str = family) -> bytes:
            made = change(place) if callable(change) else change
            return place.announce(family, GOOD, NEW, change=made)

        add(
            update_case(
                f"{name}-{family}-{'ebgp' if external else 'ibgp'}",
                area,
                rfc,
                family,
                said,
                *reactions,
                peering=peering,  # type: ignore[arg-type]
                knows=knows,
                needs_option=needs_option,
            )
        )


# Flags (RFC 7606 section 3 c): Optional or Transitive in conflict with the attribute; 3 f has errors of
# ATOMIC_AGGREGATE and AGGREGATOR discarded, so that both are right there
AREA = "attribute flags"
ORIGIN = b"\0"
FLAGS: list[tuple[str, str, int, int, bytes, tuple[str, ...], object]] = [
    # name, key of Place.attributes, code, right flags, value, reactions, sides
    ("origin", "origin", 1, WELL_KNOWN, ORIGIN, (WITHDRAWN,), BOTH),
    ("as-path", "as_path", 2, WELL_KNOWN, segment(2, [EBGP_AS, 65002]), (WITHDRAWN,), BOTH),
    ("next-hop", "next_hop", 3, WELL_KNOWN, wire.ip("198.51.100.1"), (WITHDRAWN,), EXTERNAL),
    ("med", "med", 4, NON_TRANSITIVE, wire.u32(5), (WITHDRAWN,), BOTH),
    ("local-pref", "local_pref", 5, WELL_KNOWN, wire.u32(100), (WITHDRAWN,), INTERNAL),
    ("atomic-aggregate", "atomic", 6, WELL_KNOWN, b"", (WITHDRAWN, ACCEPTED), BOTH),
    (
        "aggregator",
        "aggregator",
        7,
        OPTIONAL_TRANSITIVE,
        wire.u32(65002) + wire.ip("192.0.2.9"),
        (WITHDRAWN, ACCEPTED),
        BOTH,
    ),
    ("communities", "communities", 8, OPTIONAL_TRANSITIVE, wire.u32(0xFDE90001), (WITHDRAWN,), BOTH),
    ("originator-id", "originator", 9, NON_TRANSITIVE, wire.ip("192.0.2.9"), (WITHDRAWN,), INTERNAL),
    ("cluster-list", "cluster", 10, NON_TRANSITIVE, wire.ip("192.0.2.9"), (WITHDRAWN,), INTERNAL),
    ("ext-communities", "ext_communities", 16, OPTIONAL_TRANSITIVE, TARGET, (WITHDRAWN,), BOTH),
    ("large-communities", "large", 32, OPTIONAL_TRANSITIVE, bytes(12), (WITHDRAWN,), BOTH),
]
for name, key, code, right, value, reactions, sides in FLAGS:
    for bit, word in ((0x80, "optional"), (0x40, "transitive")):
        row(
            AREA,
            f"flags-{name}-{word}-inverted",
            "RFC 7606 3 c",
            changed(key, attribute(right ^ bit, code, value)),
            *reactions,
            sides=sides,  # type: ignore[arg-type]
        )
    if right & 0x40 and not right & 0x80:
        made = attribute(right ^ 0x20, code, value)
        row(AREA, f"flags-{name}-partial", "RFC 4271 4.3", changed(key, made), ACCEPTED, WITHDRAWN, sides=sides)  # type: ignore[arg-type]
row(AREA, "flags-reserved-bits", "RFC 4271 4.3", {"origin": attribute(WELL_KNOWN | 0xF, 1, b"\0")}, ACCEPTED)
row(AREA, "flags-extended-length-origin", "RFC 4271 4.3", {"origin": attribute(0x50, 1, b"\0")}, ACCEPTED)
row(AREA, "flags-extended-length-med", "RFC 4271 4.3", {"med": attribute(0x90, 4, wire.u32(5))}, ACCEPTED)
for bit, word in ((0x80, "optional"), (0x40, "transitive")):
    for code, value, name in (
        (5, wire.u32(9), "local-pref"),
        (9, bytes(4), "originator-id"),
        (10, bytes(4), "cluster"),
    ):
        right = WELL_KNOWN if code == 5 else NON_TRANSITIVE
        row(
            AREA,
            f"flags-{name}-from-outside-{word}-inverted",
            "RFC 7606 7.5, 7.9, 7.10",
            {"other": attribute(right ^ bit, code, value)},
            ACCEPTED,
            WITHDRAWN,
            sides=EXTERNAL,
        )

# Lengths
AREA = "attribute lengths"
LENGTHS: list[tuple[str, str, int, int, tuple[int, ...], str, str, object, int]] = [
    ("origin", "origin", WELL_KNOWN, 1, (0, 2, 300), "RFC 7606 7.1", WITHDRAWN, BOTH, 0),
    ("next-hop", "next_hop", WELL_KNOWN, 3, (0, 3, 5, 16), "RFC 7606 7.3", WITHDRAWN, EXTERNAL, 0),
    ("med", "med", NON_TRANSITIVE, 4, (0, 3, 5), "RFC 7606 7.4", WITHDRAWN, BOTH, 0),
    ("local-pref", "local_pref", WELL_KNOWN, 5, (0, 3, 5), "RFC 7606 7.5", WITHDRAWN, INTERNAL, 0),
    ("local-pref-from-outside", "local_pref", WELL_KNOWN, 5, (0, 3, 5), "RFC 7606 7.5", ACCEPTED, EXTERNAL, 0),
    ("atomic-aggregate", "atomic", WELL_KNOWN, 6, (1, 4), "RFC 7606 7.6", ACCEPTED, BOTH, 0),
    ("aggregator", "aggregator", OPTIONAL_TRANSITIVE, 7, (0, 6, 7, 9), "RFC 7606 7.7", ACCEPTED, BOTH, 0),
    ("communities", "communities", OPTIONAL_TRANSITIVE, 8, (0, 3, 5, 6), "RFC 7606 7.8", WITHDRAWN, BOTH, 0),
    ("originator-id", "originator", NON_TRANSITIVE, 9, (0, 3, 5), "RFC 7606 7.9", WITHDRAWN, INTERNAL, 0),
    ("originator-id-from-outside", "originator", NON_TRANSITIVE, 9, (0, 3), "RFC 7606 7.9", ACCEPTED, EXTERNAL, 0),
    ("cluster-list", "cluster", NON_TRANSITIVE, 10, (0, 3, 5), "RFC 7606 7.10", WITHDRAWN, INTERNAL, 0),
    ("cluster-list-from-outside", "cluster", NON_TRANSITIVE, 10, (0, 3), "RFC 7606 7.10", ACCEPTED, EXTERNAL, 0),
    ("ext-communities", "ext_communities", OPTIONAL_TRANSITIVE, 16, (0, 7, 9, 12), "RFC 7606 7.14", WITHDRAWN, BOTH, 0),
    ("ipv6-ext-communities", "ext6", OPTIONAL_TRANSITIVE, 25, (0, 19, 21), "RFC 7606 7.15", WITHDRAWN, BOTH, 25),
    ("large-communities", "large", OPTIONAL_TRANSITIVE, 32, (0, 11, 13), "RFC 8092 6", WITHDRAWN, BOTH, 32),
    ("otc", "otc", OPTIONAL_TRANSITIVE, 35, (0, 3, 5, 8), "RFC 9234 5", WITHDRAWN, BOTH, 35),
    ("as4-path-from-new-speaker", "as4_path", OPTIONAL_TRANSITIVE, 17, (0, 3, 7), "RFC 6793 6", ACCEPTED, EXTERNAL, 0),
    (
        "as4-aggregator-from-new",
        "as4_aggregator",
        OPTIONAL_TRANSITIVE,
        18,
        (0, 7, 9),
        "RFC 6793 6",
        ACCEPTED,
        EXTERNAL,
        0,
    ),
    ("aigp", "aigp", NON_TRANSITIVE, 26, (0, 1, 2, 10), "RFC 7311 3", ACCEPTED, EXTERNAL, 26),
]
for name, key, flags, code, sizes, rfc, reaction, sides, knows in LENGTHS:
    for size in sizes:
        row(
            AREA,
            f"length-{name}-{size}",
            rfc,
            changed(key, attribute(flags, code, b"\1" * size)),
            reaction,
            sides=sides,  # type: ignore[arg-type]
            knows=knows,
        )
# One that says more octets than there are in the attributes field (RFC 7606 section 4)
row(
    AREA,
    "length-last-overruns-by-1",
    "RFC 7606 4",
    {"last": attribute(NON_TRANSITIVE, 4, b"\0\0\0", length=4)},
    WITHDRAWN,
)
row(
    AREA,
    "length-last-overruns-far",
    "RFC 7606 4",
    {"last": attribute(OPTIONAL_TRANSITIVE, 200, b"\0", length=250)},
    WITHDRAWN,
)
row(AREA, "length-last-is-flags-only", "RFC 7606 4", {"last": b"\xc0"}, WITHDRAWN)
row(AREA, "length-last-without-length", "RFC 7606 4", {"last": b"\xc0\xc8"}, WITHDRAWN)
row(AREA, "length-last-extended-cut-off", "RFC 7606 4", {"last": b"\xd0\xc8\0"}, WITHDRAWN)

# Contents
AREA = "attribute contents"
for value in (3, 4, 128, 255):
    row(AREA, f"origin-value-{value}", "RFC 7606 7.1", {"origin": attribute(WELL_KNOWN, 1, bytes((value,)))}, WITHDRAWN)
for value in (1, 2):
    row(AREA, f"origin-value-{value}", "RFC 4271 4.3", {"origin": attribute(WELL_KNOWN, 1, bytes((value,)))}, ACCEPTED)


def as_path(octets: bytes) -> Change:
    return {"as_path": attribute(WELL_KNOWN, 2, octets)}


START = segment(2, [EBGP_AS])
AS_PATHS: list[tuple[str, str, bytes, tuple[str, ...], object]] = [
    ("segment-type-0", "RFC 7606 7.2", START + segment(0, [65002]), (WITHDRAWN,), BOTH),
    ("segment-type-5", "RFC 7606 7.2", START + segment(5, [65002]), (WITHDRAWN,), BOTH),
    ("segment-type-255", "RFC 7606 7.2", segment(255, [65002]), (WITHDRAWN,), BOTH),
    ("segment-empty", "RFC 7606 7.2", START + segment(2, []), (WITHDRAWN,), BOTH),
    ("segment-overruns", "RFC 7606 7.2", segment(2, [EBGP_AS], count=2), (WITHDRAWN,), BOTH),
    ("segment-far-overrun", "RFC 7606 7.2", segment(2, [EBGP_AS], count=255), (WITHDRAWN,), BOTH),
    ("one-octet-left", "RFC 7606 7.2", START + b"\2", (WITHDRAWN,), BOTH),
    ("odd-octets", "RFC 7606 7.2", START + b"\2\1\0\0\1", (WITHDRAWN,), BOTH),
    ("of-2-octet-numbers", "RFC 6793 4.1", segment(2, [EBGP_AS], size=2), (WITHDRAWN,), BOTH),
    ("as-0", "RFC 7607 2", segment(2, [EBGP_AS, 0]), (WITHDRAWN,), BOTH),
    ("confederation-sequence", "RFC 5065 5", segment(3, [65002]) + START, (WITHDRAWN,), EXTERNAL),
    ("confederation-set", "RFC 5065 5", START + segment(4, [65002]), (WITHDRAWN,), EXTERNAL),
    ("our-as", "RFC 4271 9.1.2", segment(2, [EBGP_AS, PEER_AS]), (WITHDRAWN,), EXTERNAL),
    ("our-as-in-set", "RFC 4271 9.1.2", START + segment(1, [65002, PEER_AS]), (WITHDRAWN,), EXTERNAL),
    ("as-set", "RFC 6472, RFC 9774", START + segment(1, [65002, 65003]), (ACCEPTED, WITHDRAWN), BOTH),
    ("255-numbers", "RFC 4271 4.3", segment(2, [EBGP_AS] * 255), (ACCEPTED,), BOTH),
    ("600-numbers", "RFC 4271 4.3", segment(2, [EBGP_AS] * 255) * 2 + segment(2, [EBGP_AS] * 90), (ACCEPTED,), BOTH),
    ("40-segments", "RFC 4271 4.3", START * 40, (ACCEPTED,), BOTH),
    ("4-octet-numbers", "RFC 6793 4.1", segment(2, [EBGP_AS, 4200000000, 23456]), (ACCEPTED,), BOTH),
    ("empty-from-outside", "RFC 4271 6.3", b"", (ACCEPTED, WITHDRAWN), EXTERNAL),
    ("of-another-neighbour", "RFC 4271 6.3", segment(2, [65009]), (ACCEPTED, WITHDRAWN), EXTERNAL),
]
for name, rfc, octets, reactions, sides in AS_PATHS:
    row(AREA, f"as-path-{name}", rfc, as_path(octets), *reactions, sides=sides)  # type: ignore[arg-type]
for text in ("0.0.0.0", "224.0.0.1", "255.255.255.255"):
    row(
        AREA,
        f"next-hop-{text}",
        "RFC 4271 6.3",
        {"next_hop": attribute(WELL_KNOWN, 3, wire.ip(text))},
        WITHDRAWN,
        IGNORED,
        sides=EXTERNAL,
    )
row(
    AREA,
    "local-pref-from-outside",
    "RFC 4271 5.1.5",
    {"local_pref": attribute(WELL_KNOWN, 5, wire.u32(7))},
    ACCEPTED,
    sides=EXTERNAL,
)
row(
    AREA,
    "aggregator-as-0",
    "RFC 7607 2",
    {"a": attribute(OPTIONAL_TRANSITIVE, 7, wire.u32(0) + wire.ip("192.0.2.9"))},
    ACCEPTED,
)
row(AREA, "med-highest", "RFC 4271 5.1.4", {"med": attribute(NON_TRANSITIVE, 4, b"\xff" * 4)}, ACCEPTED)
row(AREA, "communities-200", "RFC 1997", {"c": attribute(OPTIONAL_TRANSITIVE, 8, wire.u32(0xFDE90001) * 200)}, ACCEPTED)
row(
    AREA,
    "communities-unknown-well-known",
    "RFC 1997",
    {"c": attribute(OPTIONAL_TRANSITIVE, 8, b"\xff\xff\xff\x77")},
    ACCEPTED,
)
row(
    AREA,
    "ext-communities-unknown",
    "RFC 4360 6",
    {"ext_communities": attribute(OPTIONAL_TRANSITIVE, 16, TARGET + b"\x3f\xff" + bytes(6) + b"\xff" * 8)},
    ACCEPTED,
)
row(
    AREA,
    "ext-communities-100",
    "RFC 4360 2",
    {"ext_communities": attribute(OPTIONAL_TRANSITIVE, 16, TARGET * 100)},
    ACCEPTED,
)
row(
    AREA,
    "large-communities-repeated",
    "RFC 8092 3",
    {"large": attribute(OPTIONAL_TRANSITIVE, 32, bytes(12) * 20)},
    ACCEPTED,
)
row(AREA, "otc-of-the-sender", "RFC 9234 5", {"otc": attribute(OPTIONAL_TRANSITIVE, 35, wire.u32(EBGP_AS))}, ACCEPTED)

# Loops in iBGP (RFC 4456 section 8)
row(
    AREA,
    "originator-id-ours",
    "RFC 4456 8",
    {"o": attribute(NON_TRANSITIVE, 9, PEER_ROUTER_ID)},
    WITHDRAWN,
    IGNORED,
    sides=INTERNAL,
)
row(
    AREA,
    "originator-id-other",
    "RFC 4456 8",
    {"o": attribute(NON_TRANSITIVE, 9, wire.ip("192.0.2.9"))},
    ACCEPTED,
    sides=INTERNAL,
)
CLIENT = attrs.evolve(IBGP, client=True)
row(
    AREA,
    "cluster-list-ours",
    "RFC 4456 8",
    {"o": attribute(NON_TRANSITIVE, 9, wire.ip("192.0.2.9")), "c": attribute(NON_TRANSITIVE, 10, PEER_ROUTER_ID)},
    WITHDRAWN,
    IGNORED,
    sides=(("ipv4", CLIENT), ("vpnv4", CLIENT)),
    needs_option="client",
)
row(
    AREA,
    "cluster-list-of-63",
    "RFC 4456 8",
    {
        "o": attribute(NON_TRANSITIVE, 9, wire.ip("192.0.2.9")),
        "c": attribute(NON_TRANSITIVE, 10, wire.ip("192.0.2.8") * 63),
    },
    ACCEPTED,
    sides=INTERNAL,
)

# Missing, twice, order, unknown
AREA = "attributes missing, twice, unknown"
row(AREA, "missing-origin", "RFC 7606 3 d", {"origin": None}, WITHDRAWN)
row(AREA, "missing-as-path", "RFC 7606 3 d", {"as_path": None}, WITHDRAWN)
row(AREA, "missing-next-hop", "RFC 7606 3 d", {"next_hop": None}, WITHDRAWN, sides=EXTERNAL)
row(
    AREA,
    "missing-all",
    "RFC 7606 3 d",
    {"origin": None, "as_path": None, "next_hop": None, "local_pref": None},
    WITHDRAWN,
)
row(AREA, "missing-local-pref", "RFC 4271 5.1.5", {"local_pref": None}, ACCEPTED, WITHDRAWN, sides=INTERNAL)
AGAIN: list[tuple[str, Change, object]] = [
    ("origin", {"again": attribute(WELL_KNOWN, 1, b"\2")}, BOTH),
    ("origin-malformed", {"again": attribute(WELL_KNOWN, 1, b"\7\7")}, BOTH),
    ("as-path", {"again": attribute(WELL_KNOWN, 2, segment(2, [EBGP_AS, 65002]))}, BOTH),
    ("as-path-malformed", {"again": attribute(WELL_KNOWN, 2, b"\7")}, BOTH),
    ("next-hop", {"again": attribute(WELL_KNOWN, 3, wire.ip("198.51.100.2"))}, EXTERNAL),
    ("local-pref-malformed", {"again": attribute(WELL_KNOWN, 5, b"")}, INTERNAL),
    (
        "communities",
        {"c": attribute(OPTIONAL_TRANSITIVE, 8, bytes(4)), "d": attribute(OPTIONAL_TRANSITIVE, 8, bytes(3))},
        BOTH,
    ),
    (
        "unknown",
        {"c": attribute(OPTIONAL_TRANSITIVE, 200, bytes(4)), "d": attribute(OPTIONAL_TRANSITIVE, 200, b"")},
        BOTH,
    ),
]
for name, change, sides in AGAIN:
    row(AREA, f"twice-{name}", "RFC 7606 3 g", change, ACCEPTED, sides=sides)  # type: ignore[arg-type]


def reverse(place: Place) -> Change:
    """The attributes in the reverse order: all taken out, and told anew by other names."""
    family = place.peering.families[-1]
    made = place.attributes(family)
    return dict.fromkeys(made) | {f"{name} again": made[name] for name in reversed(made)}


row(AREA, "order-reversed", "RFC 4271 5", reverse, ACCEPTED)
for flags, name in ((0x40, "well-known"), (0x60, "well-known-partial"), (0x00, "well-known-not-transitive")):
    for code in (200, 255):
        row(AREA, f"unknown-{name}-{code}", "RFC 4271 6.3", {"unknown": attribute(flags, code, b"\1\2")}, "3/2")
for flags, name in (
    (0xC0, "transitive"),
    (0xE0, "transitive-partial"),
    (0x80, "non-transitive"),
    (0xA0, "non-transitive-partial"),
):
    for code, size in ((200, 4), (255, 0), (99, 1500)):
        row(
            AREA,
            f"unknown-optional-{name}-{code}-of-{size}-octets",
            "RFC 4271 5, 9",
            {"unknown": attribute(flags, code, bytes(size))},
            ACCEPTED,
        )
row(
    AREA,
    "unknown-optional-20",
    "RFC 4271 9",
    {f"u{n}": attribute(0xC0, 210 + n, bytes(n)) for n in range(20)},
    ACCEPTED,
)
row(AREA, "unknown-optional-0", "RFC 4271 9", {"unknown": attribute(0xC0, 0, b"\1")}, ACCEPTED)

# Without the capability for 4-octet AS numbers (RFC 6793)
AREA = "2-octet AS numbers"
OLD = segment(2, [EBGP_AS], size=2)
AS4: list[tuple[str, str, Change, tuple[str, ...]]] = [
    ("right", "RFC 6793 4.2.2", {}, (ACCEPTED,)),
    ("as-path-of-4-octet-numbers", "RFC 7606 7.2", as_path(segment(2, [EBGP_AS])), (WITHDRAWN,)),
    (
        "as4-path",
        "RFC 6793 4.2.3",
        {
            "as_path": attribute(WELL_KNOWN, 2, segment(2, [EBGP_AS, 23456], size=2)),
            "a": attribute(0xC0, 17, segment(2, [4200000000])),
        },
        (ACCEPTED,),
    ),
    ("as4-path-longer", "RFC 6793 4.2.3", {"a": attribute(0xC0, 17, segment(2, [4200000000] * 9))}, (ACCEPTED,)),
    ("as4-path-odd", "RFC 6793 6", {"a": attribute(0xC0, 17, b"\2\1\0")}, (ACCEPTED,)),
    ("as4-path-overrun", "RFC 6793 6", {"a": attribute(0xC0, 17, segment(2, [1], count=9))}, (ACCEPTED,)),
    ("as4-path-segment-empty", "RFC 6793 6", {"a": attribute(0xC0, 17, segment(2, []))}, (ACCEPTED,)),
    ("as4-path-segment-type-9", "RFC 6793 6", {"a": attribute(0xC0, 17, segment(9, [1]))}, (ACCEPTED,)),
    ("as4-path-confederation", "RFC 6793 6", {"a": attribute(0xC0, 17, segment(3, [1]))}, (ACCEPTED,)),
    ("aggregator-6", "RFC 7606 7.7", {"a": attribute(0xC0, 7, wire.u16(1) + bytes(4))}, (ACCEPTED,)),
    ("aggregator-8", "RFC 7606 7.7", {"a": attribute(0xC0, 7, wire.u32(1) + bytes(4))}, (ACCEPTED,)),
    (
        "as4-aggregator",
        "RFC 6793 4.2.3",
        {"a": attribute(0xC0, 7, wire.u16(23456) + bytes(4)), "b": attribute(0xC0, 18, bytes(8))},
        (ACCEPTED,),
    ),
    ("as4-aggregator-of-7-octets", "RFC 6793 6", {"b": attribute(0xC0, 18, bytes(7))}, (ACCEPTED,)),
]
for name, rfc, change, reactions in AS4:

    def said_as2(place: Place, change: Change = change) -> bytes:
        right: Change = {"as_path": attribute(WELL_KNOWN, 2, OLD)}
        return place.announce("ipv4", GOOD, NEW, change=right | change)

    add(update_case(f"as2-{name}-ipv4-ebgp", AREA, rfc, "ipv4", said_as2, *reactions, left_out=(65,)))
