"""The command line of the suite; see the script `run`."""

from __future__ import annotations

import argparse
import asyncio
import fnmatch
import shutil
import socket
import sys
import tempfile
from pathlib import Path

from tests.conformance import cases
from tests.conformance.runner import Run, table, write
from tests.conformance.subjects import SUBJECTS, enter_namespace

BATCH = 16
"""So many cases are run again when one of them ended a program that is known to die."""


def main() -> int:
    """Run, print, and say whether all passed."""
    parser = argparse.ArgumentParser(prog="tests/conformance/run")
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--case", action="append", metavar="NAME", help="only these; * and ? as in a shell")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results here as well")
    asked = parser.parse_args()
    chosen = [
        case
        for case in cases.CASES
        if not asked.case or any(fnmatch.fnmatchcase(case.name, pattern) for pattern in asked.case)
    ]
    if not chosen:
        parser.error("no case has such a name")
    if asked.list:
        print("\n".join(f"{case.name} ({case.area}; {case.rfc})" for case in chosen))
        return 0
    if asked.subject != "ours":
        enter_namespace()
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        subject = SUBJECTS[asked.subject](folder, free_port())
        ours = asked.subject == "ours"
        run = Run(subject, chosen, batch=len(chosen) if ours else BATCH, at_once=96 if ours else BATCH)
        results = asyncio.run(run.run())
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(table(asked.subject, results))
    if asked.json:
        write(asked.json, asked.subject, results)
    return int(any(result.outcome == "failed" for result in results))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


if __name__ == "__main__":
    sys.exit(main())
