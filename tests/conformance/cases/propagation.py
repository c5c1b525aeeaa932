"""What a route reflector passes on: attributes kept, discarded, added; flags (RFC 4271 section 5, RFC 4456 section 8).

The case is a client, and so is the observer. A malformed attribute that was to be discarded must not be there (RFC 7606
section 2); that the route stays is not enough.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import wire
from tests.conformance.case import Case, add
from tests.conformance.place import PEER_ROUTER_ID, Peering, Place
from tests.conformance.session import Failed
from tests.conformance.wire import NON_TRANSITIVE, OPTIONAL_TRANSITIVE, WELL_KNOWN, attribute

AREA = "passing on"
Wanted = Callable[[Place, dict[int, bytes]], bool]


def check(
    name: str,
    rfc: str,
    change: dict[str, bytes | None],
    wanted: Wanted,
    *,
    families: tuple[str, ...] = ("ipv4", "vpnv4"),
    external: bool = False,
    knows: int = 0,
) -> None:
    """A case for each family: a route with changed attributes is told, and what the observer hears looked at."""
    for family in families:

        async def story(place: Place, family: str = family) -> None:
            session = await place.establish()
            await session.send(place.announce(family, 1, change=change))
            await place.taken(family, 1)
            found = await place.passed_on(family, 1)
            if not wanted(place, found):
                raise Failed("passed on as " + ", ".join(f"{code}:{value.hex()}" for code, value in found.items()))

        add(
            Case(
                f"passed-on-{name}-{family}",
                AREA,
                rfc,
                story,
                Peering(ibgp=not external, families=families, client=not external),
                families=frozenset((family,)),
                knows=knows,
                needs_option="client",
            )
        )


def has(code: int, flags: int, value: bytes) -> Wanted:
    """The attribute is there, with these flags but for that of an extended length."""
    return lambda place, found: code in found and found[code][0] & ~wire.EXTENDED == flags and found[code][1:] == value


def has_not(*codes: int) -> Wanted:
    return lambda place, found: not set(codes) & found.keys()


ID = wire.ip("192.0.2.9")
PARTIAL = OPTIONAL_TRANSITIVE | wire.PARTIAL
AGGREGATOR = wire.u32(65002) + ID
KEPT: list[tuple[str, str, int, int, bytes, int]] = [
    ("med", "RFC 4271 5.1.4", 4, NON_TRANSITIVE, wire.u32(77), 0),
    ("local-pref", "RFC 4271 5.1.5", 5, WELL_KNOWN, wire.u32(177), 0),
    ("atomic-aggregate", "RFC 4271 5.1.6", 6, WELL_KNOWN, b"", 0),
    ("aggregator", "RFC 4271 5.1.7", 7, OPTIONAL_TRANSITIVE, AGGREGATOR, 0),
    ("communities", "RFC 1997", 8, OPTIONAL_TRANSITIVE, wire.u32(0xFDE90001) + wire.u32(0xFDE90002), 0),
    ("large-communities", "RFC 8092 3", 32, OPTIONAL_TRANSITIVE, wire.u32(1) + wire.u32(2) + wire.u32(3), 32),
    ("otc", "RFC 9234 5", 35, OPTIONAL_TRANSITIVE, wire.u32(65010), 35),
    ("origin-incomplete", "RFC 4271 5.1.1", 1, WELL_KNOWN, b"\2", 0),
    ("as-path", "RFC 4271 5.1.2", 2, WELL_KNOWN, wire.segment(2, [4200000000, 65002]), 0),
]
for name, rfc, code, flags, value, knows in KEPT:
    key = {1: "origin", 2: "as_path", 5: "local_pref"}.get(code, "more")
    check(f"{name}-kept", rfc, {key: attribute(flags, code, value)}, has(code, flags, value), knows=knows)
check(
    "unknown-transitive-gets-partial",
    "RFC 4271 5",
    {"more": attribute(OPTIONAL_TRANSITIVE, 230, b"\1\2\3")},
    has(230, PARTIAL, b"\1\2\3"),
)
check(
    "unknown-transitive-of-1000-octets",
    "RFC 4271 5",
    {"more": attribute(OPTIONAL_TRANSITIVE, 230, b"\7" * 1000)},
    has(230, PARTIAL, b"\7" * 1000),
)
check(
    "partial-stays",
    "RFC 4271 5",
    {"more": attribute(PARTIAL, 8, wire.u32(0xFDE90001))},
    has(8, PARTIAL, wire.u32(0xFDE90001)),
)
check("unknown-non-transitive-not", "RFC 4271 5", {"more": attribute(NON_TRANSITIVE, 230, b"\1")}, has_not(230))
check("unknown-non-transitive-partial-not", "RFC 4271 5", {"more": attribute(0xA0, 230, b"\1")}, has_not(230))
check("malformed-atomic-aggregate-not", "RFC 7606 7.6", {"more": attribute(WELL_KNOWN, 6, b"\1")}, has_not(6))
check("malformed-aggregator-not", "RFC 7606 7.7", {"more": attribute(OPTIONAL_TRANSITIVE, 7, b"\1" * 7)}, has_not(7))
check("aggregator-of-as-0-not", "RFC 7607 2", {"more": attribute(OPTIONAL_TRANSITIVE, 7, bytes(4) + ID)}, has_not(7))
check(
    "as4-path-of-new-speaker-not",
    "RFC 6793 4.1",
    {"more": attribute(OPTIONAL_TRANSITIVE, 17, wire.segment(2, [65002]))},
    has_not(17),
)
check(
    "as4-aggregator-of-new-speaker-not",
    "RFC 6793 4.1",
    {"more": attribute(OPTIONAL_TRANSITIVE, 18, AGGREGATOR)},
    has_not(18),
)
check(
    "second-of-two-not",
    "RFC 7606 3 g",
    {"a": attribute(NON_TRANSITIVE, 4, wire.u32(1)), "b": attribute(NON_TRANSITIVE, 4, wire.u32(2))},
    has(4, NON_TRANSITIVE, wire.u32(1)),
)
check(
    "flags-made-right",
    "RFC 4271 4.3",
    {"more": attribute(NON_TRANSITIVE | 0xF, 4, wire.u32(1))},
    has(4, NON_TRANSITIVE, wire.u32(1)),
)


def reflected(place: Place, found: dict[int, bytes]) -> bool:
    return found.get(9) == b"\x80" + place.router_id and found.get(10) == b"\x80" + PEER_ROUTER_ID


check("originator-id-and-cluster-list", "RFC 4456 8", {}, reflected)
check(
    "originator-id-kept-cluster-list-prepended",
    "RFC 4456 8",
    {"a": attribute(NON_TRANSITIVE, 9, ID), "b": attribute(NON_TRANSITIVE, 10, wire.ip("192.0.2.8"))},
    lambda place, found: (
        found.get(9) == b"\x80" + ID and found.get(10) == b"\x80" + PEER_ROUTER_ID + wire.ip("192.0.2.8")
    ),
)
check(
    "local-pref-of-ebgp-not",
    "RFC 4271 5.1.5",
    {"local_pref": attribute(WELL_KNOWN, 5, wire.u32(7))},
    lambda p, found: found.get(5, b"")[1:] != wire.u32(7),
    external=True,
)
check("local-pref-added", "RFC 4271 5.1.5", {}, lambda p, found: len(found.get(5, b"")) == 5, external=True)
check(
    "originator-id-of-ebgp-not",
    "RFC 7606 7.9",
    {"more": attribute(NON_TRANSITIVE, 9, ID)},
    lambda p, found: ID not in found.get(9, b""),
    external=True,
)
check(
    "cluster-list-of-ebgp-not",
    "RFC 7606 7.10",
    {"more": attribute(NON_TRANSITIVE, 10, ID)},
    lambda p, found: ID not in found.get(10, b""),
    external=True,
)
check(
    "next-hop-kept",
    "RFC 4456 10",
    {},
    lambda p, found: wire.ip("198.51.100.1") in found.get(3, b"") + found.get(14, b""),
)
check(
    "evpn-communities-kept",
    "RFC 4360 6",
    {
        "ext_communities": attribute(
            OPTIONAL_TRANSITIVE, 16, wire.route_target(1) + b"\x06\0\1\0\0\0\0\7" + b"\x03\x0c\0\0\0\0\0\x08"
        )
    },
    lambda p, found: all(each in found.get(16, b"") for each in (wire.route_target(1), b"\x06\0\1\0\0\0\0\7")),
    families=("evpn",),
)


async def _no_advertise(place: Place) -> None:
    session = await place.establish()
    change: dict[str, bytes | None] = {"more": attribute(OPTIONAL_TRANSITIVE, 8, wire.u32(0xFFFFFF02))}
    await session.send(place.announce("ipv4", 1, change=change), place.announce("ipv4", 2))
    await place.taken("ipv4", 1, 2)
    await place.passed_on("ipv4", 2)
    assert place.observer is not None
    if any(place.nlri("ipv4", 1) in each.body for each in place.observer.heard(wire.UPDATE)):
        raise Failed("a route with NO_ADVERTISE was passed on")


async def _withdrawn(place: Place) -> None:
    """A route that is treated as withdrawn is withdrawn from others."""
    session = await place.establish()
    await session.send(place.announce("ipv4", 1))
    await place.passed_on("ipv4", 1)
    await session.send(place.announce("ipv4", 1, change={"origin": attribute(WELL_KNOWN, 1, b"\7")}))
    assert place.observer is not None
    told = place.observer.heard
    nlri = place.nlri("ipv4", 1)
    await place.observer.until(
        lambda: any(nlri in each.body[2 : 2 + int.from_bytes(each.body[:2], "big")] for each in told(wire.UPDATE)),
        "withdrawal passed on",
    )


CLIENT = Peering(ibgp=True, families=("ipv4",), client=True)
for _name, _rfc, _story in (
    ("not-no-advertise", "RFC 1997", _no_advertise),
    ("treat-as-withdraw", "RFC 7606 2", _withdrawn),
):
    add(Case(f"passed-on-{_name}", AREA, _rfc, _story, CLIENT, needs_option="client"))
