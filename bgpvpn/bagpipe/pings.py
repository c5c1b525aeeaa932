"""Which number /ping answers (rim): another one exactly when the L2 agent would otherwise send nothing any more.

The agent asks at a fixed interval. When the number is another it attaches all of its ports anew; so the number stays
over a restart, as what was attached does. But once it asked in vain it takes the daemon for down until the number
*changes*, and attaches and detaches nothing until then, even when the number that it knows is answered again. So the
number changes when the agent must have asked between its last answer and now. When that was is kept in a file.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import msgspec

log = logging.getLogger(__name__)

INTERVAL_S = 10.0
"""How often the agent asks, as long as nothing else is known of it: its option ping_interval."""

MISSED = 1.5
"""After so many intervals it has asked once more than was answered."""


@attrs.frozen
class Kept:
    """What is in the file."""

    changes: int = 0  # of the number since the store was made
    answered_at: float | None = None  # to the agent, by the clock that all processes since the machine's start share
    interval_s: float = INTERVAL_S


class Pings:
    """The number, from the store's `identity` and what a file keeps; `clock` as `time.monotonic`."""

    def __init__(self, file: Path, identity: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._identity = identity
        self._clock = clock
        self._kept = Kept()
        with contextlib.suppress(FileNotFoundError):
            try:
                self._kept = msgspec.json.decode(file.read_bytes(), type=Kept)
            except msgspec.DecodeError as error:
                log.warning("bagpipe=ping file=%s error=%r", file, str(error))
        self._asked = False

    def answer(self, client: str) -> int:
        """Return the number for a client, by the User-Agent of its request: the agent is the one that is called so."""
        if "agent" in client.lower():
            self._answer_agent(self._clock())
        return self._identity + self._kept.changes

    def _answer_agent(self, now: float) -> None:
        kept, before = self._kept, self._kept.answered_at
        if before is not None:
            if self._asked:
                kept = attrs.evolve(kept, interval_s=now - before)
            elif not 0 <= now - before < MISSED * kept.interval_s:
                log.info("bagpipe=ping since_s=%.1f interval_s=%.1f number=changed", now - before, kept.interval_s)
                kept = attrs.evolve(kept, changes=kept.changes + 1)
        self._asked = True
        self._kept = attrs.evolve(kept, answered_at=now)
        beside = self._file.with_suffix(".new")
        try:
            beside.write_bytes(msgspec.json.encode(self._kept))
            beside.replace(self._file)
        except OSError as error:
            log.warning("bagpipe=ping file=%s error=%r", self._file, str(error))
