from __future__ import annotations

from pathlib import Path

from bgpvpn.bagpipe.pings import Pings

AGENT = "Open vSwitch agent"


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def answers(file: Path, *times: float, client: str = AGENT) -> set[int]:
    """Return what one daemon answers at these times."""
    clock, found = Clock(), set()
    pings = Pings(file, 77, clock)
    for clock.now in times:
        found.add(pings.answer(client))
    return found


def test_the_number_stays_over_a_restart_that_the_agent_did_not_see(tmp_path: Path) -> None:
    file = tmp_path / "pings"
    assert answers(file, 10, 20, 30) == {77}
    assert answers(file, 40, 50) == {77}


def test_the_number_changes_once_when_the_agent_asked_in_vain(tmp_path: Path) -> None:
    file = tmp_path / "pings"
    assert answers(file, 10, 20, 30) == {77}
    assert answers(file, 50, 60) == {78}  # it asked at 40
    assert answers(file, 70) == {78}
    assert answers(file, 3) == {79}  # the machine was started anew


def test_an_agent_that_asks_every_second_misses_a_daemon_sooner(tmp_path: Path) -> None:
    file = tmp_path / "pings"
    assert answers(file, 10, 11, 12) == {77}
    assert answers(file, 14) == {78}


def test_a_daemon_that_is_late_itself_keeps_the_number(tmp_path: Path) -> None:
    assert answers(tmp_path / "pings", 10, 20, 90) == {77}


def test_others_than_the_agent_are_told_the_same_number_and_change_nothing(tmp_path: Path) -> None:
    file = tmp_path / "pings"
    assert answers(file, 10, 20) == {77}
    assert answers(file, 25, 26, 3000, client="curl/7.88.1") == {77}
    assert answers(file, 30) == {77}


def test_a_file_that_cannot_be_read_or_written_is_no_fault(tmp_path: Path) -> None:
    file = tmp_path / "pings"
    file.write_text("not JSON")
    assert answers(file, 10) == {77}
    assert answers(tmp_path / "missing" / "pings", 10) == {77}
