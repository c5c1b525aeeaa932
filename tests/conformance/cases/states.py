"""The state machine: wrong messages, timers, NOTIFICATION, ends, collisions (RFC 4271 sections 6.8 and 8, RFC 6608)."""

from __future__ import annotations

import asyncio
from itertools import pairwise

from tests.conformance import wire
from tests.conformance.case import Case, add, in_state, message_case, require, story
from tests.conformance.place import Peering, Place
from tests.conformance.session import Failed
from tests.conformance.wire import KEEPALIVE, NOTIFICATION, capability, keepalive, notification, refresh

AREA = "states"
STATES = ("open-sent", "open-confirm", "established")

WRONG = {
    # RFC 6608 section 4: the data is the type of the message
    "open-sent": {
        "keepalive": (lambda p: keepalive(), ("5/1:04",)),
        "update": (lambda p: p.announce("ipv4", 1), ("5/1:02",)),
        "route-refresh": (lambda p: refresh("ipv4"), ("5/1:05",)),
    },
    "open-confirm": {
        "update": (lambda p: p.announce("ipv4", 1), ("5/2:02",)),
        "route-refresh": (lambda p: refresh("ipv4"), ("5/2:05",)),
        "open": (lambda p: p.session().open(), ("5/2:01", "6/7")),
    },
    "established": {"open": (lambda p: p.session().open(), ("5/3:01", "6/7"))},
}
for state, messages in WRONG.items():
    for name, (said, reactions) in messages.items():
        add(
            message_case(
                f"{name}-in-{state}",
                AREA,
                "RFC 4271 8.2.2, RFC 6608 4",
                state,
                said,
                *reactions,
                capabilities=(capability(2),),
            )
        )

NOTIFICATIONS = {
    "cease": notification(6, 2),
    "cease-with-text": notification(6, 2, b"\x05hello"),
    "cease-with-wrong-text": notification(6, 2, b"\xff\xff\xfe\x1b[31m"),
    "cease-with-4000-octets": notification(6, 4, bytes(4000)),
    "hold-timer-expired": notification(4, 0),
    "version": notification(2, 1, b"\0\4"),
    "of-code-0": notification(0, 0),
    "of-code-99": notification(99, 99, b"\1\2\3"),
    "malformed-code-255": notification(255, 255),
}
for state in STATES:
    for name, octets in NOTIFICATIONS.items():
        add(
            message_case(
                f"notification-{name}-in-{state}",
                "NOTIFICATION",
                "RFC 4271 4.5, 6.4, RFC 9003",
                state,
                lambda p, o=octets: o,
                "closed",
                "reset",
                # RFC 4271 section 8.2.2: in OpenSent all but a version error (event 24) is an FSM error
                *(("5/1", "5/0") if state == "open-sent" and name != "version" else ()),
            )
        )


# How connections end
async def _again(place: Place) -> None:
    """A session can be made again, and routes are taken."""
    session = await place.establish()
    await session.send(place.announce("ipv4", 14))
    await place.taken("ipv4", 14)


def _ending(state: str, how: str) -> None:
    async def told(place: Place) -> None:
        session = await in_state(place, state)
        if state == "established":
            await session.send(place.announce("ipv4", 1))
            await place.taken("ipv4", 1)
        if how == "fin":
            await session.finish()
            require(await session.ended(), ("closed", "reset"))
        else:
            await session.close(abort=True)
        if state == "established":
            await place.gone("ipv4", 1)
        await _again(place)

    add(Case(f"{how}-in-{state}", AREA, "RFC 4271 8.2.2, event 18", told, Peering(families=("ipv4",))))


for state in STATES:
    for how in ("fin", "rst"):
        _ending(state, how)


@story("fin-within-a-message", AREA, "RFC 4271 8.2.2, event 18", peering=Peering(families=("ipv4",)))
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    await session.send(place.announce("ipv4", 2)[:30])
    await session.finish()
    require(await session.ended(), ("closed", "reset"))
    await place.gone("ipv4", 1)
    await _again(place)


@story("routes-go-with-notification", AREA, "RFC 4271 8.2.2, event 25")
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", 1), place.announce("ipv6", 1))
    await place.taken("ipv4", 1)
    await place.taken("ipv6", 1)
    await session.send(notification(6, 4))
    await place.gone("ipv4", 1)
    await place.gone("ipv6", 1)
    await _again(place)


@story("unknown-address-is-refused", AREA, "RFC 4271 8.1.5", peering=Peering(configured=False))
async def _(place: Place) -> None:
    session = place.session()
    try:
        await session.connect(place.subject.address, place.subject.port)
        ending = await session.ended(3.0)
    except OSError:
        return
    require(ending, ("closed", "reset", "6/5", "6/3"))
    if session.heard(wire.OPEN):
        raise Failed("it sent an OPEN to a stranger")


@story("a-second-connection-does-not-end-the-first", AREA, "RFC 4271 6.8, 8.2.2", peering=Peering(families=("ipv4",)))
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    second = place.session()
    try:
        await second.connect(place.subject.address, place.subject.port)
        await second.send(second.open(), keepalive())
        require(await second.ended(), ("closed", "reset", "6/7"))
    except OSError:
        pass
    await session.send(place.announce("ipv4", 2))
    await place.taken("ipv4", 1, 2)


@story("silent-connections-do-not-keep-a-session-away", AREA, "RFC 4271 8.2.2", peering=Peering(families=("ipv4",)))
async def _(place: Place) -> None:
    for _ in range(5):
        silent = place.session()
        try:
            await silent.connect(place.subject.address, place.subject.port)
        except OSError:
            continue
    await asyncio.sleep(0.2)
    await _again(place)


@story("ten-flaps", AREA, "RFC 4271 8.2.2", peering=Peering(families=("ipv4",)), slow=True)
async def _(place: Place) -> None:
    for turn in range(10):
        session = await place.establish()
        await session.send(place.announce("ipv4", turn + 1))
        await place.taken("ipv4", turn + 1)
        await session.close(abort=turn % 2 == 0)
        await place.gone("ipv4", turn + 1)
    await _again(place)


# Timers
TIMERS = "timers"
SHORT = Peering(families=("ipv4",), hold_s=3)
HOLD = (2.9, 5.0)
"""How long after the last message a hold timer of 3 s may be seen to expire on a busy machine."""


def _within(seconds: float, low: float, high: float, what: str) -> None:
    if not low <= seconds <= high:
        raise Failed(f"{what} after {seconds:.2f} s, not {low:g} to {high:g} s")


@story("hold-timer-in-established", TIMERS, "RFC 4271 6.5", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=3, beat_s=60)
    await session.send(place.announce("ipv4", 1))
    said = session.spoke_at
    await place.taken("ipv4", 1)
    require(await session.ended(10), ("4/0",))
    _within(session.ended_at - said, *HOLD, "4/0")
    await place.gone("ipv4", 1)


@story("hold-timer-in-open-confirm", TIMERS, "RFC 4271 8.2.2", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.opened(hold_s=3)
    said = session.spoke_at
    require(await session.ended(10), ("4/0",))
    _within(session.ended_at - said, *HOLD, "4/0")


@story("hold-timer-in-open-sent-is-large", TIMERS, "RFC 4271 8.2.2", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.connect(hold_s=3)
    await session.lives(7)
    await session.send(session.open(), keepalive())
    await session.message(KEEPALIVE)


@story(
    "hold-time-is-the-smaller-one", TIMERS, "RFC 4271 4.2", peering=Peering(families=("ipv4",), hold_s=90), slow=True
)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=3, beat_s=60)
    said = session.spoke_at
    require(await session.ended(10), ("4/0",))
    _within(session.ended_at - said, *HOLD, "4/0")


@story("hold-time-of-the-peer-is-not-exceeded", TIMERS, "RFC 4271 4.2", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=90, beat_s=60)
    said = session.spoke_at
    require(await session.ended(10), ("4/0",))
    _within(session.ended_at - said, *HOLD, "4/0")


for _name, _said in {
    "keepalive": lambda p: keepalive(),
    "update": lambda p: p.announce("ipv4", 1),
    "end-of-rib": lambda p: wire.end_of_rib("ipv4"),
}.items():

    @story(f"hold-timer-is-restarted-by-{_name}", TIMERS, "RFC 4271 8.2.2", peering=SHORT, slow=True)
    async def _(place: Place, said=_said) -> None:  # type: ignore[no-untyped-def]
        session = await place.establish(hold_s=3, beat_s=60)
        for _ in range(6):
            await session.lives(1.2)
            await session.send(said(place))
        await session.lives(0.5)


@story("hold-timer-is-not-restarted-by-a-part", TIMERS, "RFC 4271 6.5", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=3, beat_s=60)
    said = session.spoke_at
    octets = wire.update(withdrawn=b"\x20\x0b\0\0\1" * 700)
    for at in range(30):
        if session.ending:
            break
        await session.send(octets[at * 10 : at * 10 + 10])
        await asyncio.sleep(0.25)
    require(await session.ended(1), ("4/0",))
    _within(session.ended_at - said, *HOLD, "4/0")


@story("keepalives-come-every-third", TIMERS, "RFC 4271 4.4", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=3, beat_s=1)
    await session.lives(6.5)
    times = [each.at for each in session.heard(KEEPALIVE)][1:]
    gaps = [later - sooner for sooner, later in pairwise(times)]
    if len(times) < 5 or max(gaps) > 1.7:
        raise Failed(f"{len(times)} KEEPALIVEs in 6.5 s, gaps {[round(gap, 2) for gap in gaps]}")
    if len(times) > 9:
        raise Failed(f"{len(times)} KEEPALIVEs in 6.5 s: more than one a second")


@story("hold-time-0-sends-no-keepalives", TIMERS, "RFC 4271 4.4", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=0, beat_s=60)
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    await session.lives(6)
    if len(session.heard(KEEPALIVE)) > 1:
        raise Failed("KEEPALIVEs are sent although the hold time is 0")
    await place.stays("ipv4", 1, for_s=0.2)


@story("keepalives-go-on-to-who-does-not-read", TIMERS, "RFC 4271 4.4", peering=SHORT, slow=True)
async def _(place: Place) -> None:
    session = await place.establish(hold_s=3, beat_s=1)
    session.pause()
    await asyncio.sleep(5)
    session.resume()
    await session.until(lambda: len(session.heard(KEEPALIVE)) >= 4, "KEEPALIVEs after a pause", 2)
    await session.lives(2)


# Collisions (RFC 4271 section 6.8): it connects to us, and we to it
COLLISIONS = "collisions"
CONNECTS = Peering(families=("ipv4",), connects=True)


async def _two(place: Place, router_id: bytes) -> tuple[str, str]:
    """Send OPEN on its connection and on ours; return how each ended ("" while it lives)."""
    place.listen()
    its = await place.accept()
    ours = await place.connect()
    await its.message(wire.OPEN)
    await its.send(its.open(router_id=router_id))
    await ours.send(ours.open(router_id=router_id))
    for _ in range(80):
        if its.ending or ours.ending:
            break
        await asyncio.sleep(0.1)
    left = its if ours.ending else ours
    await left.send(keepalive())
    await left.lives(0.5)
    await left.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    return its.ending, ours.ending


@story("collision-our-identifier-is-higher", COLLISIONS, "RFC 4271 6.8", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    its, ours = await _two(place, wire.ip("250.0.0.1"))
    if ours or not its.startswith("6/7"):
        raise Failed(f"its connection should have ended with 6/7; its: {its or 'lives'}, ours: {ours or 'lives'}")


@story("collision-our-identifier-is-lower", COLLISIONS, "RFC 4271 6.8", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    its, ours = await _two(place, wire.ip("0.0.0.9"))
    if its or not ours.startswith("6/7"):
        raise Failed(f"our connection should have ended with 6/7; its: {its or 'lives'}, ours: {ours or 'lives'}")


@story("collision-equal-identifiers", COLLISIONS, "RFC 6286 2.3", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    its, ours = await _two(place, wire.ip("192.0.2.1"))
    if ours or not its.startswith("6/7"):
        raise Failed(f"the higher AS is ours, so ours should live; its: {its or 'lives'}, ours: {ours or 'lives'}")


@story("it-connects-and-is-accepted", COLLISIONS, "RFC 4271 8.2.2", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    place.listen()
    its = await place.accept()
    await its.message(wire.OPEN)
    await its.send(its.open(), keepalive())
    await its.message(KEEPALIVE)
    await its.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)


@story("it-connects-again-after-the-end", COLLISIONS, "RFC 4271 8.2.2", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    place.listen()
    its = await place.accept()
    await its.message(wire.OPEN)
    await its.close(abort=True)
    again = await place.accept(30)
    await again.message(wire.OPEN)
    await again.send(again.open(), keepalive())
    await again.message(KEEPALIVE)


@story("established-and-a-new-connection", COLLISIONS, "RFC 4271 6.8", peering=CONNECTS, slow=True)
async def _(place: Place) -> None:
    place.listen()
    its = await place.accept()
    await its.message(wire.OPEN)
    await its.send(its.open(), keepalive())
    await its.message(KEEPALIVE)
    await its.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    ours = place.session()
    try:
        await ours.connect(place.subject.address, place.subject.port)
        await ours.send(ours.open(router_id=wire.ip("250.0.0.1")))
        require(await ours.ended(), ("6/7", "closed", "reset"))
    except OSError:
        pass
    if its.heard(NOTIFICATION) or its.ending:
        raise Failed(f"the established session ended with {its.ending}")
    await place.stays("ipv4", 1, for_s=0.3)
