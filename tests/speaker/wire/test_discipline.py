"""Parsers look at what is there and no further, answer with the errors of speaker.errors, and take time as octets come.

Time is counted, not measured: the lines that are executed and the octets that are copied.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from types import FrameType
from typing import Any, SupportsIndex

import pytest

from speaker.errors import OCTETS_AT_MOST, DisableFamily, SessionReset
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.framing import TOLD_AT_MOST
from speaker.wire.update import Update, UpdateDecoder
from tests.speaker.wire.test_arbitrary_octets import VECTORS, use
from tests.speaker.wire.worst import WITH_IDENTIFIERS, WORST, Build, decoder

ALL = frozenset(Family)
SPEAKER = str(Path(sys.modules[UpdateDecoder.__module__].__file__ or "").parent)
SESSIONS = [(ibgp, as4, add_path) for ibgp in (True, False) for as4 in (True, False) for add_path in (True, False)]


def readers() -> list[UpdateDecoder]:
    interner = Interner()
    return [
        UpdateDecoder(interner, ibgp=ibgp, as4=as4, families=ALL, add_path=ALL if add_path else frozenset())
        for ibgp, as4, add_path in SESSIONS
    ]


def answered(reader: UpdateDecoder, body: bytes) -> Update | SessionReset | DisableFamily:
    """What a reader makes of a body; every error says which octets are wrong, unless they are what is missing."""
    answer: Update | SessionReset | DisableFamily
    try:
        answer = reader.decode(body)
    except (SessionReset, DisableFamily) as error:
        answer = error
    for wrong in answer.errors if isinstance(answer, Update) else [answer]:
        assert len(wrong.octets) <= OCTETS_AT_MOST
        assert wrong.octets or "missing" in wrong.reason, wrong.reason
    return answer


def refitted(body: bytes) -> bytes:
    """A body whose attributes go to its end, so that what is in them is looked at."""
    return b"\0\0" + (len(body) - 4).to_bytes(2, "big") + body[4:] if len(body) >= 4 else body


def test_captures_that_end_at_any_octet_are_read_or_refused() -> None:
    seen: set[type] = set()
    every = readers()
    for body in VECTORS:
        for end in range(len(body)):
            reader = every[end % len(every)]
            for octets in (body[:end], refitted(body[:end])):
                answer = answered(reader, octets)
                seen.add(type(answer))
                if isinstance(answer, Update):
                    use(answer, with_identifiers=bool(reader.add_path))
    assert seen == {Update, SessionReset, DisableFamily}


def test_captures_with_any_octet_changed_are_read_or_refused() -> None:
    chance = random.Random(7606)
    seen: set[type] = set()
    every = readers()
    for body in VECTORS:
        for at in range(len(body)):
            reader = every[chance.randrange(len(every))]
            octets = body[:at] + bytes((body[at] ^ chance.randrange(1, 256),)) + body[at + 1 :]
            answer = answered(reader, octets)
            seen.add(type(answer))
            if isinstance(answer, Update):
                use(answer, with_identifiers=bool(reader.add_path))
    assert seen == {Update, SessionReset, DisableFamily}


class Counted(bytes):
    """Octets that count how many of them are copied; what is cut from them counts as well."""

    copied = 0

    def __getitem__(self, key: SupportsIndex | slice) -> Any:
        found = super().__getitem__(key)
        if isinstance(found, bytes):
            Counted.copied += len(found)
            return Counted(found)
        return found


def cost(body: bytes, *, add_path: bool) -> tuple[int, int, str]:
    """The lines executed in the codec for a body, the octets copied, and how it ended."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if not frame.f_code.co_filename.startswith(SPEAKER):
            return None
        lines += event == "line"
        return trace

    reader = decoder(add_path=add_path)
    Counted.copied = 0
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        answer = answered(reader, Counted(body))
    finally:
        sys.settrace(before)
    if isinstance(answer, Update):
        assert len(answer.errors) <= TOLD_AT_MOST + 1
        return lines, Counted.copied, "read"
    assert len(answer.reason) < 1000
    return lines, Counted.copied, "refused"


COSTLY = [(name, build, False) for name, build in WORST.items()]
COSTLY += [(f"{name}, with path identifiers", build, True) for name, build in WITH_IDENTIFIERS.items()]


@pytest.mark.parametrize(("build", "add_path"), [each[1:] for each in COSTLY], ids=[each[0] for each in COSTLY])
def test_twice_the_octets_cost_no_more_than_twice(build: Build, add_path: bool) -> None:
    small, large = 8192, 16384
    lines, copied, outcome = cost(build(small), add_path=add_path)
    more_lines, more_copied, same = cost(build(large), add_path=add_path)
    assert outcome == same
    assert lines > 20, "it is counted"
    assert more_lines <= 2 * lines + 300
    assert more_copied <= 2 * copied + 3000
    assert more_copied <= 12 * large
