"""The command line of the fuzzer: see tests/fuzz."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzzing import growth, live
from tests.fuzzing.fuzzer import Tally, fuzz, keep

TELL_EVERY_S = 30.0


def main() -> int:
    """Exit status 1 if something was found."""
    parser = argparse.ArgumentParser(prog="tests/fuzz", description="Hostile octets for everything that reads peers.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all")
    parser.add_argument("--minutes", type=float, help="end after so long, whatever is left")
    parser.add_argument("--processes", type=int, default=0, help="the processors' number if not given")
    parser.add_argument("--live", action="store_true", help="to a daemon, over TCP")
    parser.add_argument("--growth", action="store_true", help="measure the time of messages of 1 to 64 KiB")
    told = parser.parse_args()
    if told.growth:
        return growth.report()
    if told.live:
        return live.report(told.seed, told.count, told.minutes)
    return _parsers(told.seed, told.count, told.minutes, told.processes)


def _parsers(seed: int, count: int, minutes: float | None, processes: int) -> int:
    total = Tally()
    begin = tell_at = time.monotonic()
    for tally in fuzz(seed, count, minutes, processes):
        known = {finding.what for finding in total.findings}
        for finding in tally.findings:
            if finding.what not in known:
                print(f"FOUND {finding.text()}\nkept as {keep(finding)}", flush=True)
        total.add(tally)
        if time.monotonic() > tell_at + TELL_EVERY_S:
            tell_at = time.monotonic()
            print(f"{total.count} of {count} inputs in {tell_at - begin:.0f} s", file=sys.stderr, flush=True)
    seconds = time.monotonic() - begin
    print(
        f"seed={seed} inputs={total.count} octets={total.octets} seconds={seconds:.0f} findings={len(total.findings)}"
    )
    print(
        f"code under test: {total.cpu_ns / 1000 / max(total.count, 1):.1f} us of processor time an input; the slowest:"
    )
    for ns, octets, number in total.slowest:
        print(f"    {ns / 1e6:8.3f} ms for {octets} octets, number {number}")
    for word, times in total.outcomes.most_common():
        print(f"    {times:10d} {word}")
    return 1 if total.findings else 0


if __name__ == "__main__":
    sys.exit(main())
