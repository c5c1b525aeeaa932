"""Cases by number, many of them in all processors, and a finding cut down to what it takes."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

from speaker.values import Family
from speaker.wire.attribute import Interner
from tests.fuzzing.mutation import Mutator
from tests.fuzzing.oracle import STAGES, Case, Outcome, check
from tests.fuzzing.seeds import Form

CORPUS = Path(__file__).resolve().parent / "corpus"
SHARE = 2000
"""Cases that a process does before it tells."""

TRIALS = 1000
"""How often a finding is tried while it is cut down."""

SLOWEST = 5

_FAMILY_SETS = (
    *[frozenset(Family)] * 6,
    frozenset({Family.IPV4}),
    frozenset({Family.VPNV4, Family.VPNV6, Family.EVPN}),
    frozenset({Family.VPNV4, Family.RTC}),
    frozenset({Family.IPV6, Family.IPV4_FLOWSPEC, Family.VPNV6_FLOWSPEC}),
)


@attrs.frozen
class Finding:
    """A case that did not do what is demanded."""

    seed: int
    number: int
    case: Case
    what: str  # the exception, and where

    def text(self) -> str:
        """For people, and what is needed to see it again."""
        return f"seed={self.seed} number={self.number} {self.what}\n{self.case.text()}"


@attrs.define
class Tally:
    """What came of a number of cases."""

    count: int = 0
    octets: int = 0
    cpu_ns: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)
    slowest: list[tuple[int, int, int]] = attrs.field(factory=list)  # ns, octets, number
    findings: list[Finding] = attrs.field(factory=list)

    def add(self, other: Tally) -> None:
        """Add what came of others."""
        self.count += other.count
        self.octets += other.octets
        self.cpu_ns += other.cpu_ns
        self.outcomes += other.outcomes
        self.slowest = sorted([*self.slowest, *other.slowest], reverse=True)[:SLOWEST]
        known = {finding.what for finding in self.findings}
        self.findings += [finding for finding in other.findings if finding.what not in known]


def corpus() -> list[Case]:
    """What was found before, each the smallest that shows it."""
    return [Case.read(path.read_text()) for path in sorted(CORPUS.glob("*.json"))]


def make(mutator: Mutator, seed: int, number: int) -> Case:
    """The case of this number; the same for ever, as long as the corpus is the same."""
    chance = random.Random(seed << 40 | number)
    ibgp, as4 = bool(chance.randrange(3)), bool(chance.randrange(4))
    families = chance.choice(_FAMILY_SETS)
    one = frozenset({chance.choice(sorted(families))})
    add_path = chance.choice((frozenset(), frozenset(), families, families, one))
    form = Form(as4, add_path == families)
    drawn = chance.randrange(20)
    match drawn:
        case 0:
            octets = bytes((chance.randrange(256),)) + mutator.capability(chance)[1]
            return Case(octets=octets, entrance="capability")
        case 1 | 2:
            return Case(octets=mutator.open(chance), entrance="open")
        case 3:
            return Case(octets=mutator.stream(chance, form), entrance="stream")
        case _ if drawn < 10:
            return Case(
                octets=mutator.stream(chance, form),
                entrance="session",
                ibgp=ibgp,
                as4=as4,
                families=families,
                add_path=add_path,
                stage=chance.choice((*STAGES, "established")),
                cuts=tuple(chance.randrange(1 << 16) for _ in range(chance.choice((0, 0, 1, 3)))),
            )
    return Case(
        octets=mutator.update(chance, form), entrance="update", ibgp=ibgp, as4=as4, families=families, add_path=add_path
    )


class Worker:
    """Does cases one after the other, with one interner, as a daemon would."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.mutator = Mutator([case.octets for case in corpus()])
        self.interner = Interner()

    def share(self, first: int, count: int) -> Tally:
        """Do `count` cases from the number `first` on."""
        tally = Tally(count=count)
        for number in range(first, first + count):
            case = make(self.mutator, self.seed, number)
            tally.octets += len(case.octets)
            try:
                outcome: Outcome = check(case, self.interner)
            except Exception as error:
                what = blame(error)
                if all(finding.what != what for finding in tally.findings):
                    tally.findings.append(Finding(self.seed, number, smallest(case, what), what))
                continue
            tally.outcomes[outcome.word] += 1
            tally.cpu_ns += outcome.cpu_ns
            if len(tally.slowest) < SLOWEST or outcome.cpu_ns > tally.slowest[-1][0]:
                tally.slowest = sorted([*tally.slowest, (outcome.cpu_ns, len(case.octets), number)], reverse=True)[
                    :SLOWEST
                ]
        return tally


def blame(error: Exception) -> str:
    """The kind of an exception and the function that it came out of, to tell findings apart."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    first = str(error).partition("\n")[0]
    words = "".join(each for each in first if not each.isdigit())[:60] if isinstance(error, AssertionError) else ""
    return f"{type(error).__name__} in {Path(frame.filename).name}, {frame.name}: {frame.line} {words}".rstrip(": ")


def smallest(case: Case, what: str) -> Case:
    """The case with as many octets left out as still shows the finding (delta debugging)."""
    left = TRIALS

    def shows(octets: bytes, cuts: tuple[int, ...] = ()) -> bool:
        nonlocal left
        left -= 1
        try:
            check(attrs.evolve(case, octets=octets, cuts=cuts), Interner())
        except Exception as error:
            return blame(error) == what
        return False

    if not shows(case.octets):
        return case  # it takes the cuts, or the cases before it
    case = attrs.evolve(case, cuts=())
    octets = case.octets
    size = max(len(octets) // 2, 1)
    while left > 0:
        shorter = _shorter(octets, size, shows)
        if shorter == octets and size == 1:
            break
        octets, size = shorter, max(size // 2, 1)
    return attrs.evolve(case, octets=octets)


def _shorter(octets: bytes, size: int, shows: Callable[[bytes], bool]) -> bytes:
    """Leave out runs of `size` octets, and put the length of a message right that has one."""
    at = 0
    while at < len(octets):
        without = octets[:at] + octets[at + size :]
        for candidate in (without, _with_length(without)):
            if shows(candidate):
                octets = candidate
                break
        else:
            at += size
    return octets


def _with_length(octets: bytes) -> bytes:
    if octets[:16] == b"\xff" * 16 and len(octets) > 18:
        return octets[:16] + len(octets).to_bytes(2, "big") + octets[18:]
    if len(octets) >= 4:
        return b"\0\0" + (len(octets) - 4).to_bytes(2, "big") + octets[4:]
    return octets


def keep(finding: Finding) -> Path:
    """Put a finding into the corpus, and return its file."""
    name = hashlib.sha256(finding.what.encode()).hexdigest()[:12]
    path = CORPUS / f"{name}.json"
    path.write_text(finding.case.text(what=finding.what) + "\n")
    return path


_worker: Worker | None = None


def _begin(seed: int) -> None:
    global _worker
    _worker = Worker(seed)


def _share(job: tuple[int, int]) -> Tally:
    assert _worker is not None
    return _worker.share(*job)


def fuzz(seed: int, count: int, minutes: float | None = None, processes: int = 0) -> Iterator[Tally]:
    """Do cases 0 to `count`, or as many as the minutes allow, in as many processes as there are processors."""
    jobs = ((first, min(SHARE, count - first)) for first in range(0, count, SHARE))
    until = None if minutes is None else time.monotonic() + minutes * 60
    if processes == 1:
        worker = Worker(seed)
        for job in jobs:
            yield worker.share(*job)
            if until is not None and time.monotonic() > until:
                return
        return
    processes = processes or os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(processes, _begin, (seed,)) as pool:
        for tally in pool.imap_unordered(_share, jobs):
            yield tally
            if until is not None and time.monotonic() > until:
                return
