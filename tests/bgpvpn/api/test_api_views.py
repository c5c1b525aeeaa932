from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from bgpvpn.objects import Bgpvpn, Port
from tests.bgpvpn.api.serving import in_loop, ok, refused, served
from tests.fakes.node import FakeNode

ROUTES = [
    {
        "family": family,
        "nlri": nlri,
        "source": source,
        "route_targets": targets,
        "imported_by": importers,
    }
    for family, nlri, source, targets, importers in [
        ("vpnv4", "64512:1 10.0.0.0/24", "192.0.2.1", ["64512:1"], ["blue"]),
        ("vpnv4", "64512:2 10.0.0.0/24", "192.0.2.2", ["64512:2"], ["red"]),
        ("vpnv6", "64512:1 2001:db8::/64", "192.0.2.1", ["64512:1"], ["blue"]),
    ]
]


def node_with_objects() -> FakeNode:
    node = FakeNode()
    node.write([Bgpvpn(id="v-1", name="blue")])
    node.write([Port(id="p-1", name="web", interface="tap0", mac_address="02:00:00:00:00:01")])
    return node


@in_loop
async def test_views_show_what_the_node_says(tmp_path: Path) -> None:
    node = FakeNode()
    node.status_plain = {"version": "1", "synced": False}
    node.session_rows = [{"peer": "192.0.2.1", "state": "established"}]
    node.instance_rows = [{"name": "blue", "vrf": {"table": 7}}]
    node.kernel_plain = {"objects": [{"object": "vrf blue", "state": "pending", "reason": "no such device"}]}
    async with served(node, tmp_path) as api:
        assert await ok(api.get("/v1/status")) == node.status_plain
        assert await ok(api.get("/v1/sessions")) == node.session_rows
        assert await ok(api.get("/v1/instances")) == node.instance_rows
        assert await ok(api.get("/v1/kernel")) == node.kernel_plain
        for view in ("status", "sessions", "instances", "kernel", "events"):
            error = await refused(api.get(f"/v1/{view}?verbose=1"), 400)
            assert error["message"] == "verbose: is not known; there are none here"


@in_loop
async def test_routes_are_those_that_fit_all_that_is_given(tmp_path: Path) -> None:
    node = node_with_objects()
    node.route_rows = ROUTES
    async with served(node, tmp_path) as api:
        for query, rows in [
            ("", [0, 1, 2]),
            ("family=VPNv4", [0, 1]),
            ("rt=64512:1", [0, 2]),
            ("prefix=10.0.0.0/24", [0, 1]),
            ("source=192.0.2.1", [0, 2]),
            ("vpn=blue", [0, 2]),
            ("vpn=v-1&family=vpnv6", [2]),
            ("family=evpn", []),
            ("limit=2", [0, 1]),
        ]:
            assert await ok(api.get(f"/v1/routes?{query}")) == [ROUTES[row] for row in rows], query


@pytest.mark.parametrize(
    ("path", "status", "where", "message"),
    [
        ("routes?vpn=nosuch", 404, "vpn", "there is no bgpvpn 'nosuch'"),
        ("routes?limit=0", 400, "limit", "limit: takes a number from 1 to 10000"),
        ("routes?limit=10001", 400, "limit", "limit: takes a number from 1 to 10000"),
        ("routes?limit=many", 400, "limit", "limit: takes a number from 1 to 10000"),
        ("routes?limit=" + "9" * 5000, 400, "limit", "limit: takes a number from 1 to 10000"),
        ("routes?family=vpls", 400, "family", "family: 'vpls' is not a family; there are ipv4, "),
        ("routes?rt=64512", 400, "rt", "rt: '64512' is not a route target"),
        ("routes?prefix=10.0.0.0/33", 400, "prefix", "prefix: '10.0.0.0/33' does not appear to be"),
        ("routes?source=nosuch", 404, "source", "there is no peer 'nosuch'"),
        ("routes?prefx=x", 400, "prefx", "prefx: is not known; there are family, rt, prefix, vpn, source, limit"),
        ("explain", 400, "query", "either ?prefix= or ?port= is wanted"),
        ("explain?prefix=10.0.0.0/8&port=web", 400, "query", "either ?prefix= or ?port= is wanted"),
        ("explain?prefix=10.0.0.0/8&prefix=10.0.0.0/9", 400, "prefix", "prefix: is there more than once"),
        ("explain?prefix=10.0.0.0/33", 400, "prefix", "prefix: "),
        ("explain?prefix=", 400, "prefix", "prefix: "),
        ("explain?port=nosuch", 404, "port", "there is no port 'nosuch'"),
    ],
)
@in_loop
async def test_a_question_that_makes_no_sense_is_refused(
    tmp_path: Path, path: str, status: int, where: str, message: str
) -> None:
    async with served(node_with_objects(), tmp_path) as api:
        error = await refused(api.get(f"/v1/{path}"), status)
        assert error["where"] == where
        assert error["message"].startswith(message)


@in_loop
async def test_a_prefix_or_a_port_is_explained(tmp_path: Path) -> None:
    async with served(node_with_objects(), tmp_path) as api:
        assert (await ok(api.get("/v1/explain?prefix=10.0.0.7/8")))["prefix"] == "10.0.0.0/8"
        for ref in ("web", "p-1"):
            assert (await ok(api.get(f"/v1/explain?port={ref}")))["port"] == "p-1"


@in_loop
async def test_metrics_are_as_prometheus_reads_them(tmp_path: Path) -> None:
    node = FakeNode()
    node.metric_rows = [
        {
            "name": "bgpvpn_session_flaps",
            "help": 'sessions lost; "often"\n',
            "type": "counter",
            "samples": [
                {"labels": {"peer": "192.0.2.1", "name": 'a "b"\n\\'}, "value": 7},
                {"labels": {"peer": "2001:db8::1", "name": ""}, "value": 0},
            ],
        },
        {"name": "bgpvpn_synced", "help": "x", "type": "gauge", "samples": [{"labels": {}, "value": 1}]},
        {"name": "bgpvpn_rib_routes", "help": "none yet", "type": "gauge", "samples": []},
    ]
    async with served(node, tmp_path) as api:
        response: httpx.Response = await api.get("/metrics")
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        families = {family.name: family for family in text_string_to_metric_families(response.text)}
        assert {name: family.type for name, family in families.items()} == {
            "bgpvpn_session_flaps": "counter",
            "bgpvpn_synced": "gauge",
            "bgpvpn_rib_routes": "gauge",
        }
        samples = [(each.name, each.labels, each.value) for family in families.values() for each in family.samples]
        assert samples == [
            ("bgpvpn_session_flaps_total", {"peer": "192.0.2.1", "name": 'a "b"\n\\'}, 7),
            ("bgpvpn_session_flaps_total", {"peer": "2001:db8::1", "name": ""}, 0),
            ("bgpvpn_synced", {}, 1),
        ]
