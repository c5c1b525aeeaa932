from __future__ import annotations

import asyncio
import contextlib
import grp
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bgpvpn.api.app import application
from bgpvpn.api.server import CONNECTIONS, ApiServer
from tests.bgpvpn.api.serving import client, eventually, in_loop, listening, ok, refused, served
from tests.fakes.node import FakeNode


def server_at(path: Path, **options: Any) -> ApiServer:
    return ApiServer(application(FakeNode()), path=path, **options)


@contextlib.asynccontextmanager
async def connected(path: Path) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


def names_in(folder: Path) -> list[str]:
    return sorted(each.name for each in folder.iterdir())


def error_in(octets: bytes) -> tuple[int, str]:
    """Return the status and the message of an answer that is an error."""
    head, _, body = octets.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["message"]


@in_loop
async def test_the_socket_has_the_permissions_and_the_group_that_were_asked_for(tmp_path: Path) -> None:
    group = grp.getgrall()[-1] if os.geteuid() == 0 else grp.getgrgid(os.getegid())
    for options, mode, gid in [
        ({}, 0o660, os.getegid()),
        ({"mode": 0o600, "group": group.gr_name}, 0o600, group.gr_gid),
    ]:
        async with listening(FakeNode(), tmp_path / "made" / "for it", **options) as path:
            there = path.stat()
            assert (stat.S_IMODE(there.st_mode), there.st_gid) == (mode, gid)
        assert names_in(path.parent) == [], "and it goes when the server stops"


@in_loop
async def test_a_group_that_does_not_exist_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    server = server_at(tmp_path / "api.sock", group="nosuchgroup")
    with pytest.raises(LookupError, match="nosuchgroup"):
        await server.start()
    assert names_in(tmp_path) == []


@in_loop
async def test_a_socket_of_a_dead_daemon_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "api.sock"))
    async with served(FakeNode(), tmp_path) as api:
        await ok(api.get("/v1/status"))


@in_loop
async def test_a_socket_on_which_somebody_listens_is_left_to_him(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        second = server_at(tmp_path / "api.sock")
        with pytest.raises(OSError, match=r"the API cannot listen on .*api.sock: another process listens there"):
            await second.start()
        await second.stop()
        await ok(api.get("/v1/status"))


@in_loop
async def test_what_is_not_a_socket_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "folder", "link"):
        server = server_at(tmp_path / name, tcp=("127.0.0.1", 0))
        with pytest.raises(OSError, match=rf"the API cannot listen on .*{name}: there is something that is not"):
            await server.start()
        await server.stop()
    assert (tmp_path / "file").read_text() == "precious"
    assert names_in(tmp_path) == ["file", "folder", "link"]


@in_loop
async def test_a_path_or_port_that_cannot_be_had_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"the API cannot listen on .*: AF_UNIX path too long"):
        await server_at(tmp_path / ("x" * 108)).start()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(
            OSError, match=rf"the API cannot listen on 127\.0\.0\.1 port {port}: Address already in use"
        ):
            await server_at(tmp_path / "api.sock", tcp=("127.0.0.1", port)).start()
    assert names_in(tmp_path) == []


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@in_loop
async def test_on_tcp_only_names_of_this_host_are_answered(tmp_path: Path, address: str) -> None:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as free:
        free.bind((address, 0))
        port = free.getsockname()[1]
    url = f"http://[{address}]:{port}" if ":" in address else f"http://{address}:{port}"
    async with listening(FakeNode(), tmp_path, tcp=(address, port)) as path:
        async with httpx.AsyncClient(base_url=url) as api:
            await ok(api.get("/v1/status"))
            await ok(api.post("/v1/networks", json={}), 201)
            for host in ("localhost", f"localhost:{port}", "127.0.0.1", "[::1]:80", "192.0.2.1", "LOCALHOST"):
                await ok(api.get("/v1/status", headers={"host": host}))
            for host in (
                "evil.example",
                "evil.example:80",
                "localhost.evil.example",
                "127.0.0.1.evil.example",
                "",
                "[",
            ):
                error = await refused(api.get("/v1/status", headers={"host": host}), 403)
                assert (error["what"], error["where"], error["value"]) == ("forbidden", "host", host)
            await refused(api.delete("/v1/networks/x", headers={"host": "evil.example"}), 403)
        async with client(path) as api:
            for host in ("node", "evil.example", "["):
                await ok(api.get("/v1/status", headers={"host": host}))


@in_loop
async def test_what_is_not_http_or_has_a_head_without_end_is_refused(tmp_path: Path) -> None:
    begun = b"POST /v1/networks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    async with listening(FakeNode(), tmp_path) as path:
        for octets in (
            b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
            b"GET /v1/status HTTP/1.1\r\n\r\n",  # without Host
            b"GET / HTTP/1.1\r\nhost: x\r\nx-long: " + b"x" * 100_000,
            b"GET /" + b"x" * 100_000,
            begun + b"transfer-encoding: chunked\r\n\r\nzz\r\n",
        ):
            async with connected(path) as (reader, writer):
                writer.write(octets)
                assert error_in(await reader.read()) == (
                    400,
                    "this is not HTTP/1.1, or its head is above 65536 octets",
                )


@in_loop
async def test_clients_that_do_not_say_what_they_want_are_let_go(tmp_path: Path) -> None:
    asked = b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n"
    async with listening(FakeNode(), tmp_path, idle_s=1) as path, contextlib.AsyncExitStack() as stack:
        silent, dribbling, idle, half = [await stack.enter_async_context(connected(path)) for _ in range(4)]
        dribbling[1].write(asked[:20])
        idle[1].write(asked)
        half[1].write(asked + asked[:20])
        for (reader, _), answers in ((silent, 0), (dribbling, 0), (idle, 1), (half, 1)):
            octets = b""
            with contextlib.suppress(ConnectionResetError):
                while part := await reader.read(1 << 16):
                    octets += part
            assert octets.count(b"HTTP/1.1 200") == answers


@in_loop
async def test_clients_are_bounded_and_one_that_leaves_makes_room(tmp_path: Path) -> None:
    async with listening(FakeNode(), tmp_path) as path, contextlib.AsyncExitStack() as stack:
        async with connected(path):
            for _ in range(CONNECTIONS - 1):
                await stack.enter_async_context(connected(path))
            async with connected(path) as (reader, writer):
                writer.write(b"GET /v1/status HTTP/1.1\r\nhost: x\r\n\r\n")
                assert error_in(await reader.read()) == (503, "256 clients are there already")

        async def there_is_room() -> bool:
            async with client(path) as api:
                return (await api.get("/v1/status")).status_code == 200

        await eventually(there_is_room)


@in_loop
async def test_a_stop_ends_streams_in_good_order(tmp_path: Path) -> None:
    server = server_at(tmp_path / "api.sock")
    await server.start()
    async with client(tmp_path / "api.sock") as api, contextlib.AsyncExitStack() as stack:
        streams = [await stack.enter_async_context(api.stream("GET", "/v1/events")) for _ in range(5)]
        await server.stop()
        for each in streams:
            assert await each.aread() == b": events of this node\n\n"
        with pytest.raises(httpx.ConnectError):
            await api.get("/v1/status")
    await server.stop()


@in_loop
async def test_a_stop_does_not_wait_for_clients_that_hang(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    node = FakeNode()
    server = ApiServer(application(node), path=tmp_path / "api.sock")
    await server.start()
    async with contextlib.AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(connected(tmp_path / "api.sock")) for _ in range(4)]
        _, (_, uploading), (watching, watcher), (_, dribbling) = clients
        uploading.write(b"POST /v1/networks HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n")
        uploading.write(b"content-length: 1000\r\n\r\n{")
        dribbling.write(b"GET /v1/st")
        watcher.write(b"GET /v1/events HTTP/1.1\r\nhost: x\r\n\r\n")
        await watching.readuntil(b"events of this node")
        for _ in range(200):  # of 10 KB, of which nothing is read
            node.tell({"type": "tick", "text": "x" * 10_000})
            await asyncio.sleep(0)
        await server.stop()
    assert node.watchers == []
    assert len(node.intent.networks) == 0
    assert [record.getMessage() for record in caplog.records if record.levelname in ("WARNING", "ERROR")] == []
