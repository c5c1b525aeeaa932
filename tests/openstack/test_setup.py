from __future__ import annotations

from tests.openstack.clients import Osc, run_python
from tests.openstack.daemon import Daemon


def test_openstacks_own_programs_are_there_and_the_daemon_answers_beside_them(daemon: Daemon, osc: Osc) -> None:
    assert osc.ok("--version").endswith(" 10.5.0\n")
    packages = "import neutron, networking_bgpvpn, networking_bagpipe, neutron_dynamic_routing, openstack"
    assert run_python(f"{packages}\nprint(1)", daemon.url) == "1\n"
    assert daemon.get("/v1/status")["local_as"] == 64512
