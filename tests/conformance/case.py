"""What a case is, and the usual shapes of one: octets that may be met by some reactions and by no others.

A reaction is a word, or the NOTIFICATION that ends the session:

    accepted      the routes of the UPDATE are there (also: attribute discard); the session goes on
    withdrawn     the routes of the UPDATE are not there, nor what was there of them before; the session goes on
    ignored       the UPDATE changed nothing; the session goes on
    disabled      the family is used no more; the session goes on with others
    established   an OPEN was taken
    closed        the connection ended without a NOTIFICATION
    3/1           that NOTIFICATION, with any data; 3/1:0102 with exactly this data; 3/* with any subcode

RFC 7606 section 2 has the definitions.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

import attrs

from tests.conformance import wire
from tests.conformance.place import BAD, FENCE, GOOD, LIMIT_S, NEW, Peering, Place, Routes, Story
from tests.conformance.session import Failed, Session

SETTLE_S = 1.5
"""How long a reaction may take to be seen after the next route was taken."""

EBGP, IBGP = Peering(), Peering(ibgp=True)


@attrs.frozen
class Case:
    """One case."""

    name: str  # unique
    area: str
    rfc: str  # RFC and section
    story: Story
    peering: Peering = EBGP
    needs: frozenset[int] = frozenset()  # capabilities that the peer under test must tell
    without: frozenset[int] = frozenset()  # and that it must not tell
    families: frozenset[str] = frozenset()  # that it must have
    knows: int = 0  # an optional attribute that it must know
    needs_option: str = ""  # something that must be possible to configure
    slow: bool = False  # it waits for timers

    def __str__(self) -> str:
        return self.name


def allowed(seen: str, reactions: Iterable[str]) -> bool:
    """Tell whether what was seen is one of the reactions."""
    return any(
        seen == each
        or (":" not in each and seen.split(":")[0] == each)
        or (each.endswith("/*") and seen.startswith(each[:-1]))
        for each in reactions
    )


def require(seen: str, reactions: Iterable[str]) -> None:
    """Raise Failed unless what was seen is allowed."""
    if not allowed(seen, reactions):
        raise Failed(f"{seen}; allowed: {', '.join(sorted(set(reactions)))}")


Said = Callable[[Place], bytes]
"""What a case sends."""


async def reaction_to_update(
    place: Place, session: Session, family: str, said: bytes, reactions: frozenset[str], *, path_id: bytes = b""
) -> str:
    """Send an UPDATE about GOOD, which is there, and NEW, which is not; return what became of them."""
    await session.send(place.announce(family, GOOD))
    await place.taken(family, GOOD)
    if session.ending:
        return session.ending
    other = next((each for each in session.families if each != family), family)
    await session.send(said, place.announce(family, FENCE), place.announce(other, FENCE))
    good, new, bad, fence, last = (
        (each, place.token(each, route))
        for each, route in ((family, GOOD), (family, NEW), (family, BAD), (family, FENCE), (other, FENCE))
    )

    def reaction(seen: Routes) -> str:
        if session.ending:
            return session.ending
        if not seen[last]:
            return "nothing more was taken"
        if not seen[fence]:
            return "disabled"
        if seen[bad]:
            return "the bad route was taken"
        return {(True, True): "accepted", (False, False): "withdrawn", (True, False): "ignored"}.get(
            (seen[good] > 0, seen[new] > 0), "the new route without the old one"
        )

    families = frozenset({family, other})
    seen = await place.subject.seen(lambda seen: bool(session.ending) or seen[last] > 0, families, LIMIT_S)
    seen = await place.subject.seen(lambda seen: allowed(reaction(seen), reactions), families, SETTLE_S)
    return reaction(seen)


def update_case(
    name: str,
    area: str,
    rfc: str,
    family: str,
    said: Said,
    *reactions: str,
    peering: Peering = EBGP,
    capabilities: tuple[bytes, ...] = (),
    left_out: tuple[int, ...] = (),
    needs: Iterable[int] = (),
    without: Iterable[int] = (),
    knows: int = 0,
    needs_option: str = "",
) -> Case:
    """A case about one UPDATE of routes GOOD and NEW in an established session."""
    families = ("ipv6" if family == "ipv4" else "ipv4", family)

    async def story(place: Place) -> None:
        place.as_octets = 2 if 65 in left_out else 4
        session = await place.establish(families=families, capabilities=capabilities, without=left_out)
        require(await reaction_to_update(place, session, family, said(place), frozenset(reactions)), reactions)

    return Case(
        name,
        area,
        rfc,
        story,
        attrs.evolve(peering, families=families),
        frozenset(needs),
        frozenset(without),
        frozenset(families),
        knows,
        needs_option,
    )


def open_case(
    name: str,
    rfc: str,
    body: Said,
    *reactions: str,
    peering: Peering = EBGP,
    area: str = "OPEN",
    needs: Iterable[int] = (),
    needs_option: str = "",
) -> Case:
    """A case about one OPEN, given by its body."""

    async def story(place: Place) -> None:
        session = await place.connect()
        await session.send(wire.message(wire.OPEN, body(place)))
        require(await reaction_to_open(session), reactions)

    return Case(name, area, rfc, story, peering, frozenset(needs), needs_option=needs_option)


async def reaction_to_open(session: Session) -> str:
    """See whether an OPEN was taken, and if so establish the session: it must live."""
    try:
        await session.message(wire.KEEPALIVE, within_s=3)
        await session.send(wire.keepalive())
        await session.lives(0.5)
    except Failed as failed:
        return session.ending or str(failed)
    return "established"


async def in_state(place: Place, state: str, *, capabilities: tuple[bytes, ...] = ()) -> Session:
    """Bring the peer under test into a state of RFC 4271 section 8.2.2."""
    match state:
        case "open-sent":
            return await place.connect()
        case "open-confirm":
            made = await place.connect()
            await made.send(made.open(capabilities=capabilities))
            await made.message(wire.KEEPALIVE)
            return made
    return await place.establish(capabilities=capabilities)


def message_case(
    name: str,
    area: str,
    rfc: str,
    state: str,
    said: Said,
    *reactions: str,
    peering: Peering = EBGP,
    capabilities: tuple[bytes, ...] = (),
    needs: Iterable[int] = (),
    without: Iterable[int] = (),
) -> Case:
    """A case about octets in a state; "stays": the session goes on, and the next route is taken."""

    async def story(place: Place) -> None:
        session = await in_state(place, state, capabilities=capabilities)
        await session.send(said(place))
        if "stays" not in reactions:
            require(await session.ended(), reactions)
            return
        if state != "established":
            await session.send(wire.keepalive())
        await session.send(place.announce("ipv4", FENCE))
        tokens = ("ipv4", place.token("ipv4", FENCE))
        await place.subject.seen(lambda seen: bool(session.ending) or seen[tokens] > 0, frozenset({"ipv4"}), LIMIT_S)
        if session.ending:
            require(session.ending, reactions)
        else:
            await place.taken("ipv4", FENCE, within_s=0.2)

    return Case(name, area, rfc, story, peering, frozenset(needs), frozenset(without))


CASES: list[Case] = []
"""All cases, in the order in which they are shown."""


def add(*cases: Case) -> None:
    CASES.extend(cases)


def story(
    name: str,
    area: str,
    rfc: str,
    *,
    peering: Peering = EBGP,
    needs: Iterable[int] = (),
    needs_option: str = "",
    families: Iterable[str] = (),
    slow: bool = False,
) -> Callable[[Story], Story]:
    """Make a case of a coroutine."""

    def made(told: Story) -> Story:
        add(
            Case(
                name,
                area,
                rfc,
                told,
                peering,
                frozenset(needs),
                families=frozenset(families),
                needs_option=needs_option,
                slow=slow,
            )
        )
        return told

    return made


async def pause(seconds: float) -> None:
    """Let the peer under test's timers run."""
    await asyncio.sleep(seconds)
