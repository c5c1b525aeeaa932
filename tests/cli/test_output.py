from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

from cli.output import as_json, cell, escaped, fields, table
from tests.cli.daemon import COMMAND, Daemon


def test_what_a_terminal_would_act_on_is_escaped() -> None:
    for text, shown in [
        ("plain é 漢", "plain é 漢"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\x7f\x9b", "a\\x0ab\\x09c\\x7f\\x9b"),
        ("\u202egnp\u200b", "\\u202egnp\\u200b"),
        ("\U000e0001", "\\U000e0001"),
    ]:
        assert escaped(text) == shown
        assert cell({text: [text]}) == f"{shown}={shown}"
    assert as_json("\x1b\x9b\u202e") == '"\\u001b\\u009b\\u202e"'


def test_a_cell_is_one_line() -> None:
    for value, shown in [
        (None, "-"),
        ("", "-"),
        ([], "-"),
        ({}, "-"),
        (0, "0"),
        (True, "yes"),
        (False, "no"),
        (["a", 1, None], "a,1,-"),
        ({"vpnv4": 3, "evpn": 0}, "vpnv4=3 evpn=0"),
    ]:
        assert cell(value) == shown


def test_a_table_is_aligned_without_borders_and_nothing_is_cut_off() -> None:
    rows = [
        {"name": "blue", "rts": ["64512:1", "64512:2"], "status": {"state": "PENDING", "reason": "no such interface"}},
        {"name": "n" * 200, "rts": [], "status": {"state": "ACTIVE", "reason": ""}, "further": "not a column"},
    ]
    lines = table(rows, ("name", "rts", "vni", "status", "reason")).splitlines()
    assert [re.split(r"  +", line) for line in lines] == [
        ["name", "rts", "vni", "status", "reason"],
        ["blue", "64512:1,64512:2", "-", "PENDING", "no such interface"],
        ["n" * 200, "-", "-", "ACTIVE", "-"],
    ]
    assert len({line.index(word) for line, word in zip(lines, ("status", "PENDING", "ACTIVE"), strict=True)}) == 1


def test_a_table_of_nothing_has_its_columns() -> None:
    assert table([], ("name", "status")) == "name  status"
    assert fields({}) == "field  value"


def test_json_is_the_same_before_and_after_the_subcommand(daemon: Daemon) -> None:
    daemon.say("create blue")
    for words in ("list", "show blue", "show vpn blue", "show status", "network list"):
        assert daemon.say(f"-f json {words}") == daemon.say(f"{words} --format json"), words
    assert daemon.say("show -f json status") == daemon.say("show status -f json")
    assert daemon.say("-f json show blue -f table").startswith("field ")


def test_text_of_others_is_escaped_in_tables_and_explanations(daemon: Daemon) -> None:
    daemon.node.session_rows = [{"peer": "rr", "state": "idle", "last_error": "\x1b]0;owned\x07"}]
    assert "\\x1b]0;owned\\x07" in daemon.say("show sessions")
    assert "\x1b" not in daemon.say("-f json show sessions")


def test_on_a_terminal_a_table_is_drawn_and_keeps_every_character(daemon: Daemon) -> None:
    targets = [f"64512:{number}" for number in range(100, 110)]
    daemon.say("create blue " + " ".join(f"--route-target {target}" for target in targets))
    leader, follower = pty.openpty()
    environment = {**os.environ, "BGPVPN_API": str(daemon.socket), "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": ""}
    with os.fdopen(leader, "rb", 0) as terminal:
        try:
            subprocess.run([*COMMAND, "list"], stdout=follower, env=environment, check=True)
        finally:
            os.close(follower)
        drawn = _rest(terminal.fileno())
    assert "\x1b[32m" in drawn, "an active VPN is green"
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line).rstrip() for line in drawn.splitlines()]
    assert max(map(len, lines)) <= 80
    start, end = lines[0].index("route"), lines[0].index("vni")
    assert "".join(line[start:end].strip() for line in lines[1:]) == ",".join(targets)


def _rest(terminal: int) -> str:
    """What was written to a terminal that nobody writes to any more."""
    octets = b""
    while True:
        try:
            octets += os.read(terminal, 65536)
        except OSError:
            return octets.decode()


def test_starting_up_imports_no_library_that_is_not_needed(daemon: Daemon, tmp_path: Path) -> None:
    heavy = ("rich", "uvicorn", "starlette", "httpx", "msgspec", "attrs", "pyroute2", "speaker", "bgpvpn", "asyncio")
    program = "\n".join(
        [
            "import sys",
            "from cli.main import main",
            "main(sys.argv[1:], standalone_mode=False)",
            "loaded = {name.split('.')[0] for name in sys.modules} | {'http.client'} & set(sys.modules)",
            "print(len(sys.modules), *sorted(loaded), file=sys.stderr)",
        ]
    )
    for words, unwanted, most in [
        (["--help"], (*heavy, "http", "socket", "email"), 250),
        (["--api", str(daemon.socket), "-f", "json", "list"], heavy, 350),
    ]:
        result = subprocess.run([sys.executable, "-c", program, *words], capture_output=True, text=True, check=True)
        count, *loaded = result.stderr.split()
        assert set(loaded) & set(unwanted) == set(), words
        assert int(count) < most, words
