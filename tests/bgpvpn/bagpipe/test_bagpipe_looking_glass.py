"""Requests of bagpipe-bgp's clients to a node without a kernel and without peers, and what is seen of them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx

from bgpvpn.bagpipe.app import application
from bgpvpn.bagpipe.looking_glass import LookingGlass, Recent
from bgpvpn.bagpipe.request import Bridges
from bgpvpn.dataplane.dryrun import DryRun
from bgpvpn.intent import Store
from bgpvpn.running import RunningNode
from bgpvpn.store.sqlite import SqliteStore
from tests.bgpvpn.bagpipe.asking import ATTACH, CONFIG, EVPN, MAC, in_loop
from tests.fakes.node import FakeStore

URL = "http://127.0.0.1:8082/looking-glass"


class Site:
    """A node and a client of it."""

    def __init__(self, node: RunningNode, client: httpx.AsyncClient, recent: Recent) -> None:
        self.node = node
        self.client = client
        self.recent = recent

    async def attach(self, **change: Any) -> None:
        answer = await self.client.post("/attach_localport", json=ATTACH | change)
        assert answer.status_code == 200, answer.text

    async def detach(self, **change: Any) -> None:
        answer = await self.client.post("/detach_localport", json=ATTACH | change)
        assert answer.status_code == 200, answer.text

    async def look(self, path: str) -> Any:
        answer = await self.client.get(f"/looking-glass/{path}")
        assert answer.status_code == 200, (path, answer.text)
        return answer.json()

    def announced(self) -> dict[str, tuple[int | None, tuple[str, ...]]]:
        """What VPN routes are told: NLRI -> LOCAL_PREF, route targets."""
        while self.node.node.step(0.0, 0.0):
            pass
        return {row["nlri"]: (row["local_pref"], tuple(row["route_targets"])) for row in self.routes()}

    def routes(self) -> list[dict[str, Any]]:
        return self.node.routes(
            family="vpnv4", route_target=None, prefix=None, vpn=None, source="local", most=100, received=False
        )


@contextlib.asynccontextmanager
async def running(store: Store | None = None) -> AsyncIterator[Site]:
    node = RunningNode(CONFIG, store or FakeStore(), DryRun(lambda _: None))
    node.start()
    recent = Recent()
    app = application(node, LookingGlass(node, CONFIG, recent), Bridges())
    transport = httpx.ASGITransport(app=app, client=("127.0.0.1", 5))
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8082") as client:
            yield Site(node, client, recent)
    finally:
        await node.stop()


@in_loop
async def test_an_endpoint_is_announced_with_its_local_pref_by_the_nodes_distinguisher() -> None:
    async with running() as site:
        await site.attach(export_rt=["64512:1", "64512:3"], local_pref=50)
        await site.attach(mac_address="fa:16:3e:11:22:34", ip_address="10.0.0.6", export_rt=["64512:1", "64512:3"])
        assert site.announced() == {
            "192.0.2.1:1 10.0.0.5/32": (50, ("64512:1", "64512:3")),
            "192.0.2.1:1 10.0.0.6/32": (None, ("64512:1", "64512:3")),
        }
        assert await site.look("bgp/route_counts/local_routes_count") == 2
        (encapsulations,) = {tuple(row["extended_communities"]) for row in site.routes()}
        assert encapsulations == ("encapsulation:gre",)  # what a node of bagpipe-bgp with GRE takes
        await site.attach(local_pref=70, export_rt=["64512:9"])
        assert site.announced() == {
            "192.0.2.1:1 10.0.0.5/32": (70, ("64512:9",)),
            "192.0.2.1:1 10.0.0.6/32": (None, ("64512:9",)),
        }
        await site.detach()
        assert list(site.announced()) == ["192.0.2.1:1 10.0.0.6/32"]
        await site.detach(mac_address="fa:16:3e:11:22:34", ip_address="10.0.0.6")
        assert site.announced() == {}


@in_loop
async def test_a_station_that_is_only_sent_from_is_not_announced_and_one_that_is_only_sent_to_imports_nothing() -> None:
    async with running() as site:
        await site.attach(direction="from-port")
        assert site.announced() == {}
        assert [each["route_targets"]["import"] for each in [await site.look("vpns/instances/blue")]] == [
            ["target:64512:1"]
        ]
        await site.detach()
        await site.attach(direction="to-port", ip_address="192.168.7.0/24", advertise_subnet=True)
        assert [nlri.split()[1] for nlri in site.announced()] == ["192.168.7.0/24"]
        assert (await site.look("bgp/adv_routes")) == []  # no membership: nothing is imported


@in_loop
async def test_what_was_attached_and_the_number_are_there_after_a_restart(tmp_path: Path) -> None:
    seen: list[Any] = []
    for _ in range(2):
        store = SqliteStore(tmp_path / "intent.db")
        async with running(store) as site:
            if not seen:
                await site.attach(**EVPN)
                await site.attach()
            announced, ping = site.announced(), (await site.client.get("/ping")).text
            seen.append((announced, ping, await site.look("vpns/instances/blue/ports")))
        store.close()
    assert seen[0] == seen[1]


@in_loop
async def test_the_top_refers_to_the_rest_by_the_host_that_was_asked() -> None:
    async with running() as site:
        top = (await site.client.get("/looking-glass", headers={"host": "localhost:9"})).json()
        assert set(top) == {"summary", "config", "bgp", "vpns", "logs"}
        assert top["vpns"] == {"href": "http://localhost:9/looking-glass/vpns"}
        assert set(top["summary"]) == {
            *("BGP_established_peers", "route_counts", "vpn_instances_count", "warnings_and_errors"),
            *("start_time", "version"),
        }
        assert await site.look("") == await site.look("/")
        assert (await site.look("config/BGP"))["my_as"] == 64512
        assert await site.look("config/API/port") == 8082
        assert await site.look("vpns") == {
            "instances": {"href": f"{URL}/vpns/instances"},
            "dataplane": {"href": f"{URL}/vpns/dataplane"},
            "instances_per_vni": {},
        }
        assert await site.look("vpns/dataplane/drivers") == [
            {"id": "evpn", "href": f"{URL}/vpns/dataplane/drivers/evpn"},
            {"id": "ipvpn", "href": f"{URL}/vpns/dataplane/drivers/ipvpn"},
        ]
        assert (await site.look("vpns/dataplane/drivers/evpn"))["supported_encaps"] == ["VXLAN"]
        assert await site.look("bgp/route_counts/local_routes_count") == 0


@in_loop
async def test_instances_are_shown_with_what_the_commands_read() -> None:
    async with running() as site:
        await site.attach(vpn_instance_id="a b", export_rt=["64512:1", "192.0.2.1:7"])
        await site.attach(**EVPN)
        listed = await site.look("vpns/instances")
        assert [(each["id"], each["name"][:3], each["href"]) for each in listed] == [
            ("a b", "VRF", f"{URL}/vpns/instances/a%20b"),
            ("green", "EVI", f"{URL}/vpns/instances/green"),
        ]
        one = await site.look("vpns/instances/a%20b")
        assert one["route_targets"] == {
            "import": ["target:64512:1"],
            "export": ["target:64512:1", "target:192.0.2.1:7"],
        }
        assert (one["gateway_ip"], one["subnet_prefix_length"], one["external_instance_id"]) == ("10.0.0.1", 32, "a b")
        assert one["ports"] == {"href": f"{URL}/vpns/instances/a%20b/ports"}
        assert (await site.look("vpns/instances/a%20b/readvertise")) == {}
        ports = await site.look("vpns/instances/a%20b/ports")
        (endpoint,) = ports["tap1"]["endpoints"]
        assert (endpoint["mac_address"], endpoint["ip_address"], endpoint["rd"]) == (MAC, "10.0.0.5/32", "192.0.2.1:1")
        assert endpoint["label"] >= 16000
        evi = await site.look("vpns/instances/green")
        assert (evi["instance_type"], evi["instance_dataplane_id"], evi["gateway_port"]) == ("EVI", 1042, None)
        assert await site.look("vpns/instances_per_vni") == {
            "1042": {"name": evi["name"], "external_instance_id": "green"}
        }
        assert (await site.look("vpns/dataplane/ids"))[str(endpoint["label"])].startswith("label")
        assert await site.look(f"bgp/workers/{evi['name']}/external_instance_id") == "green"


@in_loop
async def test_an_evpn_shows_the_ipvpn_that_it_is_plugged_into() -> None:
    async with running() as site:
        await site.attach(**EVPN)
        await site.attach(local_port={"evpn": {"id": "green"}})
        blue = await site.look("vpns/instances/blue/name")
        assert await site.look("vpns/instances/green/gateway_port/ipvpn") == {
            "href": f"{URL}/vpns/instances/blue",
            "id": blue,
            "external_instance_id": "blue",
        }


@in_loop
async def test_what_is_announced_anew_is_shown() -> None:
    async with running() as site:
        await site.attach(readvertise={"from_rt": ["64512:50"], "to_rt": ["64512:51"]})
        assert await site.look("vpns/instances/blue/readvertise") == {
            "from": ["target:64512:50"],
            "to": ["target:64512:51"],
        }
        assert await site.look("vpns/instances/blue/readvertise/to") == ["target:64512:51"]
        assert await site.look("vpns/instances/blue/readvertised") == []


@in_loop
async def test_routes_are_shown_by_family_and_best_by_the_highest_local_pref() -> None:
    async with running() as site:
        await site.attach(local_pref=200)
        await site.attach(vpn_instance_id="other", mac_address="fa:16:3e:11:22:34", local_port="tap3")
        site.announced()
        routes = await site.look("bgp/routes/ipv4%2Fmpls-vpn%2C*")
        assert len(routes) == 2
        (entry,) = [each for each in routes if "192.0.2.1:1 10.0.0.5/32" in each]
        assert entry["192.0.2.1:1 10.0.0.5/32"]["route_targets"] == ["target:64512:1"]
        received = await site.look("vpns/instances/blue/received_routes")
        assert [len(each) for each in received.values()] == [2]
        best = await site.look("vpns/instances/blue/best_routes")
        assert [list(each) for each in best["10.0.0.5/32"]] == [["192.0.2.1:1 10.0.0.5/32"]]
        assert len(await site.look("vpns/instances/other/adv_routes")) == 2  # by their route targets


@in_loop
async def test_the_last_warnings_are_shown_newest_first() -> None:
    async with running() as site:
        for number in range(150):
            line = {"name": "x", "levelno": 30, "levelname": "WARNING", "msg": f"n{number}"}
            site.recent.handle(logging.makeLogRecord(line))
        logs = await site.look("logs")
        assert (len(logs), logs[0]["message"], logs[0]["level"]) == (100, "n149", "WARNING")
        assert await site.look("summary/warnings_and_errors") == 100


@in_loop
async def test_what_is_not_there_is_missing() -> None:
    async with running() as site:
        await site.attach()
        for path in (
            *("nothing", "vpns/instances/nothing", "vpns/instances/blue/nothing", "bgp/peers/192.0.2.9"),
            *("summary/version/deeper", "bgp/workers/nothing", "vpns/dataplane/drivers/x", "logs/0"),
        ):
            assert (await site.client.get(f"/looking-glass/{path}")).status_code == 404, path
