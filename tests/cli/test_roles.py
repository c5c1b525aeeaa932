"""The command as an operator's and as an owner's, by tokens."""

from __future__ import annotations

import hashlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from bgpvpn.api.callers import Callers
from bgpvpn.config import ClientConfig
from cli.main import main
from tests.cli.daemon import Daemon, serving
from tests.cli.test_completion import completed

ALICE = "token-of-alice-in-her-file"


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture
def guarded(tmp_path: Path, port: int) -> Iterator[Daemon]:
    """A daemon that knows Alice, the owner of a project, with what an operator made for her."""
    digest = hashlib.sha256(ALICE.encode()).digest()
    client = ClientConfig(token_file="alice", role="owner", project="mine", digest=digest)
    (tmp_path / "token").write_text(f"{ALICE}\n")
    with serving(tmp_path, Callers([client]), tcp=("127.0.0.1", port)) as daemon:
        for words in (
            "create blue --project mine --route-target 64512:100 --vni 7 --technique evpn-prefix",
            "create red --route-target 64512:200",
            "network create theirs --subnet 10.9.0.0/24",
        ):
            daemon.say(words)
        yield daemon


def alice(daemon: Daemon, words: str) -> Result:
    token = daemon.socket.parent / "token"
    return CliRunner().invoke(main, ["--api", str(daemon.socket), "--token-file", str(token), *words.split()])


def test_an_owner_works_with_its_own_and_is_not_shown_what_its_VPN_is_made_of(guarded: Daemon) -> None:
    for words in (
        "network create web --subnet 10.1.0.0/24",
        "port create web1 --network web --mac 02:00:00:00:00:01 --ip 10.1.0.5",
        "bind web1 blue --prefix 10.8.0.0/16",
        "set blue --local-pref 7",
    ):
        done = alice(guarded, words)
        assert (done.exit_code, done.stderr) == (0, ""), words
    listed = alice(guarded, "list --long").stdout
    assert ("blue" in listed, "red" in listed, "64512" in listed) == (True, False, False)
    shown: dict[str, Any] = json.loads(alice(guarded, "-f json show blue").stdout)
    assert (shown["route_targets"], shown["vni"], shown["ports"]) == ([], None, ["web1"])
    assert "theirs" not in alice(guarded, "network list").stdout
    assert guarded.ask("show blue")["route_targets"] == ["64512:100"]


def test_what_is_not_for_an_owner_ends_with_1_and_says_who_asked_for_what(guarded: Daemon) -> None:
    for words, said in (
        ("show status", "error: GET /v1/status is for operators; token alice, owner of project 'mine'\n"),
        ("node list", "error: GET /v1/nodes is for operators; token alice, owner of project 'mine'\n"),
        ("set blue --vni 7", "error: vni: vni of a bgpvpn is for operators to set; token alice, owner of"),
        ("network show theirs", "error: there is no network 'theirs'\n"),
        ("delete red", "error: there is no bgpvpn 'red'\n"),
        ("bind theirs blue", "error: there is no network or router or port 'theirs'\n"),
    ):
        refused = alice(guarded, words)
        assert (refused.exit_code, refused.stdout) == (1, ""), words
        assert refused.stderr.startswith(said), refused.stderr


def test_by_TCP_a_token_says_who_asks(guarded: Daemon, port: int, tmp_path: Path) -> None:
    url, token = f"http://127.0.0.1:{port}", str(tmp_path / "token")
    (tmp_path / "wrong").write_text("x" * 30)
    run = CliRunner().invoke
    for words in (["--url", url, "--token-file", token, "list"], ["--api", url, "--token-file", token, "list"]):
        assert "blue" in run(main, words).stdout
    assert "blue" in run(main, ["--url", url, "list"], env={"BGPVPN_TOKEN_FILE": token}).stdout
    refused = run(main, ["--url", url, "list"])
    assert (refused.exit_code, refused.stderr[:26]) == (1, "error: a token is wanted: ")
    refused = run(main, ["--url", url, "--token-file", str(tmp_path / "wrong"), "list"])
    assert (refused.exit_code, refused.stderr) == (1, "error: nobody here has this token\n")
    assert "x" * 30 not in refused.stderr


@pytest.mark.parametrize(
    ("content", "said"), [(None, "cannot be read"), ("\n", "there is no token"), ("é\n", "no token")]
)
def test_a_token_file_without_a_token_is_wrong_usage(
    guarded: Daemon, tmp_path: Path, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / "file").write_text(content)
    refused = CliRunner().invoke(main, ["--api", str(guarded.socket), "--token-file", str(tmp_path / "file"), "list"])
    assert (refused.exit_code, said in refused.stderr) == (2, True), refused.stderr


def test_names_are_completed_for_who_asks(guarded: Daemon, tmp_path: Path) -> None:
    assert completed(guarded, "bgpvpn set ") == ["blue", "red"]
    assert completed(guarded, "bgpvpn set ", BGPVPN_TOKEN_FILE=str(tmp_path / "token")) == ["blue"]
    assert completed(guarded, "bgpvpn set b", BGPVPN_TOKEN_FILE="/nonexistent") == []


def test_the_node_is_shown(daemon: Daemon) -> None:
    assert daemon.ask("node show") == daemon.node.itself()
    assert daemon.ask("node show node") == daemon.ask("node show 192.0.2.1") == daemon.node.itself()
    assert daemon.say("node list").splitlines()[1].split()[:2] == ["node", "192.0.2.1"]
    refused = daemon.call("node show nosuch")
    assert (refused.exit_code, refused.stderr) == (1, "error: there is no node 'nosuch'\n")
