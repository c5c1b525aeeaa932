from __future__ import annotations

import os

import pytest

from lab.usage import TICKS_A_SECOND, Usage, machine

STAT = "77 (a (b) c) S 1 77 77 0 -1 4194560 {faults} 0 0 0 {user} {system} 0 0 20 0 2 0 1 1 1\n"
STATUS = "Name:\ta\nVmPeak:\t 9 kB\nVmHWM:\t   20000 kB\nVmRSS:\t   10000 kB\n"


def usage(user: int, system: int, faults: int, *nanoseconds: int) -> Usage:
    stat = STAT.format(faults=faults, user=user, system=system)
    return Usage.read(stat, STATUS, [f"{each} 5 6\n" for each in nanoseconds])


def test_usage_is_read_from_the_files_of_proc_and_threads_add_up() -> None:
    found = usage(3 * TICKS_A_SECOND, TICKS_A_SECOND // 2, 40, 3_000_000_000, 500_000_000)
    assert (found.cpu_s, found.user_s, found.system_s, found.faults) == (3.5, 3.0, 0.5, 40)
    assert (found.rss_mb, found.peak_mb) == pytest.approx((10.24, 20.48))


def test_what_was_used_meanwhile_is_told_for_each() -> None:
    used = usage(2 * TICKS_A_SECOND, TICKS_A_SECOND, 300, 3_200_000_000).since(usage(0, 0, 100, 200_000_000), 1000)
    assert used == {
        "cpu_us": 3000.0,
        "user_us": 2000.0,
        "system_us": 1000.0,
        "page_faults": 0.2,
        "rss_mb": 10.2,
        "peak_mb": 20.5,
    }


def test_a_process_of_this_machine_can_be_read() -> None:
    found = Usage.of(os.getpid())
    assert 0 < found.rss_mb <= found.peak_mb
    assert found.cpu_s > 0


def test_the_machine_is_described() -> None:
    described = machine()
    assert described.keys() == {"cpu", "cores", "memory_mb", "kernel", "uml", "python", "commit"}
    assert described["cores"] >= 1
