"""Who calls, and what the API is to whom: by the unix socket, by TCP, and to operators and owners."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bgpvpn.api.callers import Callers
from bgpvpn.config import ClientConfig
from bgpvpn.objects import (
    CLASSES,
    Advertisement,
    Association,
    Bgpvpn,
    Network,
    Object,
    Peer,
    Policy,
    Port,
    Speaker,
    Subnet,
    plural,
)
from tests.bgpvpn.api.serving import client, in_loop, listening, ok, refused
from tests.fakes.node import FakeNode

SECRETS = ("theirs", "64512:7", "66007", "10.77.")
"""Words of what is another's, and of what VPNs are made of."""

HIDDEN_REASON = "it is with the node, whose operators see why"


def token(text: str, role: str = "operator", project: str = "") -> ClientConfig:
    digest = hashlib.sha256(text.encode()).digest()
    return ClientConfig(token_file=f"tokens/{text}", role=role, project=project, digest=digest)


CLIENTS = (token("root-token"), token("alice-token", "owner", "mine"), token("bob-token", "owner", "theirs"))


def node_of_two() -> FakeNode:
    """Return a node on which two tenants have the same, and the operator something."""
    node = FakeNode()
    for number, project in ((6, "mine"), (7, "theirs")):
        wishes: list[Object] = [
            Network(id=f"{project}-n", name=f"{project}-net", project_id=project),
            Subnet(
                id=f"{project}-s", network_id=f"{project}-n", cidr=f"10.{number}{number}.0.0/24", project_id=project
            ),
            Port(
                id=f"{project}-p",
                name=f"{project}-port",
                network_id=f"{project}-n",
                mac_address="02:00:00:00:00:01",
                project_id=project,
            ),
            Bgpvpn(id=f"{project}-v", name=f"{project}-vpn", project_id=project, route_targets=(f"64512:{number}",)),
            Bgpvpn(id=f"{project}-l", project_id=project, type="l2", vni=66000 + number),
            Association(id=f"{project}-a", bgpvpn_id=f"{project}-v", network_id=f"{project}-n"),
        ]
        node.write(wishes)
    node.write([Network(id="outside", external=True, project_id="operator")])
    node.write([Subnet(id="outside-s", network_id="outside", cidr="198.51.100.0/24", project_id="operator")])
    node.write(
        [
            Policy(id="policy", name="policy"),
            Peer(id="peer", address="192.0.2.1", remote_as=64512, families=("ipv4",)),
            Speaker(id="speaker", project_id="mine", local_as=64512),
            Advertisement(id="ad", speaker_id="speaker", destination="203.0.113.0/24", next_hop="198.51.100.1"),
        ]
    )
    return node


@contextlib.asynccontextmanager
async def as_alice(node: FakeNode, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Serve a node, and give a client of the owner of the project `mine`."""
    async with listening(node, folder, Callers(CLIENTS)) as path, client(path) as api:
        api.headers["authorization"] = "Bearer alice-token"
        yield api


# Who calls


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@in_loop
async def test_on_TCP_with_clients_a_token_is_wanted(tmp_path: Path) -> None:
    at = ("127.0.0.1", free_port())
    async with (
        listening(node_of_two(), tmp_path, Callers(CLIENTS), tcp=at),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{at[1]}") as api,
    ):
        for headers in (
            {"authorization": "Bearer root-token"},
            {"authorization": "bearer  root-token"},
            {"x-auth-token": "root-token"},
            {"x-auth-token": "root-token", "authorization": "Basic cm9vdDp4"},
            {"authorization": "Bearer root-token", "host": "proxy.example"},
        ):
            await ok(api.get("/v1/status", headers=headers))
        for headers in (
            {},
            {"authorization": "Bearer"},
            {"authorization": "Bearer wrong-token"},
            {"authorization": "Bearer root-token2"},
            {"authorization": "Bearer root-toke"},
            {"authorization": "root-token"},
            {"authorization": "Bearer wrong-token", "x-auth-token": "root-token"},
            {"x-auth-token": ""},
            {"cookie": "token=root-token"},
        ):
            for path in ("/v1/status", "/openapi.json", "/v2.0/networks", "/v2.0/", "/nosuch"):
                response = await api.get(path, headers=headers)
                assert response.status_code == 401, (headers, path)
                assert response.headers["www-authenticate"] == "Bearer"
                assert response.json()["error"]["what"] == "unauthorized"
                assert "root-token" not in response.text
        for headers in ([("x-auth-token", "wrong"), ("x-auth-token", "root-token")],):
            assert (await api.get("/v1/status", headers=headers)).status_code == 401


@in_loop
async def test_clients_of_OpenStack_find_the_version_before_they_show_a_token(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    at = ("127.0.0.1", free_port())
    async with (
        listening(node_of_two(), tmp_path, Callers(CLIENTS), tcp=at),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{at[1]}") as api,
    ):
        for shown in ("", "wrong-token", "alice-token"):
            versions = (await ok(api.get("/", headers={"x-auth-token": shown})))["versions"]
            assert [each["id"] for each in versions] == ["v2.0"]
        assert "refused" not in caplog.text
        assert (await api.post("/", json={})).status_code == 401
    assert "refused=401" in caplog.text


@in_loop
async def test_without_clients_a_token_is_not_looked_at_and_everybody_is_an_operator(tmp_path: Path) -> None:
    at = ("127.0.0.1", free_port())
    async with listening(node_of_two(), tmp_path, tcp=at) as path:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{at[1]}") as api:
            await ok(api.get("/v1/status", headers={"x-auth-token": "anything"}))
        async with client(path) as api:
            await ok(api.get("/v1/status", headers={"x-auth-token": "anything"}))


AS_SOMEBODY = """
import http.client, os, socket, sys
path, uid, gid, *groups = sys.argv[1:]
if os.geteuid() == 0:
    os.setgroups([int(each) for each in groups])
    os.setgid(int(gid))
    os.setuid(int(uid))
connection = http.client.HTTPConnection("node")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect(path)
connection.request("GET", "/v1/networks")
answer = connection.getresponse()
print(answer.status, answer.read().decode())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@in_loop
async def test_on_the_unix_socket_the_kernel_says_who_calls() -> None:
    clients = (
        ClientConfig(user="carol", uid=60001, role="owner", project="mine"),
        ClientConfig(group="staff", gid=60010, role="operator"),
        ClientConfig(group="tenants", gid=60011, role="owner", project="theirs"),
    )
    everything = {"mine-n", "theirs-n", "outside"}
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chmod(folder, 0o755)
        async with listening(node_of_two(), Path(folder), Callers(clients, own_uid=60099), mode=0o666) as path:
            for uid, gid, groups, seen in (
                (60001, 60001, (), {"mine-n", "outside"}),
                (60001, 60010, (60011,), {"mine-n", "outside"}),  # the first that fits
                (60002, 60010, (), everything),
                (60002, 60002, (60005, 60010), everything),
                (60002, 60002, (*range(61000, 61200), 60011), {"theirs-n", "outside"}),
                (60002, 60011, (60010,), everything),
                (60099, 60002, (), everything),  # the daemon's own
                (0, 0, (), everything),
                (60002, 60002, (60005,), None),
                (60010, 60001, (60099,), None),  # numbers of users are none of groups
            ):
                words = [sys.executable, "-c", AS_SOMEBODY, str(path), str(uid), str(gid), *map(str, groups)]
                process = await asyncio.create_subprocess_exec(*words, stdout=subprocess.PIPE)
                said, _ = await process.communicate()
                status, _, text = said.decode().partition(" ")
                if seen is None:
                    assert status == "403"
                    message = json.loads(text)["error"]["message"]
                    assert message.startswith(f"uid {uid} has no role here")
                else:
                    assert status == "200", text
                    assert {each["id"] for each in json.loads(text)} == seen, (uid, gid, groups)


@in_loop
async def test_a_token_goes_before_the_process_on_the_unix_socket(tmp_path: Path) -> None:
    async with listening(node_of_two(), tmp_path, Callers(CLIENTS)) as path, client(path) as api:
        await ok(api.get("/v1/status"))  # the daemon's own user, or root
        await refused(api.get("/v1/status", headers={"x-auth-token": "alice-token"}), 403)
        await refused(api.get("/v1/status", headers={"x-auth-token": "wrong"}), 401)


@in_loop
async def test_each_request_of_a_connection_is_of_the_caller_that_its_token_says(tmp_path: Path) -> None:
    async with listening(node_of_two(), tmp_path, Callers(CLIENTS)) as path, client(path) as api:
        for _ in range(2):
            for who, first in (("alice", "mine-n"), ("bob", "theirs-n")):
                networks = await ok(api.get("/v1/networks", headers={"x-auth-token": f"{who}-token"}))
                assert [each["id"] for each in networks] == [first, "outside"]


# What an owner gets


@in_loop
async def test_an_owner_is_shown_its_own_only_and_not_what_a_VPN_is_made_of(tmp_path: Path) -> None:
    async with as_alice(node_of_two(), tmp_path) as api:
        for kind in CLASSES:
            answer = await api.get(f"/v1/{plural(kind)}")
            assert answer.status_code == (403 if kind in ("policy", "peer", "speaker", "advertisement") else 200), kind
            assert not [word for word in SECRETS if word in answer.text], kind
            assert "64512:6" not in answer.text
            assert "66006" not in answer.text
        vpn = await ok(api.get("/v1/bgpvpns/mine-vpn"))
        assert (vpn["route_targets"], vpn["vni"], vpn["name"]) == ([], None, "mine-vpn")
        assert [each["cidr"] for each in (await ok(api.get("/v1/networks/outside")))["subnets"]] == ["198.51.100.0/24"]
        for query in ("route_targets=64512:6", "vni=66006"):
            assert await ok(api.get(f"/v1/bgpvpns?{query}")) == [], query
        assert len(await ok(api.get("/v1/bgpvpns?route_targets="))) == 2


@in_loop
async def test_what_is_anothers_is_answered_as_what_is_not_there(tmp_path: Path) -> None:
    node = node_of_two()
    async with as_alice(node, tmp_path) as api:
        for kind in ("network", "subnet", "port", "bgpvpn", "association", "router", "floating_ip"):
            for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
                answers = []
                for ref in (f"theirs-{'v' if kind == 'bgpvpn' else kind[0]}", "theirs-net", "theirs-x"):
                    error = await refused(api.request(method, f"/v1/{plural(kind)}/{ref}", json=body), 404)
                    answers.append(json.dumps(error).replace(ref, "REF"))
                assert len(set(answers)) == 1
        for path, body, field in (
            ("ports", {"network_id": "REF", "mac_address": "02:00:00:00:00:02"}, "network_id"),
            ("subnets", {"network_id": "REF", "cidr": "10.77.0.0/24"}, "network_id"),
            ("routers", {"subnet_ids": ["REF"]}, "subnet_ids"),
            ("associations", {"bgpvpn_id": "REF", "network_id": "mine-n"}, "bgpvpn_id"),
            ("associations", {"bgpvpn_id": "mine-l", "port_id": "REF"}, "port_id"),
            (
                "associations",
                {"bgpvpn_id": "mine-v", "port_id": "mine-p", "routes": [{"type": "bgpvpn", "bgpvpn_id": "REF"}]},
                "routes",
            ),
            ("floating_ips", {"network_id": "outside", "address": "198.51.100.7", "port_id": "REF"}, "port_id"),
        ):
            answers = []
            for ref in ("theirs-n", "theirs-net", "theirs-s", "theirs-v", "theirs-vpn", "theirs-p", "theirs-x"):
                asked = json.loads(json.dumps(body).replace("REF", ref))
                error = await refused(api.post(f"/v1/{path}", json=asked), 400)
                assert error["where"] == field
                answers.append(json.dumps(error).replace(ref, "REF"))
            assert len(set(answers)) == 1, answers
        for path in ("bgpvpns/theirs-v/associations", "explain?port=theirs-port", "explain?port=theirs-p"):
            await refused(api.get(f"/v1/{path}"), 404)
        await refused(api.post("/v1/bgpvpns/theirs-vpn/associations", json={"network_id": "mine-n"}), 404)


@in_loop
async def test_an_owner_makes_changes_and_removes_its_own(tmp_path: Path) -> None:
    node = node_of_two()
    async with as_alice(node, tmp_path) as api:
        made = await ok(api.post("/v1/networks", json={"name": "web", "subnets": [{"cidr": "10.1.0.0/24"}]}), 201)
        assert made["project_id"] == "mine"
        port = {"name": "web1", "network_id": "web", "mac_address": "02:00:00:00:00:02", "ip_addresses": ["10.1.0.5"]}
        web1 = await ok(api.post("/v1/ports", json=port), 201)
        assert (web1["project_id"], web1["interface"]) == ("mine", f"tap{web1['id'][:11]}")
        await ok(api.post("/v1/bgpvpns/mine-vpn/associations", json={"port_id": "web1"}), 201)
        assert (await ok(api.patch("/v1/bgpvpns/mine-vpn", json={"local_pref": 7})))["route_targets"] == []
        assert node.intent.bgpvpns["mine-v"].route_targets == ("64512:6",), "what is not shown stays"
        floating = {"network_id": "outside", "address": "198.51.100.7", "port_id": "web1"}
        await ok(api.post("/v1/floating_ips", json=floating), 201)
        await ok(api.delete(f"/v1/ports/{web1['id']}"), 204)
        assert (await ok(api.get("/v1/floating_ips")))[0]["port_id"] is None


@in_loop
async def test_what_is_for_operators_is_refused_with_the_role_and_what_is_wanted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    node = node_of_two()
    async with as_alice(node, tmp_path) as api:
        paths = (await ok(api.get("/openapi.json")))["paths"]
        before = {kind: dict(table.rows) for kind, table in node.intent.tables.items()}
        for path, methods in paths.items():
            for method, operation in methods.items():
                if "(operators)" in operation["summary"]:
                    asked = path.replace("{ref}", "peer")
                    error = await refused(api.request(method, asked, json={} if method != "get" else None), 403)
                    message = f"{method.upper()} {path} is for operators; token alice-token, owner of project 'mine'"
                    assert (error["what"], error["where"], error["message"]) == ("forbidden", "role", message)
                    assert not [word for word in SECRETS if word in str(error)]
        for method, path, body, where in (
            ("POST", "networks", {"id": "mine-x"}, "id"),
            ("POST", "networks", {"id": "theirs-n"}, "id"),
            ("POST", "networks", {"project_id": "theirs"}, "id"),
            ("POST", "networks", {"external": True}, "external"),
            ("POST", "ports", {"mac_address": "02:00:00:00:00:02", "interface": "taptheirs-p"}, "interface"),
            ("PATCH", "ports/mine-p", {"interface": "tap0"}, "interface"),
            ("PATCH", "bgpvpns/mine-v", {"route_targets": ["64512:6"]}, "route_targets"),
            ("PATCH", "bgpvpns/mine-v", {"vni": None}, "vni"),
            ("DELETE", "bgpvpns/mine-v", None, "id"),
            ("PATCH", "networks/outside", {"name": "x"}, "id"),
            ("DELETE", "networks/outside", None, "id"),
            ("GET", "explain?prefix=10.77.0.0/24", None, "role"),
        ):
            error = await refused(api.request(method, f"/v1/{path}", json=body), 403)
            assert error["where"] == where, path
            assert "token alice-token, owner of project 'mine'" in error["message"]
        assert {kind: dict(table.rows) for kind, table in node.intent.tables.items()} == before
    lines = [record.getMessage() for record in caplog.records if "refused=403" in record.getMessage()]
    assert "refused=403 caller=\"token alice-token, owner of project 'mine'\" request='GET /v1/explain'" in lines


@in_loop
async def test_a_project_of_an_owner_cannot_be_changed_nor_its_objects_given_away(tmp_path: Path) -> None:
    async with as_alice(node_of_two(), tmp_path) as api:
        for path in ("networks/mine-n", "ports/mine-p", "subnets/mine-s"):
            assert (await api.patch(f"/v1/{path}", json={"project_id": "theirs"})).status_code in (400, 403)
        error = await refused(api.patch("/v1/bgpvpns/mine-v", json={"project_id": "theirs"}), 403)
        assert error["where"] == "project_id"
        error = await refused(api.patch("/v1/associations/mine-a", json={"bgpvpn_id": "theirs-v"}), 400)
        assert error["message"] == "bgpvpn_id: there is no bgpvpn 'theirs-v'"


@in_loop
async def test_an_owner_is_told_what_became_of_its_port_but_not_by_what(tmp_path: Path) -> None:
    node = node_of_two()
    whole = {
        "port": "mine-port",
        "id": "mine-p",
        "verdict": "it has no address; its MAC 02:00:00:00:00:01 lives behind VTEP 192.0.2.9 now",
        "segment": "mine-net",
        "vpns": [{"vpn": "mine-vpn", "type": "l3", "because": ["network association mine-a"]}],
        "objects": [{"object": "vxlan 66006", "state": "active", "reason": ""}],
        "own": [
            {
                "family": "vpnv4",
                "nlri": "192.0.2.1:1 10.66.0.5/32",
                "announced": False,
                "waits_for": [{"object": "vxlan 66006", "state": "pending", "reason": "vxlan 66006 is busy"}],
                "told_to": ["192.0.2.1"],
                "not_told_to": [],
                "route_targets": ["64512:6"],
                "next_hop": "192.0.2.1",
                "label": 16000,
            },
            {"family": "evpn", "nlri": "type 3 192.0.2.1:1 192.0.2.1", "announced": True, "waits_for": []},
        ],
        "something_new": "64512:6",
    }
    node.explained["mine-p"] = whole
    async with as_alice(node, tmp_path) as api:
        assert await ok(api.get("/v1/explain?port=mine-port")) == {
            **{name: whole[name] for name in ("port", "id", "segment", "vpns")},
            "verdict": f"it has no address; {HIDDEN_REASON}",
            "objects": [{"object": "vxlan", "state": "active", "reason": ""}],
            "own": [
                {
                    "family": "vpnv4",
                    "nlri": "10.66.0.5/32",
                    "announced": False,
                    "waits_for": [{"object": "vxlan", "state": "pending", "reason": HIDDEN_REASON}],
                },
                {"family": "evpn", "nlri": "evpn", "announced": True, "waits_for": []},
            ],
        }
        assert await ok(api.get("/v1/explain?port=mine-p", headers={"authorization": "Bearer root-token"})) == whole


@in_loop
async def test_why_an_object_is_as_it_is_is_told_without_what_the_node_made(tmp_path: Path) -> None:
    node = node_of_two()
    for id_, reason, told in (
        ("mine-p", "vxlan 66006 is about to be made", HIDDEN_REASON),
        ("mine-n", "VNI 66007 is wanted by vxlan mine-n, but vrf theirs-n has it", HIDDEN_REASON),
        ("mine-n", "speaker s: peer 192.0.2.9: idle", HIDDEN_REASON),
        ("mine-s", "there is no interface tapmine-p", "there is no interface tapmine-p"),
    ):
        kind = {"p": "port", "n": "network", "s": "subnet"}[id_[-1]]
        node.statuses[kind, id_] = {"state": "PENDING", "reason": reason, "observed_revision": 1}  # type: ignore[index]
        async with as_alice(node, tmp_path) as api:
            assert (await ok(api.get(f"/v1/{kind}s/{id_}")))["status"]["reason"] == told
            assert (await ok(api.get(f"/v2.0/{kind}s/{id_}")))[kind]["reason"] == told
            operator = {"authorization": "Bearer root-token"}
            assert (await ok(api.get(f"/v1/{kind}s/{id_}", headers=operator)))["status"]["reason"] == reason


@in_loop
async def test_an_owner_watches_its_own_only(tmp_path: Path) -> None:
    node = node_of_two()
    async with as_alice(node, tmp_path) as api, api.stream("GET", "/v1/events") as response:
        lines = response.aiter_lines()
        assert await anext(lines) == ": events of this node"
        operator = {"authorization": "Bearer root-token"}
        await ok(api.patch("/v1/networks/theirs-n", json={"name": "x"}, headers=operator))
        node.tell({"type": "kernel", "object": "vrf theirs", "state": "active", "reason": ""})
        node.tell({"type": "session", "peer": "192.0.2.1", "state": "idle"})
        node.tell({"type": "something new", "text": "theirs"})
        await ok(api.delete("/v1/associations/theirs-a", headers=operator), 204)
        await ok(api.patch("/v1/peers/peer", json={"hold_time_s": 30}, headers=operator))
        await ok(api.post("/v1/networks", json={"id": "made", "project_id": "mine"}, headers=operator), 201)
        await ok(api.delete("/v1/networks/made", headers=operator), 204)
        await ok(api.delete("/v1/associations/mine-a"), 204)
        await ok(api.patch("/v1/networks/outside", json={"external": True, "name": "o"}, headers=operator))
        events: list[dict[str, Any]] = []
        async for line in lines:
            assert not [word for word in SECRETS if word in line]
            if line.startswith("data: "):
                events.append(json.loads(line[6:]))
            if len(events) == 4:
                break
        assert [(event["type"], event["id"]) for event in events] == [
            ("changed", "made"),
            ("removed", "made"),
            ("removed", "mine-a"),
            ("changed", "outside"),
        ]


@in_loop
async def test_every_change_is_in_the_log_with_who_made_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "bgpvpn.api.writing")
    async with as_alice(node_of_two(), tmp_path) as api:
        made = await ok(api.post("/v1/networks", json={"name": "web"}), 201)
        await ok(api.patch("/v1/networks/web", json={"mtu": 1400}))
        await ok(api.delete("/v1/networks/web"), 204)
        await ok(api.post("/v2.0/networks", json={"network": {"name": "of neutron"}}), 201)
    lines = [record.getMessage() for record in caplog.records if record.name == "bgpvpn.api.writing"]
    assert lines[:3] == [
        f"network made: id={made['id']} name='web' revision=1 caller='token alice-token'",
        f"network changed: id={made['id']} name='web' revision=2 caller='token alice-token'",
        f"network removed: id={made['id']} caller='token alice-token'",
    ]
    assert lines[3].endswith("name='of neutron' revision=1 caller='token alice-token'")


@in_loop
async def test_neutrons_api_shows_an_owner_no_more(tmp_path: Path) -> None:
    node = node_of_two()
    async with as_alice(node, tmp_path) as api:
        for path in ("networks", "subnets", "ports", "routers", "floatingips", "bgpvpn/bgpvpns"):
            answer = await api.get(f"/v2.0/{path}")
            assert answer.status_code == 200, path
            assert not [word for word in (*SECRETS, "64512:6", "66006") if word in answer.text], path
        for path in ("bgp-speakers", "bgp-peers", "agents"):
            answer = await api.get(f"/v2.0/{path}")
            assert (answer.status_code in (403, 200), "192.0.2.1" in answer.text) == (True, False), path
        for path in ("networks/theirs-n", "ports/theirs-p", "bgpvpn/bgpvpns/theirs-v", "bgp-peers/peer"):
            for method in ("GET", "DELETE"):
                assert (await api.request(method, f"/v2.0/{path}")).status_code in (403, 404), path
        answer = await api.put("/v2.0/bgpvpn/bgpvpns/mine-v", json={"bgpvpn": {"route_targets": ["64512:6"]}})
        assert answer.status_code == 403
    assert node.intent.networks.get("theirs-n") is not None
