"""The BGP driver of neutron-dynamic-routing, unmodified, as a foreign peer of our speakers, signed with TCP MD5.

It speaks of both address families in one session, only ever connects, and logs what it hears.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import pytest

from tests.kernel.namespaces import inside, namespaces, sh, within
from tests.openstack.clients import OPENSTACK
from tests.openstack.daemon import Daemon, until

SECRET = "s3cret"
OURS, THEIRS = 64600, 65010
OWN_ADDRESS, ADDRESS = "198.18.0.1", "198.18.0.2"

PROGRAM = """
import json, logging, sys, types
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
from os_ken.services.protocols.bgp.rtconf import common
common.DEFAULT_BGP_CONN_RETRY_TIME = 10  # the least that it takes; it is 30
from neutron_dynamic_routing.services.bgp.agent.driver.os_ken.driver import OsKenBgpDriver
driver = OsKenBgpDriver(types.SimpleNamespace(bgp_router_id="192.0.2.10"))
for line in sys.stdin:
    name, *arguments = json.loads(line)
    getattr(driver, name)(*arguments)
"""


class Driver:
    """The driver in a process and a namespace of its own."""

    def __init__(self, namespace: str, log: Path) -> None:
        self._log = log
        words = ["ip", "netns", "exec", namespace, str(OPENSTACK / "bin/python"), "-u", "-c", PROGRAM]
        with log.open("ab") as out:
            self.process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=out, stderr=out, text=True)

    @classmethod
    @contextmanager
    def running(cls, namespace: str, log: Path) -> Iterator[Self]:
        driver = cls(namespace, log)
        try:
            yield driver
        except BaseException:
            print("the driver's last words:", *driver.log().splitlines()[-20:], sep="\n    ")
            raise
        finally:
            driver.process.kill()
            driver.process.communicate()

    def call(self, name: str, *arguments: Any) -> None:
        """Call a method of the driver."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps([name, *arguments]) + "\n")
        self.process.stdin.flush()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def heard(self) -> dict[str, str]:
        """The routes that it was told, by what it logged, and their next hops; without those of its own."""
        found: dict[str, str] = {}
        said = r"Best path change observed. cidr=(\S+), nexthop=(\S+), remote_as=(\d+), is_withdraw=(True|False)"
        for prefix, hop, asn, withdrawn in re.findall(said, self.log()):
            if withdrawn == "True":
                found.pop(prefix, None)
            elif asn == str(OURS):
                found[prefix] = hop
        return found

    def peer(self) -> None:
        """Have it speak with us, as neutron-bgp-dragent has."""
        self.call("add_bgp_speaker", THEIRS)
        self.call("add_bgp_peer", THEIRS, OWN_ADDRESS, OURS, "md5", SECRET)


@pytest.fixture
def place() -> Iterator[tuple[str, str]]:
    """Two namespaces with a link between them."""
    mark = f"ndr-{secrets.token_hex(2)}"
    ours, theirs = mark, f"{mark}-far"
    with namespaces(ours, theirs):
        sh(f"ip link add eth0 netns {ours} type veth peer name eth0 netns {theirs}")
        for name, address in ((ours, OWN_ADDRESS), (theirs, ADDRESS)):
            within(name, "link set eth0 up", f"address add {address}/24 dev eth0")
        yield ours, theirs


BGP = f'listen = ["{OWN_ADDRESS}"]\nport = 179\ndeferral_s = 1'


def want(daemon: Daemon, *, passive: bool) -> None:
    """Wish for a speaker of each family with the driver as its peer."""
    peer = {
        "id": "driver",
        "address": ADDRESS,
        "local_address": OWN_ADDRESS,
        "remote_as": THEIRS,
        "families": ["ipv4", "ipv6"],
        "password": SECRET,
        "passive": passive,
        "import_policy": "accept",
    }
    daemon.post("/v1/peers", peer)
    for version, destination, hop in ((4, "10.1.0.0/24", "203.0.113.5"), (6, "2001:db8:1::/64", "2001:db8:ffff::5")):
        name = f"s{version}"
        daemon.post("/v1/speakers", {"id": name, "local_as": OURS, "ip_version": version, "peers": ["driver"]})
        told = {"id": name, "speaker_id": name, "destination": destination, "next_hop": hop}
        daemon.post("/v1/advertisements", told)


def learned(daemon: Daemon, speaker: str) -> list[tuple[str, str, list[int], bool]]:
    rows = daemon.get(f"/v1/speakers/{speaker}/routes")["learned"]
    return [(row["destination"], row["next_hop"], row["as_path"], row["best"]) for row in rows]


@pytest.mark.parametrize("driver_first", [False, True], ids=["daemon-first", "driver-first"])
def test_routes_of_both_families_are_told_and_learned_and_go(
    place: tuple[str, str], tmp_path: Path, driver_first: bool
) -> None:
    ours, theirs = place
    with inside(ours), Driver.running(theirs, tmp_path / "driver.log") as driver:
        if driver_first:
            driver.peer()
            driver.call("advertise_route", THEIRS, "100.64.0.0/16", "198.51.100.7")
            until(lambda: "is advertised" in driver.log(), "the driver has a route")
        (tmp_path / "daemon").mkdir()
        with Daemon.running(tmp_path / "daemon", bgp=BGP) as daemon:
            want(daemon, passive=driver_first)
            if not driver_first:
                driver.peer()
                driver.call("advertise_route", THEIRS, "100.64.0.0/16", "198.51.100.7")
            driver.call("advertise_route", THEIRS, "2001:db8:64::/48", "2001:db8:ffff::7")
            told = {"10.1.0.0/24": "203.0.113.5", "2001:db8:1::/64": "2001:db8:ffff::5"}
            until(lambda: driver.heard() == told, "the driver hears both speakers")
            four = [("100.64.0.0/16", "198.51.100.7", [THEIRS], True)]
            six = [("2001:db8:64::/48", "2001:db8:ffff::7", [THEIRS], True)]
            until(lambda: (learned(daemon, "s4"), learned(daemon, "s6")) == (four, six), "both families are learned")
            assert daemon.get("/v1/speakers/s4")["status"] == daemon.get("/v1/speakers/s6")["status"]
            assert daemon.get("/v1/speakers/s4")["status"]["state"] == "ACTIVE"
            assert daemon.get("/v1/sessions")[0]["malformed"] == 0

            driver.call("withdraw_route", THEIRS, "100.64.0.0/16")
            until(lambda: learned(daemon, "s4") == [], "what it withdraws goes")
            assert learned(daemon, "s6") == six
            daemon.ask("DELETE", "/v1/advertisements/s6").raise_for_status()
            until(lambda: driver.heard() == {"10.1.0.0/24": "203.0.113.5"}, "what we withdraw goes")
            driver.call("delete_bgp_peer", THEIRS, OWN_ADDRESS)
            until(lambda: learned(daemon, "s6") == [], "the session is over")
            daemon.ask("PATCH", "/v1/peers/driver", {"password": "another"}).raise_for_status()
            driver.call("add_bgp_peer", THEIRS, OWN_ADDRESS, OURS, "md5", "another")
            until(lambda: learned(daemon, "s6") == six, "it comes back with the new password")
        assert "Traceback" not in driver.log()
