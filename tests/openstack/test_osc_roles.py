"""The openstack command with a token of the node, which it sends as if Keystone had given it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openstack.clients import Osc, Shell
from tests.openstack.daemon import Daemon

OPERATOR = "token-of-the-operator-of-the-node"
OWNER = "token-of-the-owner-of-project-blue"


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that takes two tokens."""
    options = 'level = "info"\n'  # of [log], and after them sections of their own
    for name, token, role in (
        ("operator", OPERATOR, 'role = "operator"'),
        ("owner", OWNER, 'role = "owner"\nproject = "blue"'),
    ):
        file = tmp_path / name
        file.write_text(token)
        file.chmod(0o600)
        options += f'[[api.client]]\ntoken_file = "{file}"\n{role}\n'
    with Daemon.running(tmp_path, token=OPERATOR, log=options) as daemon:
        yield daemon


def test_an_owner_puts_its_network_into_the_vpn_that_an_operator_gave_it_and_sees_no_targets(
    shell: Shell, guarded: Daemon
) -> None:
    operator, owner = Osc(shell, guarded.url, OPERATOR), Osc(shell, guarded.url, OWNER)
    body = {"bgpvpn": {"name": "v1", "project_id": "blue", "route_targets": ["64512:1"]}}
    guarded.post("/v2.0/bgpvpn/bgpvpns", body)
    operator.ok("bgpvpn", "create", "--name", "theirs")

    (row,) = owner.json("bgpvpn", "list", "--long")
    assert (row["Name"], row["Route Targets"]) == ("v1", [])
    network = owner.json("network", "create", "n1")
    assert network["project_id"] == "blue"
    owner.ok("bgpvpn", "network", "association", "create", "v1", "n1")
    owner.ok("bgpvpn", "set", "v1", "--local-pref", "50")
    for words in (
        ("bgpvpn", "create", "--name", "v2"),
        ("bgpvpn", "set", "v1", "--no-route-target"),
        ("bgpvpn", "delete", "v1"),
        ("bgp", "speaker", "list"),
    ):
        assert "403" in owner.refused(*words), words
    assert "No BgpVpn found for theirs" in owner.refused("bgpvpn", "show", "theirs")
    assert operator.json("bgpvpn", "show", "v1")["route_targets"] == ["64512:1"]
    nobody = Osc(shell, guarded.url, "a-token-that-nobody-has-here")
    assert "nobody here has this token" in nobody.refused("bgpvpn", "list")
