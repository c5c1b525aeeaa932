"""The unit tests of networking-bgpvpn itself with our service driver as the provider, in OpenStack's environment.

It runs what it is told, "all" or words that the names of tests contain, and prints a line of JSON at the end.  Whenever
the driver is told of a change, what it would push is read, translated and tried on an empty node, in the same thread.
"""

from __future__ import annotations

import json
import sys
import unittest
from typing import Any

import neutron  # noqa: F401  it chooses threads for oslo.service, so it comes first
from networking_bgpvpn.tests.unit.db import test_db
from networking_bgpvpn.tests.unit.services import test_plugin
from neutron_lib.api.definitions import bgpvpn_routes_control

from bgpvpn.intent import Intent
from bgpvpn.objects import KINDS, make, plural
from bgpvpn.openstack import bgpvpn_driver
from bgpvpn.openstack.translation import OWNER, wanted
from bgpvpn.replacing import replace

HOST = "somewhere"
pushed: list[int] = []
refused: list[str] = []


class Driver(bgpvpn_driver.NodeBGPVPNDriver):
    """Ours; every port is taken to be bound, since the core plugin of these tests knows no hosts."""

    def changed(self) -> None:
        super().changed()
        snapshot = self.snapshot()
        snapshot.ports = [{**port, "binding:host_id": HOST} for port in snapshot.ports]
        body = wanted(HOST, snapshot)
        things = [make(kind, each) for kind in KINDS for each in body.get(plural(kind), ())]
        pushed.append(len(things))
        refused.extend(map(str, replace(Intent(), OWNER, things, KINDS, (), 0.0).refused.values()))


class DriverWithoutVni(Driver):
    """For tests that list all fields of a BGPVPN and know of no VNI."""

    more_supported_extension_aliases = [bgpvpn_routes_control.ALIAS]


CASES = [
    (test_plugin.TestBGPVPNServicePlugin, Driver),
    (test_plugin.TestBGPVPNServiceDriverDB, DriverWithoutVni),
    (test_db.BgpvpnDBTestCase, Driver),
]


def with_ours(base: Any, driver: type[Driver]) -> Any:
    """The class of upstream's tests, with our driver in the place of its own."""
    provider = f"tests.openstack.upstream_suite.{driver.__name__}"

    class Ours(base):  # type: ignore[misc]
        def setUp(self) -> None:
            test_plugin.BgpvpnTestCaseMixin.setUp(self, service_provider=provider)
            self.ctx = test_db.context.get_admin_context()  # as test_db has it
            self.plugin_db = test_db.BGPVPNPluginDb()

    return type(base.__name__, (Ours,), {})


def main() -> None:
    """Run the tests."""
    words = sys.argv[1:]
    suite = unittest.TestSuite()
    for base, driver in CASES:
        ours = with_ours(base, driver)
        for name in unittest.defaultTestLoader.getTestCaseNames(ours):
            if words == ["all"] or any(word in name for word in words):
                suite.addTest(ours(name))
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    failed = [test.id() for test, _ in result.failures + result.errors]
    told = {"run": result.testsRun, "skipped": len(result.skipped), "failed": failed}
    print(json.dumps({**told, "pushed": pushed, "refused": refused}))


if __name__ == "__main__":
    from tests.openstack import upstream_suite  # under the name by which the provider is loaded

    upstream_suite.main()
