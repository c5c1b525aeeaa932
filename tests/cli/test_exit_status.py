from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.main import main
from tests.cli.daemon import LIMIT_S, Daemon

AS_NOBODY = """
import grp, http.client, os, socket
from cli.main import main
if os.geteuid() == 0:  # who may use every socket
    os.setgroups([])
    os.setegid(65534)
    os.seteuid(65534)
main()
"""


def call(api: Path | str, *words: str) -> Result:
    return CliRunner().invoke(main, ["--api", str(api), *words], prog_name="bgpvpn")


@contextlib.contextmanager
def answering(octets: bytes) -> Iterator[str]:
    """A server that reads one request, says this, and closes the connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(LIMIT_S)

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(LIMIT_S)
                connection.recv(65536)
                connection.sendall(octets)

        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def test_what_the_daemon_refuses_ends_with_1_and_the_field_and_value(daemon: Daemon) -> None:
    daemon.say("create blue")
    for words, said in [
        ("create red --route-target nonsense", "error: route_targets: 'nonsense' is not a route target"),
        ("create red --type l2 --vni 16777216", "error: vni: takes a number from 1 to 16777215, not 16777216"),
        ("create blue", "error: name: 'blue' is taken by bgpvpn 'blue'"),
        ("set red --local-pref 1", "error: there is no bgpvpn 'red'"),
        ("port create p --interface a/b --mac 02:00:00:00:00:01", "error: interface: "),
        ("bind nothing blue", "error: there is no network or router or port 'nothing'"),
        ("list --property colour=red", "error: colour: "),
        ("show routes --limit 0", "error: limit: takes a number from 1 to "),
        ("show routes --vpn red", "error: there is no bgpvpn 'red'"),
        ("explain nothing", "error: there is no port 'nothing'"),
        ("explain 10.1.3.0/99", "error: prefix: '10.1.3.0/99' does not appear to be"),
        ("subnet create nothing 10.0.0.0/24", "error: network_id: there is no network 'nothing'"),
    ]:
        refused = daemon.call(words)
        assert (refused.exit_code, refused.stdout) == (1, ""), words
        assert refused.stderr.startswith(said), f"{words}: {refused.stderr}"


def test_the_value_is_shown_when_the_message_does_not(daemon: Daemon) -> None:
    daemon.say("create a --type l2 --vni 1")
    daemon.say("create b --type l2 --vni 2")
    daemon.say("network create n")
    daemon.say("bind n a")
    refused = daemon.call("bind n b")
    assert refused.exit_code == 1
    assert refused.stderr.endswith("\n  vni: 1,2\n")


def test_wrong_usage_ends_with_2(daemon: Daemon) -> None:
    for words in ["create --colour red", "nothing", "show", "bind blue", "set", "list --property x", "-f xml list"]:
        assert daemon.call(words).exit_code == 2, words
    for api in ("https://", "http://127.0.0.1/v1", "http://127.0.0.1:99999", "ftp://x"):
        assert "--api takes" in call(api, "list").stderr, api
        assert call(api, "list").exit_code == 2, api


def test_a_daemon_that_is_not_there_ends_with_3_and_says_where_and_why(tmp_path: Path) -> None:
    nobody, dead = tmp_path / "nobody.sock", tmp_path / "dead.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(dead))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = f"http://127.0.0.1:{listener.getsockname()[1]}"
    for api, why in [
        (nobody, "there is no such socket; is bgpvpnd running?"),
        (dead, "nobody listens there; is bgpvpnd running?"),
        (port, "nobody listens there; is bgpvpnd running?"),
        (tmp_path / ("long" * 40), "path too long"),
    ]:
        for words in (["list"], ["create", "blue"], ["events"], ["list", "--watch"]):
            result = call(api, *words)
            assert (result.exit_code, result.stdout) == (3, ""), (api, words)
            assert result.stderr.startswith(f"error: cannot reach the daemon at {api}: "), (api, words)
            assert why in result.stderr, (api, words)


def test_a_socket_that_is_not_for_the_user_says_for_whom_it_is() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "api.sock"
        path.parent.chmod(0o755)
        listener.bind(str(path))
        listener.listen()
        path.chmod(0)
        words = [sys.executable, "-c", AS_NOBODY, "--api", str(path), "list"]
        result = subprocess.run(words, capture_output=True, text=True, check=False)
        group = path.group()
    assert (result.returncode, result.stdout) == (3, "")
    why = f"permission denied; it is for root and the group {group}"
    assert result.stderr == f"error: cannot reach the daemon at {path}: {why}\n"


def test_the_environment_names_the_daemon(daemon: Daemon) -> None:
    with daemon.started("-f json list") as command:
        assert command.communicate() == ("[]\n", "")


def test_a_fault_of_the_daemon_ends_with_4(daemon: Daemon) -> None:
    daemon.node.store.refuses = "the disk is full"  # type: ignore[attr-defined]
    result = daemon.call("create blue")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "the disk is full" in result.stderr


@pytest.mark.parametrize(
    ("octets", "status", "said"),
    [
        (b"HTTP/1.1 500 x\r\ncontent-length: 4\r\n\r\nOops", 4, "error: HTTP status 500: Oops\n"),
        (b"HTTP/1.1 503 x\r\ncontent-length: 0\r\n\r\n", 4, "error: HTTP status 503: the daemon says no more\n"),
        (b"HTTP/1.1 404 x\r\ncontent-length: 2\r\n\r\n{}", 1, "error: HTTP status 404: {}\n"),
        (
            b"HTTP/1.1 302 x\r\nlocation: http://elsewhere\r\n\r\n",
            1,
            "error: HTTP status 302: the daemon says no more\n",
        ),
        (b"HTTP/1.1 200 x\r\ncontent-length: 4\r\n\r\nOops", 4, "error: what the daemon says is not JSON"),
        (b"HTTP/1.1 200 x\r\ncontent-length: 9\r\n\r\n[", 3, "does not answer: IncompleteRead"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", 3, "does not answer: SSH-2.0-OpenSSH_9.2"),
        (b"", 3, "does not answer: Remote end closed connection without response"),
    ],
)
def test_an_answer_that_no_daemon_of_ours_gives_is_told_for_what_it_is(octets: bytes, status: int, said: str) -> None:
    with answering(octets) as api:
        result = call(api, "show", "status")
    assert (result.exit_code, result.stdout, said in result.stderr) == (status, "", True), result.stderr


def test_a_change_whose_answer_is_lost_is_told_to_be_unknown() -> None:
    with answering(b"") as api:
        result = call(api, "create", "blue")
    assert (result.exit_code, "whether the change was made is not known" in result.stderr) == (3, True)


def test_control_characters_in_an_error_are_escaped() -> None:
    body = (
        b'{"error": {"what": "validation", "where": "x\\u001b[2J", "value": "\\u202e", "message": "bad\\u001b[31m\\n"}}'
    )
    with answering(b"HTTP/1.1 400 x\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)) as api:
        result = call(api, "list")
    assert result.stderr == "error: bad\\x1b[31m\\x0a\n  x\\x1b[2J: \\u202e\n"


def test_help_tells_the_exit_statuses() -> None:
    said = CliRunner().invoke(main, ["--help"]).stdout
    for line in (
        "0  done",
        "1  refused by the daemon",
        "2  wrong usage",
        "3  the daemon cannot be reached",
        "4  a fault",
    ):
        assert line in said
