"""Runs cases against a program, and counts: passed, failed, not applicable.

Cases run side by side, each from its own address. Beside them a *witness* holds a session with one route of every
family: when a case costs the witness its session or a route, or ends the program, the cases that ran meanwhile are run
again one by one, the program is started anew after each such loss, and the case that caused it has failed.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import attrs

from tests.conformance.case import CASES, Case
from tests.conformance.place import NotApplicable, Peering, Place
from tests.conformance.session import Failed, Session
from tests.conformance.subjects import Peers, Subject, addresses

CASE_S = 75.0
"""How long a case may take."""

WITNESS = 4000
"""The number of the witness, as if it were a case."""

Outcome = Literal["passed", "failed", "not applicable"]


@attrs.frozen
class Result:
    """What became of a case."""

    case: Case
    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class Run:
    """One run of cases against one program."""

    def __init__(self, subject: Subject, cases: Iterable[Case], *, batch: int, at_once: int) -> None:
        self.subject = subject
        self.cases = list(cases)
        self.batch = batch
        self.at_once = at_once
        free = iter(addresses(subject))
        self.witness_address = next(free)
        self.addresses = {case.name: next(free) for case in self.cases}
        self.numbers = {case.name: number for number, case in enumerate(CASES)}
        self.asked: list[Case] = []  # those that are applicable as far as is known before
        self.results: dict[str, Result] = {}
        self._witness: tuple[Place, Session] | None = None

    async def run(self) -> list[Result]:
        """Run all cases."""
        for case in self.cases:
            if reason := self._inapplicable(case):
                self.results[case.name] = Result(case, "not applicable", reason)
        self.asked = [case for case in self.cases if case.name not in self.results]
        try:
            slow = None
            for batch in self._batches():
                if batch[0].slow is not slow:  # restarts of neighbours may leave something: the others begin anew
                    slow = batch[0].slow
                    await self._start()
                limit = asyncio.Semaphore(self.at_once)
                results = await asyncio.gather(*(self._limited(case, limit) for case in batch))
                lost = await self._lost()
                if lost and len(batch) > 1:
                    await self._start()
                    results = [await self._alone(case) for case in batch]
                elif lost:
                    results = [Result(batch[0], "failed", f"{lost}; {results[0].reason}")]
                    await self._start()
                for result in results:
                    self.results[result.case.name] = result
        finally:
            await self._end()
        return [self.results[case.name] for case in self.cases]

    def _batches(self) -> Iterator[list[Case]]:
        """Return what runs side by side; first what waits for timers, undisturbed by the others."""
        for slow in (True, False):
            cases = [case for case in self.asked if case.slow is slow]
            for at in range(0, len(cases), self.batch):
                yield cases[at : at + self.batch]

    def _inapplicable(self, case: Case) -> str:
        if not case.families <= self.subject.families:
            return f"it has no {', '.join(sorted(case.families - self.subject.families))}"
        if case.needs_option and case.needs_option not in self.subject.options:
            return f"it has no option for {case.needs_option}"
        if case.knows and case.knows not in self.subject.knows:
            return f"it does not know attribute {case.knows}"
        return ""

    async def _start(self) -> None:
        await self._end()
        families = self._witnessed()
        witness = Peering(ibgp=True, families=families, client="client" in self.subject.options)
        peers: Peers = {self.witness_address: witness}
        peers |= {self.addresses[case.name]: case.peering for case in self.asked if case.peering.configured}
        await asyncio.to_thread(self.subject.start, peers)
        place = Place(self.subject, witness, WITNESS, self.witness_address)
        try:
            session = await place.establish(families=families)
        except Failed as error:
            raise RuntimeError(f"{error}\n{self.subject.log()}") from error
        await session.send(*(place.announce(family, 1) for family in families))
        for family in families:
            await place.taken(family, 1)
        self._witness = place, session

    def _witnessed(self) -> tuple[str, ...]:
        return tuple(family for family in Peering().families if family in self.subject.families)

    async def _end(self) -> None:
        if self._witness is not None:
            await self._witness[0].close()
            self._witness = None
        self.subject.end()

    async def _lost(self) -> str:
        """Say what the program or the witness lost, if anything."""
        if not self.subject.lives():
            return f"the program died{self.subject.last_words()}"
        assert self._witness is not None
        place, session = self._witness
        if session.ending:
            return f"another session ended with {session.ending}"
        families = self._witnessed()
        tokens = {(family, place.token(family, 1)) for family in families}
        seen = await self.subject.seen(lambda seen: tokens <= seen.keys(), frozenset(families), 2.0)
        if tokens <= seen.keys():
            return ""
        if not self.subject.lives():
            return f"the program died{self.subject.last_words()}"
        return f"another session lost {sorted(tokens - seen.keys())}"

    async def _limited(self, case: Case, limit: asyncio.Semaphore) -> Result:
        async with limit:
            return await self._one(case)

    async def _alone(self, case: Case) -> Result:
        result = await self._one(case)
        lost = await self._lost()
        if lost:
            result = attrs.evolve(result, outcome="failed", reason=f"{lost}; {result.reason}".rstrip("; "))
            await self._start()
        return result

    async def _one(self, case: Case) -> Result:
        place = Place(
            self.subject,
            case.peering,
            self.numbers[case.name],
            self.addresses[case.name],
            case.needs,
            case.without,
            observer=self._witness[1] if self._witness else None,
        )
        began = time.monotonic()
        outcome: Outcome = "passed"
        reason = ""
        try:
            async with asyncio.timeout(CASE_S):
                await case.story(place)
        except NotApplicable as error:
            outcome, reason = "not applicable", str(error)
        except Failed as error:
            outcome, reason = "failed", str(error)
        except Exception as error:
            outcome, reason = "failed", f"{type(error).__name__}: {error}"
        finally:
            await place.close()
        return Result(case, outcome, reason, time.monotonic() - began)


def table(name: str, results: list[Result]) -> str:
    """Return the scores by area, and under them the failed cases with what was seen."""
    areas: dict[str, Counter[str]] = {}
    for result in results:
        areas.setdefault(result.case.area, Counter())[result.outcome] += 1
    total = Counter(result.outcome for result in results)
    lines = [f"| {name} | passed | failed | not applicable |", "|---|---|---|---|"]
    for area, count in [*areas.items(), ("all", total)]:
        lines.append(f"| {area} | {count['passed']} | {count['failed']} | {count['not applicable']} |")
    failed = [result for result in results if result.outcome == "failed"]
    if failed:
        lines += ["", "Failed:", ""]
        lines += [f"- {each.case.name} ({each.case.rfc}): {each.reason}" for each in failed]
    return "\n".join(lines)


def write(file: Path, name: str, results: list[Result]) -> None:
    """Write the results as JSON."""
    plain = [
        {
            "name": each.case.name,
            "area": each.case.area,
            "rfc": each.case.rfc,
            "outcome": each.outcome,
            "reason": each.reason,
            "seconds": round(each.seconds, 2),
        }
        for each in results
    ]
    count = Counter(each.outcome for each in results)
    file.write_text(json.dumps({"subject": name, "count": count, "cases": plain}, indent=1) + "\n")
