"""networking-bgpvpn's own unit tests, with our service driver as the provider."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.openstack.clients import OPENSTACK, ROOT


def run(*words: str) -> Any:
    """Run tests of upstream's; return what became of them."""
    done = subprocess.run(
        [OPENSTACK / "bin/python", "-W", "ignore", "-m", "tests.openstack.upstream_suite", *words],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failed"] == [], done.stderr[-10_000:]
    return result


@pytest.mark.long
def test_all_of_upstreams_tests_of_the_service_and_its_database_pass() -> None:
    result = run("all")
    assert (result["run"], result["skipped"], result["refused"]) == (64, 0, [])
    assert max(result["pushed"]) == 5, "a network, a subnet, a port, a BGPVPN and an association"


def test_upstreams_tests_of_associations_and_the_hooks_of_a_driver_pass() -> None:
    words = "port_assoc_create", "test_update_bgpvpn", "test_create_bgpvpn"
    result = run(*words)
    assert (result["run"], result["skipped"], result["refused"]) == (14, 0, [])
    assert max(result["pushed"]) == 5


def test_the_plug_ins_load_nothing_of_the_daemon() -> None:
    source = (
        "import sys, neutron, bgpvpn.openstack.bgpvpn_driver, bgpvpn.openstack.dr_driver\n"
        "print(sorted(name for name in sys.modules if name.split('.')[0] in ('bgpvpn', 'speaker', 'cli', 'msgspec')))"
    )
    command = [str(OPENSTACK / "bin/python"), "-W", "ignore", "-c", source]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=60, check=True)
    modules = "bgpvpn_driver", "client", "dr_driver", "pushing", "translation"
    assert done.stdout == f"{['bgpvpn', 'bgpvpn.openstack', *(f'bgpvpn.openstack.{each}' for each in modules)]}\n"
