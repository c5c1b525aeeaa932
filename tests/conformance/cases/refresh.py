"""Route refresh (RFC 2918) and enhanced route refresh (RFC 7313)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import add, message_case, story
from tests.conformance.place import Peering, Place
from tests.conformance.session import Failed, Session
from tests.conformance.wire import ROUTE_REFRESH, UPDATE, capability, message, refresh

AREA = "route refresh"
REFRESH, ENHANCED = 2, 70
TOLD = (capability(REFRESH), capability(ENHANCED))
BEGIN, END = 1, 2

STAYS = {
    "request": (refresh("ipv4"), "RFC 2918 4"),
    "request-100-times": (refresh("ipv4") * 100, "RFC 2918 4"),
    "not-agreed-family": (refresh("rtc"), "RFC 2918 4"),
    "unknown-family": (message(ROUTE_REFRESH, b"\x12\x34\0\x99"), "RFC 2918 4"),
    "reserved-3": (refresh("ipv4", 3), "RFC 7313 5"),
    "reserved-255": (refresh("ipv4", 255), "RFC 7313 5"),
    "end-without-begin": (refresh("ipv4", END), "RFC 7313 4.2"),
    "begin-begin-end": (refresh("ipv4", BEGIN) * 2 + refresh("ipv4", END), "RFC 7313 4.2"),
    "begin-of-not-agreed-family": (refresh("rtc", BEGIN) + refresh("rtc", END), "RFC 7313 5"),
}
for name, (octets, rfc) in STAYS.items():
    add(
        message_case(
            f"refresh-{name}",
            AREA,
            rfc,
            "established",
            lambda p, o=octets: o,
            "stays",
            capabilities=TOLD,
            needs=(REFRESH,),
        )
    )
# RFC 7313 section 5: with subtype 1 or 2 the length must be 4; the data is the whole message
for subtype in (BEGIN, END):
    for more in (b"\0", b"\0" * 20):
        octets = message(ROUTE_REFRESH, b"\0\1" + bytes((subtype, 1)) + more)
        add(
            message_case(
                f"refresh-subtype-{subtype}-of-{len(octets)}-octets",
                AREA,
                "RFC 7313 5",
                "established",
                lambda p, o=octets: o,
                f"7/1:{octets.hex()}",
                capabilities=TOLD,
                needs=(ENHANCED,),
            )
        )


def own(place: Place) -> str:
    return place.subject.own


async def told(place: Place, session: Session, family: str, count: int = 1) -> None:
    """Wait until the peer under test has told its own route of a family so many times."""
    await session.until(lambda: len(updates(place, session, family)) >= count, f"route {count} of its own in {family}")


def updates(place: Place, session: Session, family: str) -> list[bytes]:
    """Return the UPDATEs with routes of a family that are the peer under test's own."""
    afi, safi = wire.FAMILIES[family]
    found = []
    for each in session.heard(UPDATE):
        withdrawn = int.from_bytes(each.body[:2], "big")
        size = int.from_bytes(each.body[2 + withdrawn : 4 + withdrawn], "big")
        attributes = wire.attributes_of(each.body[4 + withdrawn :][:size])
        if any(hop in each.body for hop in (place.next_hop("ipv4"), place.next_hop("ipv6"))):
            continue  # of another case, passed on
        here = attributes.get(14, b"")[1:4] == wire.u16(afi) + wire.u8(safi)
        if here or (family == "ipv4" and len(each.body) > 4 + withdrawn + size):
            found.append(each.body)
    return found


EVERY = Peering(ibgp=True)


@story("refresh-tells-routes-again", AREA, "RFC 2918 4", peering=EVERY, needs=(REFRESH,))
async def _(place: Place) -> None:
    session = await place.establish(capabilities=TOLD[:1])
    await told(place, session, own(place))
    await session.send(refresh(own(place)))
    await told(place, session, own(place), 2)


@story("refresh-of-one-family-only", AREA, "RFC 2918 4", peering=EVERY, needs=(REFRESH,))
async def _(place: Place) -> None:
    session = await place.establish(capabilities=TOLD[:1])
    await told(place, session, own(place))
    other = "ipv4" if own(place) != "ipv4" else "ipv6"
    await session.send(refresh(other))
    await session.lives(1.0)
    if len(updates(place, session, own(place))) != 1:
        raise Failed(f"a refresh of {other} told {own(place)} again")


@story("refresh-is-framed", AREA, "RFC 7313 4.1", peering=EVERY, needs=(ENHANCED,))
async def _(place: Place) -> None:
    family = own(place)
    afi, safi = wire.FAMILIES[family]
    session = await place.establish(capabilities=TOLD)
    await told(place, session, family)
    await session.lives(1)  # its End-of-RIB goes before (section 4.1)
    await session.send(refresh(family))
    await session.message(ROUTE_REFRESH, 2)
    marks = [each.body for each in session.heard(ROUTE_REFRESH)]
    wanted = [wire.u16(afi) + wire.u8(subtype) + wire.u8(safi) for subtype in (BEGIN, END)]
    if marks != wanted:
        raise Failed(f"BoRR and EoRR of {family} were wanted, not {[mark.hex() for mark in marks]}")
    kinds = [each.kind for each in session.messages]
    begin = kinds.index(ROUTE_REFRESH)
    if UPDATE not in kinds[begin : kinds.index(ROUTE_REFRESH, begin + 1)]:
        raise Failed("no route between BoRR and EoRR")


@story("refresh-not-framed-for-who-does-not-know-it", AREA, "RFC 7313 4.1", peering=EVERY, needs=(REFRESH,))
async def _(place: Place) -> None:
    session = await place.establish(capabilities=TOLD[:1])
    await told(place, session, own(place))
    await session.send(refresh(own(place)))
    await told(place, session, own(place), 2)
    if session.heard(ROUTE_REFRESH):
        raise Failed("BoRR or EoRR was sent to a peer that did not tell the capability")


for _family in ("ipv4", "ipv6", "vpnv4", "vpnv6", "evpn"):

    @story(
        f"refresh-sweeps-{_family}",
        AREA,
        "RFC 7313 4.2",
        peering=Peering(ibgp=_family in ("vpnv4", "vpnv6", "evpn")),
        needs=(ENHANCED,),
        families=(_family,),
    )
    async def _(place: Place, family: str = _family) -> None:
        """What is not repeated between BoRR and EoRR goes; the rest stays, and so do other families."""
        other = "ipv4" if family != "ipv4" else "ipv6"
        session = await place.establish(capabilities=TOLD)
        await session.send(place.announce(family, 1, 2), place.announce(other, 1), wire.end_of_rib(family))
        await place.taken(family, 1, 2)
        await place.taken(other, 1)
        await session.send(refresh(family, BEGIN), place.announce(family, 2, 4))
        await place.taken(family, 4)
        await place.stays(family, 1, for_s=0.2)
        await session.send(refresh(family, END))
        await place.gone(family, 1)
        await place.stays(family, 2, 4, for_s=0.2)
        await place.stays(other, 1, for_s=0.1)


@story("refresh-sweeps-not-what-came-before-the-second-begin", AREA, "RFC 7313 4.2", needs=(ENHANCED,))
async def _(place: Place) -> None:
    """A second BoRR begins anew: what only the first one's routes renewed is swept by the EoRR."""
    session = await place.establish(capabilities=TOLD)
    await session.send(place.announce("ipv4", 1, 2), wire.end_of_rib("ipv4"))
    await place.taken("ipv4", 1, 2)
    await session.send(
        refresh("ipv4", BEGIN),
        place.announce("ipv4", 1),
        refresh("ipv4", BEGIN),
        place.announce("ipv4", 2),
        refresh("ipv4", END),
    )
    await place.gone("ipv4", 1)
    await place.stays("ipv4", 2, for_s=0.2)


@story("refresh-is-forgotten-with-the-session", AREA, "RFC 7313 4.2", needs=(ENHANCED,))
async def _(place: Place) -> None:
    session = await place.establish(capabilities=TOLD)
    await session.send(place.announce("ipv4", 1), refresh("ipv4", BEGIN))
    await place.taken("ipv4", 1)
    await session.close(abort=True)
    await place.gone("ipv4", 1)
    session = await place.establish(capabilities=TOLD)
    await session.send(place.announce("ipv4", 2), refresh("ipv4", END))
    await place.taken("ipv4", 2)
    await place.stays("ipv4", 2, for_s=0.5)


@story(
    "refresh-begun-before-end-of-rib-is-ignored",
    AREA,
    "RFC 7313 4.2",
    peering=Peering(families=("ipv4",), restart_s=20),
    needs=(ENHANCED, 64),
    slow=True,
)
async def _(place: Place) -> None:
    """We told graceful restart: before our End-of-RIB a BoRR means nothing."""
    session = await place.establish(capabilities=(*TOLD, wire.graceful(20, {"ipv4": True})))
    await session.send(place.announce("ipv4", 1), refresh("ipv4", BEGIN), place.announce("ipv4", 2))
    await session.send(refresh("ipv4", END))
    await place.taken("ipv4", 1, 2)
    await place.stays("ipv4", 1, 2, for_s=1)
    await session.send(wire.end_of_rib("ipv4"))
    await place.stays("ipv4", 1, 2, for_s=0.5)
    await session.lives(0.1)
