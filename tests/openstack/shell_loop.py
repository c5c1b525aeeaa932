"""Runs commands of python-openstackclient, each a line of JSON: [words, environment] in, [status, stdout, stderr] out.

It runs in the virtual environment of OpenStack's programs. Each command has a process of its own, in which the modules,
whose import takes most of the time, are there already.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import sys

MODULES = (
    "openstackclient.shell",
    "openstackclient.network.client",
    "openstackclient.network.v2.network",
    "openstack.connection",
    "openstack.network.v2._proxy",
    "keystoneauth1.loading._plugins.noauth",
)


def run(words: list[str]) -> tuple[int, str, str]:
    """Run one command as the program does."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            status = importlib.import_module("openstackclient.shell").main(words)
        except SystemExit as end:
            status = end.code
    return status, stdout.getvalue(), stderr.getvalue()


def run_beside(words: list[str], variables: dict[str, str]) -> str:
    """Run one command in a process of its own; return the line that tells how it ended."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.environ.update(variables)
        with os.fdopen(writing, "w") as pipe:
            json.dump(run(words), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        ended = pipe.read()
    os.waitpid(child, 0)
    return ended


for module in MODULES:
    importlib.import_module(module)
run(["help", "bgpvpn", "list"])  # which loads all commands, and asks no server
for line in sys.stdin:
    print(run_beside(*json.loads(line)), flush=True)
