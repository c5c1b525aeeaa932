"""What tests with OpenStack's own, unmodified programs share: where those are, a daemon for them, and their client.

`lab/setup openstack` installs them in `OPENSTACK`; without it these tests fail.

def test_a_fact(daemon: Daemon, osc: Osc) -> None:
    made = osc.json("bgpvpn", "create", "--name", "blue")
    assert daemon.get("/v2.0/bgpvpn/bgpvpns")["bgpvpns"] == [made]
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.openstack.clients import OPENSTACK, Osc, Shell
from tests.openstack.daemon import Daemon


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.usefixtures("openstack"))


@pytest.fixture(scope="session")
def openstack() -> Path:
    """The virtual environment with OpenStack's programs."""
    if not (OPENSTACK / "installed").exists():
        pytest.fail(f"OpenStack's programs are not in {OPENSTACK}; lab/setup openstack installs them", pytrace=False)
    return OPENSTACK


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """A daemon that writes to no kernel, with an API on a unix socket and a port of the loopback."""
    with Daemon.running(tmp_path) as daemon:
        yield daemon


@pytest.fixture(scope="session")
def shell(openstack: Path) -> Iterator[Shell]:
    """The openstack command, whose start takes seconds, kept running."""
    with Shell.running() as shell:
        yield shell


@pytest.fixture
def osc(shell: Shell, daemon: Daemon) -> Osc:
    """The openstack command as it speaks to the daemon."""
    return Osc(shell, daemon.url)
