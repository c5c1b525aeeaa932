from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from tests.cli.daemon import Daemon, serving


def test_a_list_that_is_watched_is_shown_again_when_it_changes(daemon: Daemon) -> None:
    with daemon.started("list --watch -f json") as watching:
        assert watching.stdout is not None
        assert json.loads(watching.stdout.readline()) == []
        daemon.say("create blue")
        assert [vpn["name"] for vpn in json.loads(watching.stdout.readline())] == ["blue"]
        daemon.say("delete blue")
        assert json.loads(watching.stdout.readline()) == []
        watching.send_signal(signal.SIGINT)
        assert watching.communicate() == ("", "")
        assert watching.returncode == 0


def test_events_that_change_nothing_show_nothing(daemon: Daemon) -> None:
    with daemon.started("network list --watch") as watching:
        assert watching.stdout is not None
        assert watching.stdout.readline().startswith("name ")
        daemon.say("create blue")
        daemon.say("network create n")
        assert watching.stdout.readline().startswith("name ")
        assert watching.stdout.readline().startswith("n ")


@pytest.mark.parametrize(
    "words",
    [
        "show sessions",
        "show status",
        "show routes",
        "show vpns",
        "show kernel",
        "port list",
        "peer list",
        "subnet list",
    ],
)
def test_every_view_and_list_can_be_watched(daemon: Daemon, words: str) -> None:
    with daemon.started(f"{words} --watch") as watching:
        assert watching.stdout is not None
        assert "  " in watching.stdout.readline()
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0


def test_events_are_shown_one_in_a_line(daemon: Daemon) -> None:
    with daemon.started("events --count 2") as watching:
        daemon.tell({"type": "session", "peer": "192.0.2.2", "state": "established\x1b"})
        daemon.tell({"type": "session", "peer": "192.0.2.3", "state": "idle"})
        assert watching.communicate() == (
            "type=session peer=192.0.2.2 state=established\\x1b\ntype=session peer=192.0.2.3 state=idle\n",
            "",
        )
        assert watching.returncode == 0


def test_events_as_json_end_with_ctrl_c(daemon: Daemon) -> None:
    with daemon.started("-f json events") as watching:
        assert watching.stdout is not None
        daemon.tell({"type": "kernel", "object": "vrf blue"})
        assert json.loads(watching.stdout.readline()) == {"type": "kernel", "object": "vrf blue"}
        watching.send_signal(signal.SIGINT)
        assert watching.wait() == 0


@pytest.mark.parametrize(("words", "events"), [("events", [{"type": "changed"}]), ("list --watch", [])])
def test_watching_ends_with_3_when_the_daemon_does(tmp_path: Path, words: str, events: list[dict[str, str]]) -> None:
    with serving(tmp_path) as daemon, daemon.started(words) as watching:
        for event in events:
            daemon.tell(event)
        assert watching.stdout is not None
        assert watching.stdout.readline(), "it watches, and asks for nothing else until something happens"
        daemon.stop()
        _, said = watching.communicate()
        assert (watching.returncode, said) == (3, f"error: the daemon at {daemon.socket} has ended\n")


def test_watching_at_no_address_is_wrong_usage(daemon: Daemon) -> None:
    with daemon.started("--api foo://x list --watch") as watching:
        shown, said = watching.communicate()
        assert (watching.returncode, shown) == (2, "")
        assert said.endswith("Error: --api takes the path of a socket or http[s]://HOST:PORT, not 'foo://x'\n")
        assert "Traceback" not in said
