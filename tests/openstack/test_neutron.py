"""A real Neutron with the bagpipe driver and the real bagpipe agent extension, whose calls our daemon answers."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest

from tests.openstack.clients import Osc, Shell
from tests.openstack.daemon import Daemon, free_ports, until
from tests.openstack.neutron.harness import Neutron, Plugged
from tests.openstack.routes import Preference, to

KINDS = ("bgpvpns", "networks", "subnets", "ports", "associations")
numbers = itertools.count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that answers in the place of bagpipe-bgp."""
    [port] = free_ports(1)
    with Daemon.running(tmp_path_factory.mktemp("daemon"), bagpipe=f'listen = "127.0.0.1:{port}"') as daemon:
        daemon.bagpipe_port = port
        yield daemon


@pytest.fixture(scope="module")
def neutron(tmp_path_factory: pytest.TempPathFactory, daemon: Daemon) -> Iterator[Neutron]:
    with Neutron.running(tmp_path_factory.mktemp("neutron"), daemon.bagpipe_port) as neutron:
        yield neutron


@attrs.define
class Tenant:
    """A network of its own with one port, and a VPN with a route target of its own."""

    neutron: Neutron
    daemon: Daemon
    number: int
    network: Any
    port: Plugged
    vpn: Any

    @property
    def target(self) -> str:
        return f"64512:{self.number}"

    @property
    def own(self) -> str:
        """The prefix of its port."""
        return f"{self.port.ips[0]}/32"

    def bind(self, kind: str = "network", vpn: Any = None, **fields: Any) -> Any:
        ids = {"network": self.network["id"], "port": self.port.id}
        bound = {f"{kind}_id": ids[kind]} if kind in ids else {}
        return self.neutron.post("bgpvpns", (vpn or self.vpn)["id"], f"{kind}_associations", **bound, **fields)

    def change(self, **fields: Any) -> None:
        self.neutron.put("bgpvpns", self.vpn["id"], **fields)

    def announces(self, *prefixes: str, target: str = "") -> None:
        """Wait until exactly these are announced to a route target."""
        self.announces_with(dict.fromkeys(prefixes), target)

    def announces_with(self, routes: Mapping[str, Preference], target: str = "") -> None:
        """Wait until exactly these are announced to a route target, each with its LOCAL_PREF."""
        until(
            lambda: to(target or self.target, self.daemon) == routes, f"announced to {target or self.target}: {routes}"
        )


@pytest.fixture
def tenant(neutron: Neutron, daemon: Daemon) -> Iterator[Tenant]:
    """Whatever a test leaves behind goes with its port, and the daemon has nothing more then."""
    number = next(numbers)
    network = neutron.network(f"net{number}", f"10.{number}.0.0/24")
    port = neutron.port(network, f"vm{number}", f"10.{number}.0.5")
    vpn = neutron.post("bgpvpns", name=f"vpn{number}", route_targets=[f"64512:{number}"])
    yield Tenant(neutron, daemon, number, network, port, vpn)
    neutron.unplug(port.id)
    until(lambda: not any(daemon.get(f"/v1/{kind}") for kind in KINDS), "nothing is left of what the agent attached")


def test_a_network_is_associated_by_the_openstack_command_and_its_ports_are_announced_until_it_is_not(
    tenant: Tenant, shell: Shell
) -> None:
    osc = Osc(shell, tenant.neutron.url)
    assert tenant.network["name"] in [each["Name"] for each in osc.json("network", "list")]
    made = osc.json("bgpvpn", "network", "association", "create", tenant.vpn["id"], tenant.network["id"])
    tenant.announces(tenant.own)
    osc.ok("bgpvpn", "network", "association", "delete", made["id"], tenant.vpn["id"])
    tenant.announces()


def test_a_change_of_route_targets_and_local_pref_reaches_what_is_announced(tenant: Tenant) -> None:
    tenant.bind()
    tenant.announces(tenant.own)
    tenant.change(route_targets=["64512:9001"], export_targets=["64512:9002"], import_targets=["64512:9003"])
    tenant.announces()
    tenant.announces(tenant.own, target="64512:9001")
    tenant.announces(tenant.own, target="64512:9002")
    [vpn] = tenant.daemon.get("/v1/bgpvpns")
    assert sorted(vpn["import_targets"]) == ["64512:9001", "64512:9003"]
    for local_pref in (300, 0, None):
        tenant.change(local_pref=local_pref)
        tenant.announces_with({tenant.own: local_pref}, "64512:9001")


def test_an_l2_vpn_has_the_vni_of_its_network_and_stands_beside_an_l3_vpn(tenant: Tenant) -> None:
    bridged = tenant.neutron.post("bgpvpns", name="l2", type="l2", route_targets=["64512:9010"])
    bound = tenant.bind(vpn=bridged)
    tenant.bind()
    tenant.announces(tenant.own)
    [evpn] = [each for each in tenant.daemon.get("/v1/bgpvpns") if each["type"] == "l2"]
    assert evpn["vni"] == tenant.neutron.get("networks", tenant.network["id"])["provider:segmentation_id"]
    assert (evpn["import_targets"], evpn["export_targets"]) == (["64512:9010"], ["64512:9010"])
    until(lambda: to("64512:9010", tenant.daemon, "evpn"), "the EVPN instance asks for what is flooded")
    tenant.neutron.delete("bgpvpns", bridged["id"], "network_associations", bound["id"])
    until(lambda: not to("64512:9010", tenant.daemon, "evpn"), "the EVPN instance is gone")
    tenant.announces(tenant.own)


def test_prefixes_behind_a_port_have_a_local_pref_of_their_own_and_go_one_by_one(tenant: Tenant) -> None:
    wide, narrow = {"type": "prefix", "prefix": "192.168.0.0/16"}, {"type": "prefix", "prefix": "192.168.7.0/24"}
    bound = tenant.bind("port", routes=[wide, {**narrow, "local_pref": 150}])
    tenant.announces_with({tenant.own: None, "192.168.0.0/16": None, "192.168.7.0/24": 150})
    tenant.neutron.put("bgpvpns", tenant.vpn["id"], "port_associations", bound["id"], routes=[wide])
    tenant.announces(tenant.own, "192.168.0.0/16")
    tenant.neutron.delete("bgpvpns", tenant.vpn["id"], "port_associations", bound["id"])
    tenant.announces()


def test_what_one_vpn_has_is_led_into_another_through_a_port(tenant: Tenant, neutron: Neutron) -> None:
    source = neutron.post("bgpvpns", name="led", route_targets=["64512:9020"])
    other = neutron.network("other", "10.200.0.0/24")
    far = neutron.port(other, "far", "10.200.0.7")
    neutron.post("bgpvpns", source["id"], "network_associations", network_id=other["id"])
    tenant.announces("10.200.0.7/32", target="64512:9020")
    bound = tenant.bind("port", routes=[{"type": "bgpvpn", "bgpvpn_id": source["id"], "local_pref": 50}])
    tenant.announces_with({tenant.own: (None, 50), "10.200.0.7/32": 50})  # the agent attaches its own address twice
    neutron.delete("bgpvpns", tenant.vpn["id"], "port_associations", bound["id"])
    tenant.announces()
    neutron.unplug(far.id)


def test_networks_of_an_associated_router_are_announced_as_its_interfaces_come(
    tenant: Tenant, neutron: Neutron
) -> None:
    router = neutron.post("routers", name="router")
    tenant.bind("router", router_id=router["id"])
    [subnet] = neutron.get("networks", tenant.network["id"])["subnets"]
    answer = neutron.ask("PUT", "routers", router["id"], "add_router_interface", body={"subnet_id": subnet})
    assert answer.is_success, answer.text
    tenant.announces(tenant.own)
    [network] = tenant.daemon.get("/v1/networks")
    gateway = neutron.get("ports", answer.json()["port_id"])
    assert network["fallback_mac"] == gateway["mac_address"]


def test_ports_come_and_go_and_the_last_takes_the_vpn_with_it(tenant: Tenant, neutron: Neutron) -> None:
    tenant.bind()
    tenant.announces(tenant.own)
    second = neutron.port(tenant.network, "second", f"10.{tenant.number}.0.6")
    tenant.announces(tenant.own, f"{second.ips[0]}/32")
    neutron.unplug(second.id)
    tenant.announces(tenant.own)
    neutron.unplug(tenant.port.id)
    until(lambda: not tenant.daemon.get("/v1/bgpvpns"), "nothing is left")


def test_a_port_that_is_down_is_not_announced(tenant: Tenant, neutron: Neutron) -> None:
    tenant.bind()
    tenant.announces(tenant.own)
    for up, announced in ((False, ()), (True, (tenant.own,))):
        neutron.put("ports", tenant.port.id, admin_state_up=up)
        neutron.plug(tenant.port.id)
        tenant.announces(*announced)


def test_a_daemon_that_was_killed_has_all_that_was_attached_and_the_agent_sends_nothing_anew(
    tenant: Tenant, neutron: Neutron, daemon: Daemon
) -> None:
    tenant.bind()
    tenant.announces(tenant.own)
    ports = daemon.get("/v1/ports")
    assert any(_restarted_unseen(neutron, daemon) for _ in range(5)), "the daemon was away for too long each time"
    attached = neutron.asked("attach_localport")
    tenant.change(local_pref=70)
    tenant.announces_with({tenant.own: 70})
    assert neutron.asked("attach_localport") == attached + 1
    assert [each["created_at"] for each in daemon.get("/v1/ports")] == [each["created_at"] for each in ports]


def _restarted_unseen(neutron: Neutron, daemon: Daemon) -> bool:
    """Kill the daemon and start it anew between two pings; return whether it was fast enough, and check then."""
    pings = neutron.asked("ping")
    until(lambda: neutron.asked("ping") > pings, "the agent has asked, and asks again in two seconds")
    attached, in_vain = neutron.asked("attach_localport"), neutron.asked_in_vain()
    pings = neutron.asked("ping")
    daemon.restart()
    until(lambda: neutron.asked("ping") > pings + 1, "the agent has asked again, and done what follows from it")
    if neutron.asked_in_vain() > in_vain:
        return False
    assert neutron.asked("attach_localport") == attached
    return True


def test_an_agent_that_missed_the_daemon_attaches_what_came_meanwhile(tenant: Tenant, neutron: Neutron) -> None:
    tenant.daemon.stop()
    in_vain = neutron.asked_in_vain()
    until(lambda: neutron.asked_in_vain() > in_vain, "the agent has asked in vain")
    tenant.bind()
    tenant.daemon.start()
    tenant.announces(tenant.own)
