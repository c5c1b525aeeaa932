from __future__ import annotations

import pytest

from lab.demo import WISHES
from tests.cli.conftest import Daemon


@pytest.mark.parametrize("node", WISHES)
def test_every_command_of_the_demo_is_done(daemon: Daemon, node: str) -> None:
    lines = WISHES[node].strip().splitlines()
    for words in lines:
        assert daemon.say(words).startswith("field "), words
    for words in ("list", "show routes", "show kernel", "show sessions"):
        assert "  " in daemon.say(words).splitlines()[0], words
    assert daemon.ask("show sessions") == []
    assert daemon.ask("show status")["synced"] is True
    for words in lines:
        if words.startswith("bind "):
            assert daemon.say(f"un{words}") == "", words
    assert {tuple(vpn["networks"]) for vpn in daemon.ask("list")} == {()}
