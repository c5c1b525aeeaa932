"""Graceful restart (RFC 4724, RFC 8538): what stays when a session ends, and for how long; End-of-RIB."""

from __future__ import annotations

from collections.abc import Callable

from tests.conformance import wire
from tests.conformance.case import story
from tests.conformance.place import Peering, Place
from tests.conformance.session import Failed, Session
from tests.conformance.wire import UPDATE, graceful, notification

AREA = "graceful restart"
FAMILIES = ("ipv4", "vpnv4")
KEEPS = {"ipv4": True, "vpnv4": True}
PEERING = Peering(ibgp=True, families=FAMILIES, restart_s=20)
SHORT = Peering(ibgp=True, families=FAMILIES, restart_s=20, hold_s=3)
GRACEFUL = 64


async def up(place: Place, time_s: int = 20, **more: object) -> Session:
    """A session with graceful restart and two routes of each family that were taken."""
    fields: dict[str, object] = {"families": KEEPS, **more}
    told = graceful(time_s, **fields)  # type: ignore[arg-type]
    session = await place.establish(capabilities=(told,), hold_s=place.peering.hold_s)
    await session.send(*(place.announce(family, 1, 2) for family in FAMILIES), *map(wire.end_of_rib, FAMILIES))
    for family in FAMILIES:
        await place.taken(family, 1, 2)
    return session


async def back(place: Place, **more: object) -> Session:
    """The session again, before any route."""
    fields: dict[str, object] = {"families": KEEPS, "restarting": True, **more}
    return await place.establish(capabilities=(graceful(20, **fields),))  # type: ignore[arg-type]


def restart(name: str, rfc: str, *, peering: Peering = PEERING) -> Callable[..., object]:
    return story(f"restart-{name}", AREA, rfc, peering=peering, needs=(GRACEFUL,), families=FAMILIES, slow=True)


for _how in ("fin", "rst"):

    @restart(f"{_how}-leaves-the-routes", "RFC 4724 4.2")
    async def _(place: Place, how: str = _how) -> None:
        session = await up(place)
        if how == "fin":
            await session.finish()
            await session.ended()
        await session.close(abort=True)
        for family in FAMILIES:
            await place.stays(family, 1, 2, for_s=2)


@restart("time-over", "RFC 4724 4.2")
async def _(place: Place) -> None:
    session = await up(place, 3)
    await session.close(abort=True)
    await place.stays("ipv4", 1, 2, for_s=1.5)
    for family in FAMILIES:
        await place.gone(family, 1, 2, within_s=8)


@restart("end-of-rib-sweeps", "RFC 4724 4.2")
async def _(place: Place) -> None:
    session = await up(place)
    await session.close(abort=True)
    session = await back(place)
    await session.send(place.announce("ipv4", 2, 4))
    await place.taken("ipv4", 4)
    await place.stays("ipv4", 1, for_s=0.5)
    await session.send(wire.end_of_rib("ipv4"))
    await place.gone("ipv4", 1)
    await place.stays("ipv4", 2, 4, for_s=0.3)
    await place.stays("vpnv4", 1, 2, for_s=0.3)
    await session.send(wire.end_of_rib("vpnv4"))
    await place.gone("vpnv4", 1, 2)


@restart("without-forwarding-state", "RFC 4724 4.2")
async def _(place: Place) -> None:
    session = await up(place)
    await session.close(abort=True)
    await back(place, families={"ipv4": False, "vpnv4": True})
    await place.gone("ipv4", 1, 2)
    await place.stays("vpnv4", 1, 2, for_s=0.3)


@restart("without-the-family", "RFC 4724 4.2")
async def _(place: Place) -> None:
    session = await up(place)
    await session.close(abort=True)
    await back(place, families={"vpnv4": True})
    await place.gone("ipv4", 1, 2)
    await place.stays("vpnv4", 1, 2, for_s=0.3)


@restart("without-the-capability", "RFC 4724 4.2")
async def _(place: Place) -> None:
    session = await up(place)
    await session.close(abort=True)
    await place.establish()
    for family in FAMILIES:
        await place.gone(family, 1, 2)


@restart("lost-twice", "RFC 4724 4.2")
async def _(place: Place) -> None:
    """What was stale when the session was lost again goes; what was told meanwhile stays."""
    session = await up(place)
    await session.close(abort=True)
    session = await back(place)
    await session.send(place.announce("ipv4", 2))
    await place.taken("ipv4", 2)
    await place.stays("ipv4", 1, for_s=0.3)
    await session.close(abort=True)
    await place.gone("ipv4", 1)
    await place.stays("ipv4", 2, for_s=0.5)


@restart("notification-without-n-bit", "RFC 4724 4, RFC 8538 4")
async def _(place: Place) -> None:
    session = await up(place)
    await session.send(notification(6, 4))
    await session.close()
    for family in FAMILIES:
        await place.gone(family, 1, 2)


def told_n_bit(session: Session) -> bool:
    return any(code == GRACEFUL and value[:1] and value[0] & 0x40 for code, value in session.told())


@restart("n-bit-is-told", "RFC 8538 2")
async def _(place: Place) -> None:
    session = await place.establish(capabilities=(graceful(20, KEEPS, notify=True),))
    if not told_n_bit(session):
        raise Failed("the N bit is not told")


for _name, _octets in {
    "administrative-reset": notification(6, 4),
    "hold-timer": notification(4, 0),
    "update-error": notification(3, 1),
}.items():

    @restart(f"notification-{_name}-with-n-bit", "RFC 8538 4")
    async def _(place: Place, octets: bytes = _octets) -> None:
        session = await up(place, notify=True)
        await session.send(octets)
        await session.close()
        for family in FAMILIES:
            await place.stays(family, 1, 2, for_s=1.5)


@restart("hard-reset", "RFC 8538 3.1, 4")
async def _(place: Place) -> None:
    session = await up(place, notify=True)
    await session.send(notification(6, 9, b"\6\4"))
    await session.close()
    for family in FAMILIES:
        await place.gone(family, 1, 2)


@restart("its-own-notification-with-n-bit", "RFC 8538 4", peering=SHORT)
async def _(place: Place) -> None:
    """It resets the session itself, for a malformed message: the routes stay."""
    session = await up(place, notify=True)
    await session.send(wire.update(withdrawn_length=4000))
    await session.ended()
    for family in FAMILIES:
        await place.stays(family, 1, 2, for_s=1.5)


@restart("hold-timer-expires-with-n-bit", "RFC 8538 4", peering=SHORT)
async def _(place: Place) -> None:
    session = await up(place, notify=True)
    ending = await session.ended(10)
    if not ending.startswith("4/0"):
        raise Failed(f"4/0 was expected, not {ending}")
    await session.close()
    for family in FAMILIES:
        await place.stays(family, 1, 2, for_s=1.5)


@restart("new-connection-replaces-the-old", "RFC 4724 5")
async def _(place: Place) -> None:
    """The restarted neighbour connects before the end of its old connection was seen."""
    old = await up(place)
    new = await back(place)
    await old.ended()
    await new.send(place.announce("ipv4", 2), wire.end_of_rib("ipv4"))
    await place.gone("ipv4", 1)
    await place.stays("ipv4", 2, for_s=0.3)


@restart("end-of-rib-is-told", "RFC 4724 2")
async def _(place: Place) -> None:
    session = await up(place)

    def ends() -> set[str]:
        bodies = [each.body for each in session.heard(UPDATE)]
        return {family for family in FAMILIES if wire.end_of_rib(family)[19:] in bodies}

    await session.until(lambda: ends() == set(FAMILIES), "End-of-RIB of every family", 15)


@restart("capability-is-right", "RFC 4724 3")
async def _(place: Place) -> None:
    session = await place.connect()
    values = [value for code, value in session.told() if code == GRACEFUL]
    if len(values) != 1 or len(values[0]) % 4 != 2:
        raise Failed(f"capability 64 is {[value.hex() for value in values]}")
    if int.from_bytes(values[0][:2], "big") & 0xFFF != place.peering.restart_s:
        raise Failed(f"the restart time is not {place.peering.restart_s} s but 0x{values[0][:2].hex()}")


@story(
    "restart-not-agreed",
    AREA,
    "RFC 4724 4.2",
    peering=Peering(ibgp=True, families=FAMILIES),
    families=FAMILIES,
    slow=True,
)
async def _(place: Place) -> None:
    """Only we told it: the routes go with the session."""
    session = await place.establish()
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    await session.close(abort=True)
    await place.gone("ipv4", 1)
