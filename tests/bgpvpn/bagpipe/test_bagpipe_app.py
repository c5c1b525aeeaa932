from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from bgpvpn.api.server import ApiServer
from bgpvpn.bagpipe.app import application
from bgpvpn.bagpipe.looking_glass import LookingGlass, Recent
from bgpvpn.bagpipe.request import Bridges
from tests.bgpvpn.bagpipe.asking import ATTACH, CONFIG, MAC, in_loop
from tests.fakes.node import FakeNode, FakeStore


class Node(FakeNode):
    """A node in memory, whose store has a number."""

    @property
    def identity(self) -> int:
        return self.store.identity()


def client(node: Node, *, at: str = "127.0.0.1", **headers: str) -> httpx.AsyncClient:
    """Return a client, which is `at` an address, of a server at 127.0.0.1."""
    app = application(node, LookingGlass(node, CONFIG, Recent()), Bridges())
    transport = httpx.ASGITransport(app=app, client=(at, 5), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8082", headers=headers)


async def refused(node: Node, body: Any, path: str = "/attach_localport") -> str:
    """Return why a request is refused."""
    async with client(node, accept="application/json") as api:
        answer = await api.post(path, json=body)
    assert answer.status_code == 400, answer.text
    assert list(answer.json()) == ["code", "title", "description"]
    assert (answer.json()["code"], answer.json()["title"]) == (400, "Bad Request")
    assert node.intent.tables["port"].rows == {}
    return str(answer.json()["description"])


@in_loop
async def test_attaching_and_detaching_are_answered_with_null() -> None:
    node = Node()
    async with client(node) as api:
        answer = await api.post("/attach_localport", json=ATTACH)
        assert (answer.status_code, answer.json()) == (200, None)
        assert len(node.intent.ports) == 1
        for _ in range(2):
            answer = await api.post("/detach_localport", json=ATTACH)
            assert (answer.status_code, answer.json()) == (200, None)
        assert len(node.intent.ports) == 0


@in_loop
async def test_the_body_is_JSON_whatever_it_says_that_it_is() -> None:
    node = Node()
    async with client(node) as api:
        for content_type in ("text/plain", "application/x-www-form-urlencoded", ""):
            headers = {"content-type": content_type} if content_type else {}
            answer = await api.post("/attach_localport", content=json.dumps(ATTACH), headers=headers)
            assert answer.status_code == 200


@in_loop
async def test_ping_is_a_bare_number_that_the_store_has() -> None:
    node = Node()
    async with client(node) as api:
        for answer in (await api.get("/ping"), await api.post("/ping")):
            assert answer.text == str(node.store.identity())


@in_loop
async def test_empty_places_are_empty_and_the_rest_is_not_there() -> None:
    async with client(Node()) as api:
        for path in ("/", "/attach_localport", "/detach_localport"):
            assert (await api.get(path)).json() == {}
        for method, path, status in [
            ("PUT", "/attach_localport", 405),
            ("DELETE", "/detach_localport", 405),
            ("POST", "/looking-glass/summary", 405),
            ("DELETE", "/ping", 405),
            ("GET", "/nothing", 404),
            ("GET", "/looking-glass/nothing", 404),
        ]:
            assert (await api.request(method, path)).status_code == status, (method, path)


@in_loop
async def test_an_error_has_the_form_that_the_client_accepts() -> None:
    for accept, media_type, begin in [
        ("application/json", "application/json", '{"code":400,"title":"Bad Request","description":"API error: missing'),
        ("*/*", "text/html; charset=utf-8", "<html><head><title>400 Bad Request</title>"),
        ("", "text/plain; charset=utf-8", "400 Bad Request\n\nAPI error: missing instance_type"),
    ]:
        async with client(Node(), accept=accept) as api:
            answer = await api.post("/attach_localport", json={})
            assert answer.headers["content-type"] == media_type
            assert answer.text.startswith(begin)
    async with client(Node(), accept="text/html") as api:
        answer = await api.post("/attach_localport", json={"vpn_type": "<script>"})
        assert "<script>" not in answer.text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vpn_type": "vpls"}, "API error: unknown vpn_type: vpls"),
        ({"vpn_type": None}, "API error: unknown vpn_type: None"),
        ({"vpn_instance_id": None}, "API error: Missing parameter: 'vpn_instance_id'"),
        ({"vpn_instance_id": "a/b"}, "API error: vpn_instance_id: takes no '/'"),
        ({"vpn_instance_id": ""}, "API error: vpn_instance_id: takes a name"),
        ({"mac_address": "fa:16"}, "API error: MAC address fa:16 is not valid"),
        ({"mac_address": 5}, "API error: MAC address 5 is not valid"),
        ({"mac_address": "01:00:5e:00:00:01"}, "API error: mac_address: .* is not the MAC address of one station"),
        ({"local_port": []}, r"API error: Mandatory key is missing in local_port parameter \(linuxif, or evpn\)"),
        ({"local_port": {"ovs": {}}}, "API error: Mandatory key is missing"),
        (
            {"local_port": {"linuxif": "patch2tun:31"}},
            "API error: local_port: .* is not the name of a network",
        ),
        ({"local_port": {"linuxif": "x", "ovs": 5}}, "API error: local_port: ovs takes an object"),
        ({"local_port": {"linuxif": "x", "ovs": {"port_number": 1, "vlan": 5000}}}, "API error: local_port: vlan"),
        ({"local_port": {"evpn": {}}}, "API error: local_port: evpn takes the id"),
        ({"import_rt": "a:b"}, "API error: import_rt: "),
        ({"export_rt": 5}, "API error: export_rt: takes a list of route targets, not 5"),
        ({"export_rt": ["64512:1", 7]}, "API error: export_rt: takes text, not 7"),
        ({"ip_address": "10.0.0"}, "API error: IP address 10.0.0 is not valid"),
        ({"ip_address": None}, "API error: Missing parameter: 'ip_address'"),
        ({"ip_address": 5}, "API error: IP address 5 is not valid"),
        ({"ip_address": "10.0.0.5/33"}, "API error: IP address 10.0.0.5/33 is not valid"),
        ({"ip_address": "10.0.0.0/24"}, "API error: IP address .* is that of a subnet, which advertise_subnet is for"),
        ({"gateway_ip": 5}, "API error: gateway_ip: "),
        ({"gateway_ip": "x"}, "API error: gateway_ip: 'x' is not an IP address"),
        ({"gateway_ip": "10.0.0.5"}, "API error: .*10.0.0.5 is the gateway"),
        ({"advertise_subnet": None}, "API error: advertise_subnet: takes true or false, not None"),
        ({"direction": "up"}, "API error: direction: takes both, to-port or from-port, not 'up'"),
        ({"local_pref": "100"}, "API error: local_pref: takes a number"),
        ({"vni": "1042"}, "API error: vni: takes a number from 0 to 16777215, not '1042'"),
        ({"vni": 1 << 24}, "API error: vni: takes a number"),
        ({"readvertise": {"from_rt": []}}, "API error: readvertise: takes from_rt and to_rt"),
        ({"attract_traffic": {"redirect_rts": ["1:1"]}}, "API error: attract_traffic: .* is not supported"),
        ({"fallback": {"src_mac": MAC}}, "API error: fallback: takes dst_mac"),
        ({"lb_consistent_hash_order": "x"}, "API error: lb_consistent_hash_order: takes a number"),
    ],
)
def test_what_is_wrong_is_refused_with_the_reason(change: dict[str, Any], words: str) -> None:
    assert re.match(words, asyncio.run(refused(Node(), ATTACH | change)))


@in_loop
async def test_fields_may_be_null_or_told_in_the_other_form() -> None:
    node = Node()
    for change in (
        {"gateway_ip": None, "readvertise": None, "attract_traffic": None, "fallback": None, "direction": None},
        {"vni": None, "local_pref": None, "description": {"port": "x"}, "lb_consistent_hash_order": None},
        {"vni": 0, "local_pref": 0, "attract_traffic": {}, "import_rt": "64512:1,64512:2, 64512:1,", "export_rt": ""},
        {"local_port": "tap1", "mac_address": "FA-16-3E-11-22-33", "ip_address": "10.0.0.5/32"},
        {"local_port": {"linuxif": "p:1", "ovs": {"plugged": True, "port_name": "patch", "vlan": "31"}}},
    ):
        async with client(node) as api:
            assert (await api.post("/attach_localport", json=ATTACH | change)).status_code == 200, change
    (port,) = node.intent.ports.rows.values()
    assert (port.mac_address, port.ip_addresses) == (MAC, ("10.0.0.5",))


@in_loop
async def test_a_body_that_is_no_JSON_or_no_object_is_refused() -> None:
    async with client(Node(), accept="application/json") as api:
        for body, words in [
            (b"", "No local port details received"),
            (b"{", "No local port details received"),
            (b"\xff\xfe", "No local port details received"),
            (b'"\\ud800"', ""),
            (b"[" * 100_000, "No local port details received"),
            (b"[]", "API error: the details of a local port are a JSON object"),
            (b"1e999", ""),
        ]:
            for path in ("/attach_localport", "/detach_localport"):
                answer = await api.post(path, content=body)
                assert answer.status_code == 400, (body[:20], answer.text)
                assert words in answer.json()["description"]


@in_loop
async def test_what_means_nothing_here_is_taken_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    node = Node()
    more = {"lb_consistent_hash_order": 3, "linuxbr": "brq1", "unknown": {"a": 1}, "description": {"port": "x"}}
    with caplog.at_level(logging.WARNING):
        async with client(node) as api:
            for _ in range(2):
                assert (await api.post("/attach_localport", json=ATTACH | more)).status_code == 200
    assert [record.getMessage() for record in caplog.records] == [
        "bagpipe=attach vpn=blue ignored=lb_consistent_hash_order,linuxbr"
    ]


@in_loop
async def test_a_store_that_refuses_is_503_and_nothing_is_changed() -> None:
    store = FakeStore()
    node = Node(store)
    store.refuses = "the disk is full"
    async with client(node) as api:
        assert (await api.post("/attach_localport", json=ATTACH)).status_code == 503
    assert len(node.intent.bgpvpns) == 0


@in_loop
async def test_only_who_is_on_this_node_attaches_and_no_browser() -> None:
    node = Node()
    cases: list[tuple[str, dict[str, str], int]] = [
        ("192.0.2.9", {}, 403),
        ("127.0.0.1", {"origin": "http://evil.example"}, 403),
        ("127.0.0.1", {"host": "evil.example:8082"}, 403),
        ("127.0.0.1", {"host": "localhost:8082"}, 200),
    ]
    for at, headers, status in cases:
        async with client(node, at=at, **headers) as api:
            assert (await api.post("/attach_localport", json=ATTACH)).status_code == status, (at, headers)
            looked = 403 if "evil" in headers.get("host", "") else 200  # a name that was made to lead to the loopback
            assert (await api.get("/looking-glass/summary")).status_code == looked
    ping = await _asked_at("192.0.2.1", "192.0.2.9", "pe1.example:8082", "GET", "/ping")
    assert ping == 200, "who looks from elsewhere calls the node by its name"


async def _asked_at(server: str, at: str, host: str, method: str, path: str) -> int:
    """Return the status of a request to a server that listens at an address of its machine."""
    inner = application(Node(), LookingGlass(Node(), CONFIG, Recent()), Bridges())

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await inner({**scope, "server": (server, 8082)}, receive, send)

    transport = httpx.ASGITransport(app=app, client=(at, 5))
    async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as api:
        return (await api.request(method, path)).status_code


@in_loop
async def test_the_log_tells_what_was_written_and_from_where(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "httpx")
    caplog.set_level(logging.INFO, "bgpvpn")
    async with client(Node()) as api:
        await api.post("/attach_localport", json=ATTACH)
        assert "bgpvpn made: id=bagpipe:blue name='blue' revision=1 caller='bagpipe 127.0.0.1'" in caplog.messages
        told = len(caplog.messages)
        await api.post("/attach_localport", json=ATTACH)
        assert len(caplog.messages) == told, "what is there already is not written again"


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
LIKELY = st.sampled_from(
    [
        *(None, "", 0, 1, -1, True, {}, [], 1 << 70, "x" * 300, "\x00", "\u2028"),
        *("10.0.0.5", "10.0.0.0/24", "0.0.0.0/0", "::/0", "fe80::1%eth0", "2001:db8::1/64", MAC),
        *("ipvpn", "evpn", "both", "to-port", "64512:1", ["64512:1"], "a,b"),
        *({"linuxif": "tap1"}, {"linuxif": None}, {"evpn": {"id": "e"}}, {"linuxif": "a", "ovs": {"port_number": "7"}}),
        *({"linuxif": "p:1", "vlan": 1}, {"from_rt": ["1:1"], "to_rt": "1:2"}, {"dst_mac": MAC, "ovs_port_number": 2}),
    ]
)
FIELDS = [
    *ATTACH,
    *("advertise_subnet", "readvertise", "attract_traffic", "fallback", "vni", "local_pref", "direction", "linuxbr"),
    *("lb_consistent_hash_order", "instance_description", "description"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/attach_localport", "/detach_localport"]),
            st.dictionaries(st.sampled_from(FIELDS), LIKELY | ANY_JSON, max_size=4).map(lambda more: ATTACH | more)
            | ANY_JSON,
        ),
        min_size=1,
        max_size=4,
    )
)
def test_no_input_is_a_fault_of_ours(asked: list[tuple[str, Any]]) -> None:
    async def run() -> None:
        async with client(Node(), accept="application/json") as api:
            for path, body in asked:
                answer = await api.post(path, json=body)
                assert answer.status_code in (200, 400), (path, body, answer.text)
            for path in ("/looking-glass/vpns/instances", "/looking-glass/vpns", "/looking-glass/bgp/workers"):
                assert (await api.get(path)).status_code == 200

    asyncio.run(run())


@contextlib.asynccontextmanager
async def listening(node: Node) -> AsyncIterator[tuple[str, int]]:
    """Serve a node at a port of the loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        at = probe.getsockname()
    server = ApiServer(application(node, LookingGlass(node, CONFIG, Recent()), Bridges()), path=None, tcp=at)
    await server.start()
    try:
        yield at
    finally:
        await server.stop()


@in_loop
async def test_clients_of_HTTP_1_0_are_served() -> None:
    node = Node()
    async with listening(node) as at:
        reader, writer = await asyncio.open_connection(*at)
        writer.write(b"GET /ping HTTP/1.0\r\n\r\n")
        answer = await reader.read()
        writer.close()
    assert answer.split(b"\r\n")[0].endswith(b"200 OK")
    assert answer.endswith(str(node.identity).encode())
