"""OpenStack's own clients, each in a process of its own virtual environment, with no credentials."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import attrs

ROOT = Path(__file__).resolve().parent.parent.parent
OPENSTACK = ROOT / ".venv-openstack"
"""The virtual environment with neutron, its plugins, the openstack command and openstacksdk."""

LIMIT_S = 60.0


def environment(url: str, token: str = "") -> dict[str, str]:
    """Return what has a client speak to this address, without Keystone: with a token, or as nobody in particular."""
    way = {"OS_AUTH_TYPE": "admin_token", "OS_TOKEN": token} if token else {"OS_AUTH_TYPE": "none"}
    return {**way, "OS_ENDPOINT": url, "OS_NETWORK_ENDPOINT_OVERRIDE": url}


def run_python(source: str, url: str) -> str:
    """Run a program with OpenStack's packages, and return what it printed; it must end well."""
    done = subprocess.run(
        [OPENSTACK / "bin/python", "-c", source],
        env={**os.environ, **environment(url)},
        text=True,
        capture_output=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@attrs.frozen
class Ended:
    """How a command ended."""

    status: int
    stdout: str
    stderr: str


class Shell:
    """The openstack command, whose start takes long: one process, ready to run one after another."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self]:
        """Start it; it ends with the block."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("OS_")}
        process = subprocess.Popen(
            [OPENSTACK / "bin/python", "-W", "ignore", Path(__file__).with_name("shell_loop.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=clean,
        )
        try:
            yield cls(process)
        finally:
            process.kill()
            process.communicate()

    def run(self, words: tuple[str, ...], variables: dict[str, str]) -> Ended:
        """Run a command with these environment variables."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([words, variables]) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))


@attrs.frozen
class Osc:
    """The openstack command, spoken to one address."""

    shell: Shell
    url: str
    token: str = attrs.field(default="", repr=False)

    def run(self, *words: str) -> Ended:
        """Run a command, whatever becomes of it."""
        return self.shell.run(words, environment(self.url, self.token))

    def ok(self, *words: str) -> str:
        """Run a command that must succeed; return what it printed."""
        ended = self.run(*words)
        assert ended.status == 0, f"openstack {' '.join(words)}: {ended.stderr}"
        return ended.stdout

    def json(self, *words: str) -> Any:
        """Run a command that shows or lists something; return that."""
        return json.loads(self.ok(*words, "-f", "json"))

    def refused(self, *words: str) -> str:
        """Run a command that must be refused; return the words of the refusal."""
        ended = self.run(*words)
        assert ended.status != 0, f"openstack {' '.join(words)}: {ended.stdout}"
        return ended.stderr
