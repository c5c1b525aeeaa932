"""Runs commands of python-openstackclient, each a line of JSON: [words, environment] in, [status, stdout, stderr] out.

It runs in the virtual environment of OpenStack's programs.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys

from openstackclient import shell  # type: ignore[import-not-found]


def run(words: list[str]) -> tuple[int, str, str]:
    """Run one command as the program does."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = shell.main(words)
        except SystemExit as end:
            status = end.code
    return status, stdout.getvalue(), stderr.getvalue()


for line in sys.stdin:
    words, variables = json.loads(line)
    os.environ.update(variables)
    print(json.dumps(run(words)), flush=True)
