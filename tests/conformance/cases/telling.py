"""What an external neighbour is told: AS_PATH, next hop, what must not leave the AS, OTC (RFC 4271 5.1, RFC 9234 5).

The observer, in the AS of the peer under test, tells the routes; the case is the external neighbour.
"""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import wire
from tests.conformance.case import Case, add
from tests.conformance.place import PEER_AS, Peering, Place
from tests.conformance.session import Failed, Session
from tests.conformance.wire import NON_TRANSITIVE, OPTIONAL_TRANSITIVE, UPDATE, WELL_KNOWN, attribute

AREA = "telling neighbours"
Change = dict[str, bytes | None]
Wanted = Callable[[dict[int, bytes]], bool]
NOTHING = None
"""The route must not be told."""


def check(
    name: str,
    rfc: str,
    change: Change,
    wanted: Wanted | None,
    *,
    role: str = "",
    theirs: int = 0,
    old: bool = False,
    families: tuple[str, ...] = ("ipv4",),
    area: str = AREA,
) -> None:
    """A case for each family: route 1 has the changes, and route 2, told behind it, has not."""
    for family in families:

        async def story(place: Place, family: str = family) -> None:
            assert place.observer is not None
            told = (wire.capability(9, bytes((theirs,))),) if role else ()
            session = await place.establish(capabilities=told, without=(65,) if old else ())
            inside = Place(place.subject, Peering(ibgp=True), place.number, place.observer.local)
            await place.observer.send(inside.announce(family, 1, change=change), inside.announce(family, 2))
            await place.taken(family, 1, 2)
            try:
                await session.until(lambda: attributes(place, session, family, 2) is not None, "route 2")
                if wanted is not None:
                    await session.until(lambda: attributes(place, session, family, 1) is not None, "route 1")
                found = attributes(place, session, family, 1)
            finally:
                await place.observer.send(inside.withdraw(family, 1, 2))
            if wanted is None and found is not None:
                raise Failed("the route was told")
            if wanted is not None and (found is None or not wanted(found)):
                raise Failed("told as " + ", ".join(f"{code}:{value.hex()}" for code, value in (found or {}).items()))

        add(
            Case(
                f"told-{name}-{family}",
                area,
                rfc,
                story,
                Peering(families=families, told_all=True, role=role),
                frozenset({9}) if role else frozenset(),
                families=frozenset((family,)),
                needs_option="role" if role else "client",
            )
        )


def attributes(place: Place, session: Session, family: str, route: int) -> dict[int, bytes] | None:
    """Return the attributes with which a route was told; None if it was not."""
    nlri = place.unlabelled(family, route)
    for each in session.heard(UPDATE):
        withdrawn = int.from_bytes(each.body[:2], "big")
        if nlri in each.body[2 + withdrawn :]:
            size = int.from_bytes(each.body[2 + withdrawn : 4 + withdrawn], "big")
            return wire.attributes_of(each.body[4 + withdrawn :][:size])
    return None


def community(number: int) -> Change:
    return {"communities": attribute(OPTIONAL_TRANSITIVE, 8, wire.u32(number))}


def path(*numbers: int, size: int = 4) -> bytes:
    """An AS_PATH of one sequence, without its flags, which may say that the length is extended."""
    return wire.segment(2, list(numbers), size=size)


def path_of(*numbers: int) -> Change:
    return {"as_path": attribute(WELL_KNOWN, 2, wire.segment(2, list(numbers)))}


check("as-is-prepended", "RFC 4271 5.1.2", {}, lambda found: found[2][1:] == path(PEER_AS))
check("as-path-is-prepended", "RFC 4271 5.1.2", path_of(65002), lambda found: found[2][1:] == path(PEER_AS, 65002))
check(
    "as-set-is-not-extended",
    "RFC 4271 5.1.2",
    {"as_path": attribute(WELL_KNOWN, 2, wire.segment(1, [65002, 65003]))},
    lambda found: (
        found[2][1:]
        in (path(PEER_AS) + wire.segment(1, [65002, 65003]), path(PEER_AS) + wire.segment(1, [65003, 65002]))
    ),
)
check(
    "full-segment-does-not-overflow",
    "RFC 4271 5.1.2 b",
    path_of(*[65002] * 255),
    lambda found: (
        found[2][1:]
        in (
            path(PEER_AS) + wire.segment(2, [65002] * 255),  # as it SHOULD be
            path(PEER_AS, *[65002] * 254) + wire.segment(2, [65002]),
        )
    ),
)
check("without-local-pref", "RFC 4271 5.1.5", {}, lambda found: 5 not in found)
check(
    "without-med-of-others",
    "RFC 4271 5.1.4",
    {"med": attribute(NON_TRANSITIVE, 4, wire.u32(77)), **path_of(65002)},
    lambda found: found.get(4, b"")[1:] != wire.u32(77),
)
check(
    "without-originator-id-and-cluster-list",
    "RFC 4456 8",
    {
        "o": attribute(NON_TRANSITIVE, 9, wire.ip("192.0.2.9")),
        "c": attribute(NON_TRANSITIVE, 10, wire.ip("192.0.2.8")),
    },
    lambda found: not {9, 10} & found.keys(),
)
check("with-its-next-hop", "RFC 4271 5.1.3", {}, lambda found: len(found[3]) == 5 and found[3][1:] != bytes(4))
check("not-no-export", "RFC 1997", community(0xFFFFFF01), NOTHING)
check("not-no-advertise", "RFC 1997", community(0xFFFFFF02), NOTHING)
check("not-no-export-subconfed", "RFC 1997", community(0xFFFFFF03), NOTHING)
check("communities", "RFC 1997", community(0xFDE80001), lambda found: found.get(8) == b"\xc0\xfd\xe8\0\1")
check(
    "unknown-transitive-with-partial",
    "RFC 4271 5",
    {"u": attribute(OPTIONAL_TRANSITIVE, 230, b"\1")},
    lambda found: found.get(230, b"\0")[0] & 0xE0 == 0xE0,
)
check(
    "without-unknown-non-transitive",
    "RFC 4271 5",
    {"u": attribute(NON_TRANSITIVE, 230, b"\1")},
    lambda found: 230 not in found,
)
check(
    "old-speaker-2-octets",
    "RFC 6793 4.2.2",
    path_of(65002),
    lambda found: found[2][1:] == path(PEER_AS, 65002, size=2) and 17 not in found,
    old=True,
)
check(
    "old-speaker-as-trans-and-as4-path",
    "RFC 6793 4.2.2",
    path_of(4200000000),
    lambda found: (
        found[2][1:] == path(PEER_AS, 23456, size=2)
        and found.get(17, b"\0")[0] & 0xC0 == 0xC0
        and found[17][1:].endswith(wire.segment(2, [4200000000])[2:])
    ),
    old=True,
)
check(
    "old-speaker-aggregator",
    "RFC 6793 4.2.2",
    {"a": attribute(OPTIONAL_TRANSITIVE, 7, wire.u32(4200000000) + wire.ip("192.0.2.9"))},
    lambda found: found.get(7, b"")[1:3] == wire.u16(23456) and found.get(18, b"")[1:5] == wire.u32(4200000000),
    old=True,
)
check(
    "old-speaker-aggregator-of-2-octets",
    "RFC 6793 4.2.2",
    {"a": attribute(OPTIONAL_TRANSITIVE, 7, wire.u32(65002) + wire.ip("192.0.2.9"))},
    lambda found: found.get(7, b"")[1:3] == wire.u16(65002) and 18 not in found,
    old=True,
)

# RFC 9234 section 5, egress
ROLES = "roles (RFC 9234)"
OTC = {"otc": attribute(OPTIONAL_TRANSITIVE, 35, wire.u32(65010))}
for role, theirs, word, has, lacks in (
    ("provider", 3, "customer", 65010, PEER_AS),
    ("route-server", 2, "route-server-client", 65010, PEER_AS),
    ("peer", 4, "peer", None, PEER_AS),
    ("customer", 0, "provider", None, 0),
    ("route-server-client", 1, "route-server", None, 0),
):
    check(
        f"otc-to-{word}",
        "RFC 9234 5",
        OTC,
        NOTHING if has is None else (lambda found, n=has: found.get(35, b"")[1:] == wire.u32(n)),
        role=role,
        theirs=theirs,
        area=ROLES,
    )
    check(
        f"no-otc-to-{word}",
        "RFC 9234 5",
        {},
        (lambda found, n=lacks: found.get(35, b"")[1:] == (wire.u32(n) if n else b"")),
        role=role,
        theirs=theirs,
        area=ROLES,
    )
