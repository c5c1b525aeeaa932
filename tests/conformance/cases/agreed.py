"""What capabilities make possible: extended messages (RFC 8654), several paths (RFC 7911), OTC by role (RFC 9234)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import add, message_case, require, story, update_case
from tests.conformance.place import EBGP_AS, GOOD, NEW, Peering, Place
from tests.conformance.wire import UPDATE, add_path, attribute, capability, message, u16, u32

# Extended messages
AREA = "extended messages"
EXTENDED = 6


def large(place: Place, octets: int) -> bytes:
    """An UPDATE of exactly so many octets about GOOD and NEW."""
    plain = place.announce("ipv4", GOOD, NEW)
    return place.announce("ipv4", GOOD, NEW, change={"large": attribute(0xC0, 230, bytes(octets - len(plain) - 4))})


for size in (4096, 4097, 10_000, 65_535):
    add(
        update_case(
            f"extended-update-of-{size}-octets",
            AREA,
            "RFC 8654 4",
            "ipv4",
            lambda p, n=size: large(p, n),
            "accepted",
            capabilities=(capability(EXTENDED),),
            needs=(EXTENDED,),
        )
    )
add(
    message_case(
        "extended-keepalive-of-20-octets",
        AREA,
        "RFC 8654 4",
        "established",
        lambda p: message(wire.KEEPALIVE, b"\0"),
        "1/2:0014",
        capabilities=(capability(EXTENDED),),
        needs=(EXTENDED,),
    ),
    message_case(
        "extended-open-of-5000-octets",
        AREA,
        "RFC 8654 4",
        "open-sent",
        lambda p: message(wire.OPEN, bytes(4981)),
        "1/2:1388",
        needs=(EXTENDED,),
    ),
    message_case(
        "extended-withdrawn-of-50000-octets",
        AREA,
        "RFC 8654 4",
        "established",
        lambda p: wire.update(withdrawn=b"\x20\x0b\2\2\2" * 10_000),
        "stays",
        capabilities=(capability(EXTENDED),),
        needs=(EXTENDED,),
    ),
    message_case(
        "extended-lengths-inconsistent",
        AREA,
        "RFC 4271 6.3",
        "established",
        lambda p: message(UPDATE, u16(60_000) + bytes(10_000)),
        "3/1",
        capabilities=(capability(EXTENDED),),
        needs=(EXTENDED,),
    ),
)

# Several paths
AREA = "several paths"
ADD_PATH = 69
RECEIVES = Peering(families=("ipv4", "ipv6", "vpnv4"), add_path=True)


def nlri(place: Place, family: str, *paths: tuple[int, int]) -> bytes:
    """Routes with their path identifiers."""
    return b"".join(u32(path) + place.nlri(family, route) for path, route in paths)


def told(place: Place, family: str, *paths: tuple[int, int], med: int = 0) -> bytes:
    return place.announce(family, nlri=nlri(place, family, *paths), change={"med": attribute(0x80, 4, u32(med))})


for _family in ("ipv4", "ipv6", "vpnv4"):

    @story(
        f"paths-two-of-a-route-{_family}",
        AREA,
        "RFC 7911 3, 5",
        peering=RECEIVES,
        needs=(ADD_PATH,),
        needs_option="add_path",
        families=(_family,),
    )
    async def _(place: Place, family: str = _family) -> None:
        session = await place.establish(capabilities=(add_path(family, 2),))
        await session.send(told(place, family, (1, 1), (7, 2)), told(place, family, (2, 1), med=5))
        await place.paths(family, 1, 2)
        await place.paths(family, 2, 1)
        await session.send(told(place, family, (2, 1), med=6), told(place, family, (0, 4)))
        await place.taken(family, 4)
        await place.paths(family, 1, 2)
        await session.send(place.withdraw(family, nlri=nlri(place, family, (1, 1))))
        await place.paths(family, 1, 1)
        await session.send(place.withdraw(family, nlri=nlri(place, family, (9, 1), (2, 1))))
        await place.gone(family, 1)
        await place.stays(family, 2, 4, for_s=0.2)

    @story(
        f"paths-identifier-cut-off-{_family}",
        AREA,
        "RFC 7911 5, RFC 7606 5.3",
        peering=RECEIVES,
        needs=(ADD_PATH,),
        needs_option="add_path",
        families=(_family,),
    )
    async def _(place: Place, family: str = _family) -> None:
        session = await place.establish(capabilities=(add_path(family, 2),))
        await session.send(told(place, family, (1, 1)))
        await place.taken(family, 1)
        await session.send(place.announce(family, nlri=nlri(place, family, (1, 1)) + b"\0\0\0"))
        await place.gone(family, 1)  # with the session, or with the family (RFC 4760 section 7)
        if session.ending or family == "ipv4":
            require(await session.ended(), ("3/9", "3/10", "3/1"))


@story("paths-not-of-the-peer", AREA, "RFC 7911 4", peering=RECEIVES, needs=(ADD_PATH,), needs_option="add_path")
async def _(place: Place) -> None:
    """We only receive: what we send has no path identifiers."""
    session = await place.establish(capabilities=(add_path("ipv4", 1),))
    await session.send(place.announce("ipv4", 1, 2))
    await place.taken("ipv4", 1, 2)


@story("paths-of-one-family-only", AREA, "RFC 7911 4", peering=RECEIVES, needs=(ADD_PATH,), needs_option="add_path")
async def _(place: Place) -> None:
    session = await place.establish(capabilities=(add_path("ipv6", 3),))
    await session.send(place.announce("ipv4", 1), told(place, "ipv6", (1, 1)), told(place, "ipv6", (2, 1), med=1))
    await place.taken("ipv4", 1)
    await place.paths("ipv6", 1, 2)


@story("paths-go-with-the-session", AREA, "RFC 7911 5", peering=RECEIVES, needs=(ADD_PATH,), needs_option="add_path")
async def _(place: Place) -> None:
    session = await place.establish(capabilities=(add_path("ipv4", 2),))
    for path in range(5):
        await session.send(told(place, "ipv4", (path, 1), med=path))
    await place.paths("ipv4", 1, 5)
    await session.close(abort=True)
    await place.gone("ipv4", 1)


# Only to customers (RFC 9234 section 5): what may come from whom
AREA = "roles (RFC 9234)"
OTC = [
    # its role, ours, the OTC that we send, what it does
    ("from-customer", "provider", 3, 65010, ("withdrawn",)),
    ("from-customer-of-its-own", "provider", 3, EBGP_AS, ("withdrawn",)),
    ("from-customer-without", "provider", 3, None, ("accepted",)),
    ("from-route-server-client", "route-server", 2, 65010, ("withdrawn",)),
    ("from-peer-of-another", "peer", 4, 65010, ("withdrawn",)),
    ("from-peer-of-its-own", "peer", 4, EBGP_AS, ("accepted",)),
    ("from-peer-without", "peer", 4, None, ("accepted",)),
    ("from-provider", "customer", 0, 65010, ("accepted",)),
    ("from-provider-without", "customer", 0, None, ("accepted",)),
    ("from-route-server", "route-server-client", 1, 65010, ("accepted",)),
]
for name, role, ours, otc, reactions in OTC:
    for family in ("ipv4", "ipv6"):
        more = {} if otc is None else {"otc": attribute(0xC0, 35, u32(otc))}
        add(
            update_case(
                f"otc-{name}-{family}",
                AREA,
                "RFC 9234 5",
                family,
                lambda p, f=family, m=more: p.announce(f, GOOD, NEW, change=m),
                *reactions,
                peering=Peering(role=role),
                capabilities=(capability(9, bytes((ours,))),),
                needs=(9,),
                needs_option="role",
            )
        )
