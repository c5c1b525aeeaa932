"""What is demanded whatever octets come: the declared errors alone, and values that can be shown, sent and read again.

`check` puts a case through its entrance. An exception that comes out of it is a finding; AssertionError says what was
demanded. Not demanded, since it is lossy by design: octets of an attribute that was discarded, the partial bit of those
that are not known, how AS numbers in a row are dealt to segments, text of a peer that is not UTF-8.
"""

from __future__ import annotations

import functools
import itertools
import json
import time
from collections.abc import Collection, Iterable
from typing import Any, Literal, get_args

import attrs

from speaker import session
from speaker.errors import BgpError, DisableFamily, SessionReset
from speaker.path import AS_CONFED_SEQUENCE, AS_SEQUENCE, Attributes, Path
from speaker.session import Close, Down, Routes, Send, Session, Settings
from speaker.values import Family, address_text, key_text
from speaker.wire.attribute import Interner
from speaker.wire.capability import (
    AddPath,
    Capability,
    ExtendedMessage,
    FourOctetAs,
    Fqdn,
    Multiprotocol,
    decode_capability,
)
from speaker.wire.community import community_text
from speaker.wire.message import EXTENDED_LIMIT, KEEPALIVE, MESSAGE_LIMIT, Notification, Open, split
from speaker.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals
from tests.fuzzing.policies import decided

Entrance = Literal["update", "session", "open", "stream", "capability"]
ENTRANCES: tuple[Entrance, ...] = get_args(Entrance)
Stage = Literal["open-sent", "open-confirm", "established"]
STAGES: tuple[Stage, ...] = get_args(Stage)

LINE = 1000
"""Characters of a reason: it goes into a line of the log, and stands in the answers of the API."""

SHOWN = 50
"""So many routes of an UPDATE are put into words; a long one has ten thousands."""

DECIDED = 2
"""So many of them go through a policy."""

OURS, THEIRS = bytes((192, 0, 2, 1)), bytes((192, 0, 2, 2))


@attrs.frozen(kw_only=True)
class Case:
    """Octets, and what they are sent to."""

    octets: bytes
    entrance: Entrance
    ibgp: bool = True
    as4: bool = True
    families: frozenset[Family] = frozenset(Family)
    add_path: frozenset[Family] = frozenset()
    stage: Stage = "established"  # of a session
    cuts: tuple[int, ...] = ()  # where a session reads them in pieces

    def text(self, **more: str) -> str:
        """A line of JSON."""
        told = attrs.asdict(self) | {
            "octets": self.octets.hex(),
            "families": sorted(family.text for family in self.families),
            "add_path": sorted(family.text for family in self.add_path),
            **more,
        }
        return json.dumps(told, indent=1)

    @classmethod
    def read(cls, text: str) -> Case:
        """Undo `text`."""
        told = json.loads(text)
        return cls(
            octets=bytes.fromhex(told["octets"]),
            entrance=told["entrance"],
            ibgp=told["ibgp"],
            as4=told["as4"],
            families=frozenset(map(Family.parse, told["families"])),
            add_path=frozenset(map(Family.parse, told["add_path"])),
            stage=told["stage"],
            cuts=tuple(told["cuts"]),
        )


@attrs.frozen
class Outcome:
    """What became of a case."""

    word: str
    cpu_ns: int  # of the code under test alone


def check(case: Case, interner: Interner) -> Outcome:
    """Put a case through its entrance; `interner` may remember other cases."""
    match case.entrance:
        case "update":
            return _update(case, interner)
        case "session":
            return _session(case, interner)
        case "open":
            return _open(case)
        case "stream":
            return _stream(case)
        case "capability":
            return _capability(case)


def _decoder(case: Case, interner: Interner) -> UpdateDecoder:
    return UpdateDecoder(interner, ibgp=case.ibgp, as4=case.as4, families=case.families, add_path=case.add_path)


def _update(case: Case, interner: Interner) -> Outcome:
    decoder = _decoder(case, interner)
    begin = time.thread_time_ns()
    try:
        update = decoder.decode(case.octets)
    except (SessionReset, DisableFamily) as error:
        cpu_ns = time.thread_time_ns() - begin
        acceptable(error)
        return Outcome(type(error).__name__, cpu_ns)
    cpu_ns = time.thread_time_ns() - begin
    usable(update, case)
    if not case.octets[-1:].strip(b"\0\x0f\xf0\xff"):  # some of them, the same ones always
        fresh = _decoder(case, Interner()).decode(case.octets)
        assert said(update) == said(fresh), "what was decoded before makes a difference"
    word = "announced" if update.announced else "withdrawn" if update.withdrawn else "nothing"
    return Outcome(word + (", errors" if update.errors else ""), cpu_ns)


def acceptable(error: BgpError, codes: Collection[int] = range(1, 9)) -> None:
    """An error can be told: to the peer in a NOTIFICATION, to people in a line."""
    assert error.reason, "an error without a reason"
    assert len(error.reason) <= LINE, f"a reason of {len(error.reason)} characters"
    if isinstance(error, SessionReset):
        octets = Notification(error.code, error.subcode, error.data).encode()
        assert error.code in codes, f"the code {error.code}"
        assert len(octets) <= MESSAGE_LIMIT
        assert split(octets)[1] == len(octets)
    if isinstance(error, DisableFamily):
        assert isinstance(error.family, Family)


def usable(update: Update, case: Case) -> None:
    """What was found can be shown and sent, and is the same when it is read again."""
    for error in update.errors:
        acceptable(error)
    again = UpdateDecoder(Interner(), ibgp=case.ibgp, as4=True, families=frozenset(Family), add_path=case.add_path)
    for family, keys in update.withdrawn:
        assert family in case.families, f"{family.text} is none of the session's"
        assert keys, "withdrawn: an empty list"
        add_path = family in case.add_path
        for key in keys[:SHOWN]:
            assert key_text(family, key[4 * add_path :])
        told = [
            key
            for octets in encode_withdrawals(family, keys, add_path=add_path)
            for found, some in again.decode(octets[19:]).withdrawn
            for key in some
            if found is family
        ]
        assert told == keys, "withdrawals that are read otherwise than they were sent"
    for family, routes in update.announced:
        assert family in case.families, f"{family.text} is none of the session's"
        assert routes, "announced: an empty dict"
        _announced(family, routes, again, case)


def _announced(family: Family, routes: dict[bytes, Any], again: UpdateDecoder, case: Case) -> None:
    attributes: Attributes = next(iter(routes.values())).attributes
    add_path = family in case.add_path
    shared: dict[bytes, Path] = {}  # not attributes.paths, which is forgotten when all blocks take too much
    for key, path in list(routes.items())[:SHOWN]:
        assert key_text(family, key[4 * add_path :])
        assert path is shared.setdefault(path.extra, path), "a path that is not interned"
    address_text(attributes.next_hop)
    assert all(map(community_text, attributes.ext_communities))
    for key, path in list(routes.items())[:DECIDED]:
        one, other = decided(family, key[4 * add_path :], path)
        assert (one and meaning(one)) == (other and meaning(other)), "a policy does not do what it explains"
    told = [(key, path.extra) for key, path in routes.items()]
    meant = meaning(attributes)
    heard: dict[bytes, bytes] = {}
    try:
        for octets in encode_updates(family, attributes, told, as4=True, limit=EXTENDED_LIMIT, add_path=add_path):
            update = again.decode(octets[19:])
            assert not update.errors, f"our own UPDATE has an error: {update.errors[0]}"
            for found, some in update.announced:
                assert found is family
                heard |= {key: path.extra for key, path in some.items()}
                assert meaning(next(iter(some.values())).attributes) == meant, "attributes read otherwise than sent"
        for _ in encode_updates(family, attributes, told[:3], as4=False, limit=EXTENDED_LIMIT, add_path=add_path):
            pass
    except ValueError:
        if len(case.octets) < 16000:  # of more, what is said in 4-octet AS numbers may not fit into a message
            raise
        return
    assert heard == dict(told), "routes read otherwise than they were sent"


def meaning(attributes: Attributes) -> dict[str, Any]:
    """What attributes say."""
    told = {
        field.name: getattr(attributes, field.name)
        for field in attrs.fields(Attributes)
        if field.name not in ("importers", "imports_version", "paths", "discarded")
    }
    told["unknown"] = sorted((code, value) for _, code, value in attributes.unknown)
    joined: list[tuple[int, tuple[int, ...]]] = []
    for kind, numbers in attributes.as_path:
        if joined and kind == joined[-1][0] and kind in (AS_SEQUENCE, AS_CONFED_SEQUENCE):
            joined[-1] = (kind, joined[-1][1] + numbers)
        else:
            joined.append((kind, numbers))
    told["as_path"] = joined
    return told


def said(update: Update) -> Any:
    """An UPDATE as values that can be compared with those of another decoder."""
    announced = [
        (family, {key: path.extra for key, path in routes.items()}, meaning(next(iter(routes.values())).attributes))
        for family, routes in update.announced
    ]
    errors = [(type(error), error.reason) for error in update.errors]
    return update.withdrawn, announced, update.end_of_rib, errors


def _session(case: Case, interner: Interner) -> Outcome:
    begin = time.thread_time_ns()
    one, actions = _fed(case, interner, case.cuts)
    cpu_ns = time.thread_time_ns() - begin
    _orderly(one, actions, case)
    if case.cuts:
        _, others = _fed(case, interner, ())
        assert [*map(type, others)] == [*map(type, actions)], "the same octets in one piece do something else"
    word = one.state
    if not one.closed:
        _timers(one)
    for nothing in (one.received(KEEPALIVE * 2, 9.0), one.tick(1e9), one.close(6, 2, "x"), one.abandon("x")):
        assert nothing == [] or not one.closed or nothing[-1] is not None
    assert one.closed
    assert one.received(case.octets, 9.0) == one.tick(2e9) == one.close(6, 2) == []
    assert one.deadline() is None
    return Outcome(f"{case.stage} to {word}", cpu_ns)


def _fed(case: Case, interner: Interner, cuts: Iterable[int]) -> tuple[Session, list[session.Action]]:
    """A session in the stage of a case, and all that it does when it reads the octets."""
    settings, theirs = _agreeing(case.ibgp, case.as4, case.families, case.add_path)
    one = Session(settings, interner)
    one.connected(0.0)
    if case.stage != "open-sent":
        one.received(theirs, 1.0)
    if case.stage == "established":
        one.received(KEEPALIVE, 1.5)
        assert one.state == "established", one.state
    size = len(case.octets)
    places = [0, *sorted(cut % (size + 1) for cut in cuts), size]
    actions = []
    for at, end in itertools.pairwise(places):
        actions += one.received(case.octets[at:end], 2.0)
    return one, actions


@functools.cache
def _agreeing(
    ibgp: bool, as4: bool, families: frozenset[Family], add_path: frozenset[Family]
) -> tuple[Settings, bytes]:
    """Our settings, and the OPEN of a peer that agrees to them."""
    settings = Settings(
        local_as=64512,
        remote_as=64512 if ibgp else 64513,
        router_id=OURS,
        families=tuple(sorted(families)),
        restart_time_s=120,
        add_path_receive=add_path,
        add_path_send=add_path,
        role=None if ibgp else "provider",
    )
    told: list[Capability] = [Multiprotocol(family) for family in sorted(families)]
    told += [ExtendedMessage(), *([FourOctetAs(settings.remote_as)] if as4 else [])]
    told += [AddPath(dict.fromkeys(sorted(add_path), AddPath.SEND | AddPath.RECEIVE))] if add_path else []
    return settings, Open(settings.remote_as, 90, THEIRS, tuple(told)).encode()


def _orderly(one: Session, actions: list[session.Action], case: Case) -> None:
    """What a session does makes sense."""
    ends = [action for action in actions if isinstance(action, Down)]
    assert len(ends) == one.closed, f"{len(ends)} ends"
    if ends:
        assert isinstance(actions[-2], Close)
        assert actions[-1] is ends[0]
        line(ends[0].reason)
    carried = case.families
    for action in actions:
        match action:
            case Send(octets):
                assert split(octets, EXTENDED_LIMIT)[1] == len(octets), "half a message"
            case session.Up(negotiated):
                line(negotiated.remote_host_name)
                assert negotiated.families <= case.families
            case Routes(update):
                families = {family for family, _ in [*update.withdrawn, *update.announced]}
                assert families <= carried, "routes of a family that is disabled"
                if case.stage == "established":
                    usable(update, case)
            case session.Disabled(family, reason):
                line(reason)
                assert family in carried
                carried -= {family}
            case session.Refresh(family) | session.Refreshing(family, _):
                assert family in case.families


def line(text: str) -> None:
    """A text fits into a line of the log."""
    assert text.isprintable(), f"not printable: {text!r}"
    assert len(text) <= LINE, f"a line of {len(text)} characters"


def _timers(one: Session) -> None:
    """A session that lives is silent for ever only if a hold time of 0 was agreed on."""
    lasts = one.state == "established" and one.negotiated is not None and not one.negotiated.hold_s
    deadline = one.deadline()
    assert (deadline is None) == lasts, f"the next deadline is {deadline}"
    if deadline is not None:
        one.tick(deadline)
        assert one.closed or (one.deadline() or 0.0) > deadline, "a timer that stands still"


def _open(case: Case) -> Outcome:
    begin = time.thread_time_ns()
    try:
        opened = Open.decode(case.octets)
    except SessionReset as error:
        cpu_ns = time.thread_time_ns() - begin
        acceptable(error, codes=(1, 2))
        return Outcome("OPEN refused", cpu_ns)
    cpu_ns = time.thread_time_ns() - begin
    again = Open.decode(opened.encode()[19:])
    for one, other in zip(opened.capabilities, again.capabilities, strict=True):
        assert one == other or isinstance(one, Fqdn), f"{one} is read as {other}"
    assert attrs.evolve(opened, capabilities=()) == attrs.evolve(again, capabilities=())
    return Outcome("OPEN", cpu_ns)


def _stream(case: Case) -> Outcome:
    begin = time.thread_time_ns()
    for limit in (MESSAGE_LIMIT, EXTENDED_LIMIT):
        try:
            messages, used = split(case.octets, limit)
        except SessionReset as error:
            acceptable(error, codes=(1,))
        else:
            assert used == sum(19 + len(body) for _, body in messages) <= len(case.octets)
            assert all(19 + len(body) <= limit for _, body in messages)
    return Outcome("stream", time.thread_time_ns() - begin)


def _capability(case: Case) -> Outcome:
    begin = time.thread_time_ns()
    capability = decode_capability(case.octets[0], case.octets[1:])
    cpu_ns = time.thread_time_ns() - begin
    octets = capability.encode()
    assert octets[1] == len(octets) - 2 <= 255
    if not isinstance(capability, Fqdn):
        assert decode_capability(octets[0], octets[2:]) == capability
    return Outcome("capability", cpu_ns)
