"""How many routes a neighbour may tell (RFC 4486), and routes that outlive it for long (RFC 9494)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import require, story
from tests.conformance.place import Peering, Place
from tests.conformance.session import Session
from tests.conformance.wire import OPTIONAL_TRANSITIVE, attribute, graceful, long_lived

AREA = "prefix limits"
TEN = Peering(families=("ipv4",), limit=10)


@story("limit-is-reached", AREA, "RFC 4486 4", peering=TEN, needs_option="limit")
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(*(place.announce("ipv4", each) for each in range(1, 13)))
    require(await session.ended(), ("6/1",))
    await place.gone("ipv4", 1, 2, 10, 12)


@story("limit-is-reached-in-one-update", AREA, "RFC 4486 4", peering=TEN, needs_option="limit")
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", *range(1, 13)))
    require(await session.ended(), ("6/1",))


@story("limit-names-family-and-number", AREA, "RFC 4486 4", peering=TEN, needs_option="limit")
async def _(place: Place) -> None:
    """The data is a MAY, but where there is any it is AFI, SAFI and the limit."""
    session = await place.establish()
    await session.send(place.announce("ipv4", *range(1, 13)))
    require(await session.ended(), ("6/1:", "6/1:0001010000000a"))


@story("limit-is-not-exceeded", AREA, "RFC 4271 6.7", peering=TEN, needs_option="limit")
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(*(place.announce("ipv4", each) for each in range(1, 11)))
    await place.taken("ipv4", *range(1, 11))
    await session.send(*(place.announce("ipv4", each) for each in range(1, 11)))
    await session.lives(1)


@story("limit-counts-not-what-was-withdrawn", AREA, "RFC 4271 6.7", peering=TEN, needs_option="limit")
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", *range(1, 9)), place.withdraw("ipv4", *range(1, 9)))
    await session.send(place.announce("ipv4", *range(7, 15)))
    await place.taken("ipv4", *range(7, 15))
    await session.lives(0.5)


# Long-lived graceful restart
AREA = "long-lived graceful restart"
FAMILIES = {"ipv4": True}
LONG = Peering(ibgp=True, families=("ipv4",), restart_s=20, long_lived_s=6, client=True)
LONG_LIVED = 71
NO_LLGR, LLGR_STALE = 0xFFFF0007, 0xFFFF0006


async def up(place: Place, restart_s: int = 1, stale_s: int = 20) -> Session:
    told = (graceful(restart_s, FAMILIES), long_lived(stale_s, FAMILIES))
    session = await place.establish(capabilities=told)
    no_llgr = attribute(OPTIONAL_TRANSITIVE, 8, wire.u32(NO_LLGR))
    await session.send(place.announce("ipv4", 1), place.announce("ipv4", 2, change={"c": no_llgr}))
    await session.send(wire.end_of_rib("ipv4"))
    await place.taken("ipv4", 1, 2)
    return session


for _restart_s in (0, 1):

    @story(
        f"long-lived-after-{_restart_s}-s",
        AREA,
        "RFC 9494 4.2",
        peering=LONG,
        needs=(LONG_LIVED,),
        needs_option="long_lived",
        slow=True,
    )
    async def _(place: Place, restart_s: int = _restart_s) -> None:
        """The restart time is over: the route stays, but that which says NO_LLGR goes."""
        session = await up(place, restart_s)
        await session.close(abort=True)
        await place.gone("ipv4", 2)
        await place.stays("ipv4", 1, for_s=3)


@story(
    "long-lived-time-over",
    AREA,
    "RFC 9494 4.2",
    peering=LONG,
    needs=(LONG_LIVED,),
    needs_option="long_lived",
    slow=True,
)
async def _(place: Place) -> None:
    session = await up(place, 1, 2)
    await session.close(abort=True)
    await place.stays("ipv4", 1, for_s=1.5)
    await place.gone("ipv4", 1, within_s=8)


@story(
    "long-lived-end-of-rib",
    AREA,
    "RFC 9494 4.2",
    peering=LONG,
    needs=(LONG_LIVED,),
    needs_option="long_lived",
    slow=True,
)
async def _(place: Place) -> None:
    session = await up(place)
    await session.close(abort=True)
    await place.gone("ipv4", 2)
    session = await place.establish(capabilities=(graceful(1, FAMILIES), long_lived(20, FAMILIES)))
    await session.send(place.announce("ipv4", 4))
    await place.taken("ipv4", 4)
    await place.stays("ipv4", 1, for_s=0.3)
    await session.send(wire.end_of_rib("ipv4"))
    await place.gone("ipv4", 1)
    await place.stays("ipv4", 4, for_s=0.3)


@story(
    "long-lived-is-not-told-to-who-does-not-know-it",
    AREA,
    "RFC 9494 4.3, 4.5",
    peering=LONG,
    needs=(LONG_LIVED,),
    needs_option="long_lived",
    slow=True,
)
async def _(place: Place) -> None:
    session = await up(place)
    observer, nlri = place.observer, place.nlri("ipv4", 1)
    assert observer is not None
    await place.passed_on("ipv4", 1)
    await session.close(abort=True)

    def withdrawn() -> bool:
        bodies = [each.body for each in observer.heard(wire.UPDATE)]
        return any(nlri in body[2 : 2 + int.from_bytes(body[:2], "big")] for body in bodies)

    await observer.until(withdrawn, "withdrawal of the stale route from a peer without the capability")
