from __future__ import annotations

import os
import subprocess

import pytest

from lab.demo import WISHES
from tests.cli.daemon import COMMAND, Daemon


def completed(daemon: Daemon, text: str, **environment: str) -> list[str]:
    """What bash is told can follow the words of a text, of which the last may be unfinished."""
    words = text.split(" ")
    asked = {"_BGPVPN_COMPLETE": "bash_complete", "COMP_WORDS": text, "COMP_CWORD": str(len(words) - 1)}
    environment = {"BGPVPN_API": str(daemon.socket), **environment}
    result = subprocess.run(
        COMMAND, env={**os.environ, **environment, **asked}, capture_output=True, text=True, check=True
    )
    assert result.stderr == ""
    return [line.partition(",")[2] for line in result.stdout.splitlines() if line]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_printed_for_each_shell(daemon: Daemon, shell: str) -> None:
    script = daemon.say(f"completion {shell}")
    assert f"_BGPVPN_COMPLETE={shell}_complete" in script
    assert "bgpvpn" in script


def test_bash_takes_its_script(daemon: Daemon) -> None:
    script = daemon.say("completion bash") + "complete -p bgpvpn\n"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.endswith(" bgpvpn\n")


def test_words_and_names_are_completed(daemon: Daemon) -> None:
    for words in WISHES["node1"].strip().splitlines():
        daemon.say(words)
    daemon.say("peer create rr --address 192.0.2.2 --remote-as 64512")
    for text, follows in [
        ("bgpvpn un", ["unbind"]),
        ("bgpvpn bind blue-net blue --leak r", ["red"]),
        ("bgpvpn binding set blu", ["blue-net", "blue1"]),
        ("bgpvpn router create r --subnet red-net/1", ["red-net/10.1.1.0/24"]),
        ("bgpvpn router add ", ["subnet"]),
        ("bgpvpn router add subnet r se", ["seg-net/10.2.0.0/24"]),
        ("bgpvpn speaker add ", ["network", "peer"]),
        ("bgpvpn speaker add peer s r", ["rr"]),
        ("bgpvpn floating-ip create b", ["blue-net"]),
        ("bgpvpn set --rou", []),
        ("bgpvpn set b", ["blue"]),
        ("bgpvpn delete red ", ["blue", "red", "seg"]),
        ("bgpvpn show s", ["sessions", "status", "seg"]),
        ("bgpvpn show vpn r", ["red"]),
        ("bgpvpn bind blu", ["blue-net", "blue1"]),
        ("bgpvpn bind blue-net bl", ["blue"]),
        ("bgpvpn network show s", ["seg-net"]),
        ("bgpvpn port create x --network r", ["red-net"]),
        ("bgpvpn peer disable ", ["rr"]),
        ("bgpvpn explain s", ["seg1"]),
        ("bgpvpn subnet list b", ["blue-net"]),
        ("bgpvpn show routes --vpn s", ["seg"]),
        ("bgpvpn network create n --gateway 10.0.0.1 --project x ", []),
        ("bgpvpn -f ", ["table", "json"]),
    ]:
        assert [word for word in completed(daemon, text) if not word.startswith("-")] == follows, text
    assert "--route-target" in completed(daemon, "bgpvpn set --rou")


def test_the_daemon_that_is_asked_for_names_is_the_one_of_the_command_line(daemon: Daemon) -> None:
    daemon.say("create blue")
    assert completed(daemon, f"bgpvpn --api {daemon.socket} set ", BGPVPN_API="/nonexistent") == ["blue"]


def test_no_name_is_completed_and_nothing_is_said_without_a_daemon(daemon: Daemon) -> None:
    for api in ("/nonexistent", "https://wrong", ""):
        assert completed(daemon, "bgpvpn set b", BGPVPN_API=api) == [], api
        assert "sessions" in completed(daemon, "bgpvpn show s", BGPVPN_API=api), api
