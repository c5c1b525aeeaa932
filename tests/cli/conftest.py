"""The API of a node in memory, served on a unix socket as the daemon serves it, and the command beside it."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from bgpvpn.api.app import application
from bgpvpn.api.server import ApiServer
from cli.main import main
from tests.fakes.node import FakeNode


@attrs.frozen
class Daemon:
    """A node whose API is served, and what the command says to it."""

    node: FakeNode
    socket: Path

    def call(self, *words: str, stdin: str | None = None) -> Result:
        """Run the command."""
        return CliRunner().invoke(main, ["--api", str(self.socket), *words], input=stdin, prog_name="bgpvpn")

    def say(self, text: str, stdin: str | None = None) -> str:
        """Run the command with the words of a text, see it succeed in silence, and return what it prints."""
        result = self.call(*text.split(), stdin=stdin)
        assert (result.exit_code, result.stderr) == (0, ""), f"{text}: {result.stderr or result.exception!r}"
        return result.stdout

    def ask(self, text: str) -> Any:
        """Return what the command prints as JSON."""
        return json.loads(self.say(f"-f json {text}"))


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    node = FakeNode()
    path = tmp_path / "api.sock"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = ApiServer(application(node), path=path)
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(10)
    yield Daemon(node, path)
    asyncio.run_coroutine_threadsafe(server.stop(), loop).result(10)
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
