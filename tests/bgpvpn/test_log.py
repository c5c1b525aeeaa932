"""The log of a process of its own: what it prints, and that nobody waits for who reads it."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

LIMIT_S = 20.0
PROGRAM = """
import logging, sys
from bgpvpn import log
writer = log.start(sys.argv[1], sys.argv[2])
say = logging.getLogger("bgpvpn.test")
"""


def output(level: str, style: str, program: str) -> list[str]:
    """Return what a program prints to standard error."""
    words = [sys.executable, "-c", f"{PROGRAM}{program}\nwriter.stop()", level, style]
    return subprocess.run(words, text=True, capture_output=True, check=True, timeout=LIMIT_S).stderr.splitlines()


def test_text_is_a_time_a_level_and_the_words() -> None:
    lines = output("info", "text", 'say.debug("no"); say.info("peer=%s", "rr1"); say.error("reason=%r", "a\\nb")')
    assert [re.sub(r"^\d{4}-\d\d-\d\dT[0-9:.]+Z ", "", line) for line in lines] == [
        "info    peer=rr1",
        r"error   reason='a\nb'",
    ]


def test_each_line_of_json_is_a_document_also_that_of_an_exception() -> None:
    program = 'say.warning("peer=%s", "\\x1b\\ud800")\ntry: 1/0\nexcept ArithmeticError: say.exception("step=failed")'
    first, second = map(json.loads, output("debug", "json", program))
    assert (first["level"], first["logger"], first["event"]) == ("warning", "bgpvpn.test", "peer=\x1b\ud800")
    assert first["timestamp"].endswith("Z")
    assert second["event"].startswith("step=failed\nTraceback")
    assert second["event"].endswith("ZeroDivisionError: division by zero")


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_says_itself_and_what_is_worse(level: str, said: int) -> None:
    program = 'for each in ("debug", "info", "warning", "error"): getattr(say, each)("x")'
    assert len(output(level, "text", program)) == said


def test_what_does_not_fit_is_dropped_and_counted_and_nobody_waits() -> None:
    program = f"""{PROGRAM}
for number in range(30000): say.info("line=%d", number)
print("said all", flush=True)
sys.stdin.readline()
import time
while not writer.lines.empty(): time.sleep(0.01)
say.info("line=last")
writer.stop()
"""
    words = [sys.executable, "-c", program, "info", "text"]
    with subprocess.Popen(words, text=True, stdin=-1, stdout=-1, stderr=-1) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        assert it.stdout.readline() == "said all\n", "though nobody reads the log"
        _, stderr = it.communicate("\n", timeout=LIMIT_S)
    lines = [line.split("info    ")[-1] for line in stderr.splitlines()]
    numbers = [int(line.removeprefix("line=")) for line in lines if re.fullmatch(r"line=\d+", line)]
    dropped = [int(found[1]) for line in lines if (found := re.search(r"warning lines=dropped count=(\d+)", line))]
    assert numbers == sorted(numbers)
    assert len(numbers) >= 10_000
    assert len(numbers) + sum(dropped) == 30_000
    assert lines[-1] == "line=last"


def test_a_process_ends_though_nobody_reads_its_log() -> None:
    program = f'{PROGRAM}\nfor number in range(30000): say.info("line=%d", number)\nwriter.stop()'
    words = [sys.executable, "-c", program, "info", "text"]
    with subprocess.Popen(words, stderr=subprocess.PIPE) as it:
        assert it.wait(LIMIT_S) == 0
