from __future__ import annotations

from pathlib import Path

import pytest

from tests.summary import Count, count

REPORT = '<testsuites><testsuite tests="5" failures="1" errors="1" skipped="1"/></testsuites>'
GREEN = '<testsuites><testsuite tests="5" failures="0" errors="0" skipped="0"/></testsuites>'


def test_every_run_that_did_not_end_well_counts_as_failed(tmp_path: Path) -> None:
    for text, status, expected in [
        (REPORT, 1, Count(2, 2, 1)),
        (GREEN, 0, Count(5, 0, 0)),
        (GREEN, 2, Count(5, 1, 0)),
        ("", 125, Count(0, 1, 0)),
    ]:
        report = tmp_path / f"{status}.xml"
        if text:
            report.write_text(text)
        assert count(report, status) == expected, f"status {status}"


@pytest.mark.parametrize(
    ("counted", "line"), [(Count(3), "3 passed, 0 failed"), (Count(3, 1, 2), "3 passed, 1 failed, 2 skipped")]
)
def test_closing_line_is_plain(counted: Count, line: str) -> None:
    assert str(counted) == line
