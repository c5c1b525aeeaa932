"""The API of a node in memory, served on a unix socket as the daemon serves it, and the command beside it.

def test_a_fact(daemon: Daemon) -> None:
    daemon.say("create blue --route-target 64512:100")
    assert daemon.ask("show blue")["route_targets"] == ["64512:100"]
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from click.testing import CliRunner, Result

from bgpvpn.api.app import application
from bgpvpn.api.callers import Callers
from bgpvpn.api.server import ApiServer
from cli.main import main
from tests.fakes.node import FakeNode

LIMIT_S = 20.0
"""How long anything may take before a test fails; what works takes milliseconds."""

COMMAND = [sys.executable, "-c", "from cli.main import main; main(prog_name='bgpvpn')"]
"""The command as a program."""


@attrs.frozen
class Daemon:
    """Where the API of a node is, and what the command says to it."""

    node: FakeNode
    socket: Path
    server: ApiServer
    loop: asyncio.AbstractEventLoop

    def stop(self) -> None:
        """End the daemon."""
        asyncio.run_coroutine_threadsafe(self.server.stop(), self.loop).result(LIMIT_S)

    def tell(self, event: dict[str, Any]) -> None:
        """Let something happen as soon as somebody watches."""
        deadline = time.monotonic() + LIMIT_S
        while not self.node.watchers:
            assert time.monotonic() < deadline, "nobody watches"
            time.sleep(0.01)
        self.loop.call_soon_threadsafe(self.node.tell, event)

    def call(self, text: str, stdin: str | None = None) -> Result:
        """Run the command with the words of a text."""
        words = ["--api", str(self.socket), *shlex.split(text)]
        return CliRunner().invoke(main, words, input=stdin, prog_name="bgpvpn")

    def say(self, text: str, stdin: str | None = None) -> str:
        """Run the command, see it succeed without a word of trouble, and return what it prints."""
        result = self.call(text, stdin)
        assert (result.exit_code, result.stderr) == (0, ""), f"{text}: {result.stderr or result.exception!r}"
        return result.stdout

    def ask(self, text: str) -> Any:
        """Return what the command prints as JSON."""
        return json.loads(self.say(f"-f json {text}"))

    @contextlib.contextmanager
    def started(self, text: str) -> Iterator[subprocess.Popen[str]]:
        """Run the command as a program beside the block; it is killed when that takes too long."""
        environment = {**os.environ, "BGPVPN_API": str(self.socket)}
        words = [*COMMAND, *shlex.split(text)]
        with subprocess.Popen(words, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as it:
            watchdog = threading.Timer(LIMIT_S, it.kill)
            watchdog.start()
            try:
                yield it
            finally:
                it.kill()
                watchdog.cancel()


@contextlib.contextmanager
def serving(folder: Path, callers: Callers | None = None, **options: Any) -> Iterator[Daemon]:
    """Serve a node while the block runs, or until it is stopped; without `callers` to everybody."""
    node, loop = FakeNode(), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ApiServer(application(node, callers), path=folder / "api.sock", **options)
    daemon = Daemon(node, folder / "api.sock", server, loop)
    try:
        asyncio.run_coroutine_threadsafe(daemon.server.start(), loop).result(LIMIT_S)
        yield daemon
    finally:
        daemon.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
