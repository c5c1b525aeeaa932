"""Adds up the pytest runs of ./tests/run: one line for each, and the closing line `N passed, N failed, N skipped`.

Its argument is a folder with NAME.status (pytest's exit status) and NAME.xml (its JUnit report) for each run. A run
that ended without a report, or badly without a failed test, counts as one failure.
"""

from __future__ import annotations

import sys
from pathlib import Path
from xml.etree import ElementTree

import attrs


@attrs.frozen
class Count:
    """Tests by their outcome; an error in a fixture is a failure."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped)

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed" + (f", {self.skipped} skipped" if self.skipped else "")


def count(report: Path, status: int) -> Count:
    """What a run of pytest came to; status is its exit status (0 passed, 1 failed, 5 found no tests)."""
    if not report.exists():
        return Count(failed=1)
    suites = list(ElementTree.parse(report).getroot().iter("testsuite"))
    tests, failures, errors, skipped = (
        sum(int(suite.get(name, "0")) for suite in suites) for name in ("tests", "failures", "errors", "skipped")
    )
    failed = failures + errors
    passed = max(tests - failed - skipped, 0)
    return Count(passed, failed or (1 if status else 0), skipped)


def main(folder: Path) -> int:
    """Print the lines; 0 when nothing failed."""
    total = Count()
    for file in sorted(folder.glob("*.status"), key=lambda file: file.stat().st_mtime):
        status = int(file.read_text())
        part = count(file.with_suffix(".xml"), status)
        print(f"{file.stem}: {part}" + (f" (pytest ended with status {status})" if status else ""))
        total += part
    print(total)
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
