"""Text that peers send, and where people read it: bounded, and nothing that moves a cursor or breaks a line."""

from __future__ import annotations

import json
import subprocess
import sys
import unicodedata
from pathlib import Path

import attrs

from speaker.wire.capability import Capability
from speaker.wire.message import KEEPALIVE, Notification
from tests.reliability.daemon import Daemon, Peer
from tests.reliability.neighbour import dial, opening

PEER = "127.0.1.1"
MOST = 1200
"""Characters of a line that shows a text of 255 octets, each of which may take four, and says other things as well."""

TEXTS = {
    "escape sequences": b"\x1b[2J\x1b]0;owned\x07" * 15 + b"\x1b[31m",
    "no UTF-8": bytes(range(0x80, 0x100)) + bytes(range(0x20)) + bytes(95),
    "line breaks": b"session=up\r\nlevel=critical\nforged=yes\x0b\x0c\x85" * 5,
    "marks that turn the direction": "‮⁦\u2028\u2029﻿​".encode() * 14,
    "one letter with accents without end": ("a" + "\u0301" * 126).encode(),
}


@attrs.frozen
class HostName(Capability):
    """A host name as it is sent, whatever it holds."""

    octets: bytes
    code = 73

    def value(self) -> bytes:
        octets = self.octets[:253]
        return bytes((len(octets),)) + octets + b"\0"


def command(daemon: Daemon, *words: str) -> str:
    """What the command prints."""
    line = [
        sys.executable,
        "-c",
        "from cli.main import main; main(prog_name='bgpvpn')",
        "--api",
        daemon.api.address,
        *words,
    ]
    return subprocess.run(line, capture_output=True, check=True, timeout=20).stdout.decode()


def harmless(text: str, most: int = MOST) -> None:
    """All that is shown is a line of bounded length; control characters, and those that are invisible, are none."""
    for line in text.split("\n"):
        bad = [each for each in line if unicodedata.category(each) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
        assert not bad, f"{bad[:5]!r} in {line[:300]!r}"
        assert len(line) <= most, f"{len(line)} characters: {line[:300]!r}"


def test_text_of_a_peer_is_bounded_and_escaped_wherever_it_is_shown(tmp_path: Path) -> None:
    with Daemon.running(tmp_path, Peer(PEER, 'families = ["vpnv4"]')) as daemon, daemon.api.events() as events:
        for times, octets in enumerate((each[:255] for each in TEXTS.values()), 1):
            with dial(daemon.port, PEER) as connection:
                connection.sendall(opening(PEER, more=[HostName(octets)]) + KEEPALIVE)
                daemon.becomes(PEER, "established", times)
                _look(daemon, daemon.session(PEER)["remote_host_name"])
                connection.sendall(Notification(6, 2, bytes((len(octets),)) + octets).encode())
                daemon.becomes(PEER, "flaps", times)
            _look(daemon, daemon.session(PEER)["last_down"])
            assert "administrative shutdown" in daemon.session(PEER)["last_down"]
        daemon.api.post({"name": "end-of-events"}, "networks")
        for event in events:
            text = json.dumps(event, ensure_ascii=False)
            harmless(text, 5000)
            if "end-of-events" in text:
                break
        assert daemon.log().count("session=down") == len(TEXTS)
        harmless(daemon.log())


def _look(daemon: Daemon, text: str) -> None:
    """Look at a text wherever it is shown."""
    assert text
    harmless(text)
    harmless(command(daemon, "show", "sessions"))
    harmless(command(daemon, "show", "status"))
    for values in json.loads(command(daemon, "show", "sessions", "-f", "json")):
        harmless("\n".join(each for each in values.values() if isinstance(each, str)))
    for path in ("sessions", "status", "peers"):
        harmless(json.dumps(daemon.api.get(path), ensure_ascii=False), 20000)
