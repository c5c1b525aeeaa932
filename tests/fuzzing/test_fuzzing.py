"""Hostile octets: what was found once, a fixed run through parsers and sessions, and one against a living daemon."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from speaker.errors import SessionReset, TreatAsWithdraw
from speaker.wire import update
from speaker.wire.attribute import Interner
from tests.fuzzing import growth, oracle, seeds
from tests.fuzzing.fuzzer import Finding, Worker, blame, corpus, fuzz, make, smallest
from tests.fuzzing.live import HEARING, siege
from tests.fuzzing.mutation import Mutator
from tests.fuzzing.oracle import Case, check
from tests.fuzzing.shapes import cut, message

SEED = 20
SOME_MS = 200.0
"""Above this a message is a way to stop us, whatever the machine; tests/fuzz --growth knows the true bound."""


def test_what_was_found_once_is_found_no_more() -> None:
    cases = corpus()
    assert cases
    for case in cases:
        check(case, Interner())


def test_20000_hostile_inputs_come_to_nothing() -> None:
    done = 0
    outcomes: set[str] = set()
    for tally in fuzz(SEED, 20_000, processes=2):
        done += tally.count
        outcomes |= tally.outcomes.keys()
        assert not tally.findings, tally.findings[0].text()
    assert done == 20_000
    wanted = {"announced", "withdrawn, errors", "SessionReset", "DisableFamily", "OPEN", "OPEN refused"}
    wanted |= {"established to established", "established to closed", "open-sent to open-confirm"}
    assert outcomes >= wanted, f"never came: {wanted - outcomes}"


def test_1000_hostile_inputs_to_a_daemon_touch_no_other_session(tmp_path: Path) -> None:
    with siege(tmp_path, SEED) as around:
        while around.heard() < 1000:
            around.batch(500)
        assert around.sent >= 1000
        assert around.good.updates > len(HEARING), "routes of hostile peers are reflected"


def test_time_of_a_message_grows_as_its_size() -> None:
    for name, body in growth.shapes():
        measured = growth.measure(name, body)
        assert measured.ms[-1] < SOME_MS, f"{name}: {measured.ms}"
        assert measured.exponent < growth.EXPONENT, f"{name}: {measured.ms}"
    assert growth.longest_open() < SOME_MS


def test_the_same_seed_makes_the_same_inputs() -> None:
    first, second, other = (
        [make(mutator, seed, number) for number in range(300)]
        for mutator, seed in ((Mutator(), SEED), (Mutator(), SEED), (Mutator(), SEED + 1))
    )
    assert first == second != other
    assert len({case.octets for case in first}) > 200


def test_seeds_are_cut_and_joined_without_a_change() -> None:
    for form in seeds.FORMS:
        for octets in [*seeds.captures(form), *seeds.updates(form), *seeds.opens()]:
            tree = cut(octets, paths=form.add_path)
            assert tree is not None
            assert message(octets[18], tree.octets()) == octets


def test_a_case_is_read_as_it_was_written() -> None:
    mutator = Mutator()
    for number in range(100):
        case = make(mutator, SEED, number)
        assert Case.read(case.text(what="anything")) == case


class _Raising(update.UpdateDecoder):
    """A decoder with a fault: some octets make it fall over."""

    def decode(self, body: bytes) -> update.Update:
        if b"\x0a\x01" in body:
            raise IndexError("a fault that was put here")
        return super().decode(body)


class _Forgetful(update.UpdateDecoder):
    """A decoder that reads other routes than those that were sent."""

    def decode(self, body: bytes) -> update.Update:
        found = super().decode(body)
        for _, routes in found.announced:
            if len(routes) > 1:
                routes.popitem()
        return found


class _Talkative(update.UpdateDecoder):
    """A decoder whose errors hold all that the peer sent."""

    def decode(self, body: bytes) -> update.Update:
        found = super().decode(body)
        if len(body) > 600:
            found.errors.append(TreatAsWithdraw(body.hex()))
        return found


class _Undeclared(update.UpdateDecoder):
    """A decoder with an error that no RFC knows."""

    def decode(self, body: bytes) -> update.Update:
        if len(body) > 300:
            raise SessionReset(99, 0, "no such code")
        return super().decode(body)


@contextlib.contextmanager
def _faulty(monkeypatch: pytest.MonkeyPatch, decoder: type[update.UpdateDecoder]) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(oracle, "UpdateDecoder", decoder)
        yield


@pytest.mark.parametrize("decoder", [_Raising, _Forgetful, _Talkative, _Undeclared])
def test_a_fault_is_found_and_cut_down(monkeypatch: pytest.MonkeyPatch, decoder: type[update.UpdateDecoder]) -> None:
    with _faulty(monkeypatch, decoder):
        findings = Worker(SEED).share(0, 800).findings
        assert findings
        for finding in findings[:2]:
            with pytest.raises(Exception) as raised:  # noqa: PT011  # whatever it is, it is the same one
                check(finding.case, Interner())
            assert blame(raised.value) == finding.what


def test_a_finding_is_cut_down_to_the_octets_that_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    octets = random.Random(SEED).randbytes(200).replace(b"\x0a\x01", b"") + b"\x0a\x01" + bytes(100)
    case = Case(octets=octets, entrance="update")
    with _faulty(monkeypatch, _Raising):
        with pytest.raises(IndexError) as raised:
            check(case, Interner())
        finding = Finding(SEED, 0, smallest(case, blame(raised.value)), blame(raised.value))
    assert finding.case.octets == b"\x0a\x01"
    assert "number=0" in finding.text()
