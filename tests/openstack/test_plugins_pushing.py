"""How Neutron's plug-ins bring nodes up to what is wanted, with real daemons and without Neutron."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from bgpvpn.openstack.client import NodeApi, RefusedError, UnreachableError
from bgpvpn.openstack.pushing import Body, Pushing
from tests.openstack.daemon import ADDRESS, Daemon, until

LONG_S = 3600.0


def networks(*names: str) -> Body:
    return {"networks": [{"id": f"o.{name}"} for name in names]}


def there(daemon: Daemon) -> set[str]:
    return {each["id"] for each in daemon.get("/v1/networks")}


def has(daemon: Daemon, *names: str) -> bool:
    return there(daemon) == {f"o.{name}" for name in names}


def writes(daemon: Daemon) -> int:
    """How often the owner has written."""
    return int(daemon.get("/v1/intent?owner=o")["serial"].rpartition("-")[2])


@contextlib.contextmanager
def pushing(wanted: Callable[[str, float], Body], interval_s: float = LONG_S, **nodes: NodeApi) -> Iterator[Pushing]:
    threads = Pushing("o", nodes, wanted, interval_s)
    try:
        yield threads
    finally:
        threads.stop()


def test_a_node_is_asked_by_its_socket_and_its_port_and_errors_say_what_is_wrong(daemon: Daemon) -> None:
    for api in (NodeApi(daemon.url), NodeApi(f"unix:{daemon.socket}")):
        made = api.ask("POST", "/v1/networks", {"name": "blue"})
        assert made["name"] == "blue"
        assert api.ask("DELETE", f"/v1/networks/{made['id']}") is None
        with pytest.raises(RefusedError, match="there is no network 'blue'") as refused:
            api.ask("GET", "/v1/networks/blue")
        assert (refused.value.status, refused.value.where) == (404, "path")
    daemon.stop()
    for api in (NodeApi(daemon.url), NodeApi(f"unix:{daemon.socket}")):
        with pytest.raises(UnreachableError, match="refused"):
            api.ask("GET", "/v1/networks")
    daemon.start()
    for url in ("", "unix:relative", "ftp://192.0.2.1", "http://", "192.0.2.1:8179", "http://192.0.2.1/v1"):
        with pytest.raises(ValueError, match=r"neither|absolute"):
            NodeApi(url)


def test_a_token_is_shown_and_answers_that_are_none_are_errors() -> None:
    tokens: list[str | None] = []

    class Odd(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            tokens.append(self.headers["Authorization"])
            if self.path == "/html":
                self.send_response(502)
                self.end_headers()
                self.wfile.write(b"<html>a proxy's page</html>")
            elif self.path == "/noise":
                self.wfile.write(b"noise\r\n\r\n")
            else:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"[1]")

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer((ADDRESS, 0), Odd)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://{ADDRESS}:{server.server_port}"
    try:
        assert NodeApi(url, "secret").ask("GET", "/") == [1]
        assert NodeApi(url).ask("GET", "/") == [1]
        assert tokens == ["Bearer secret", None]
        with pytest.raises(RefusedError, match="502"):
            NodeApi(url).ask("GET", "/html")
        with pytest.raises(UnreachableError):
            NodeApi(url).ask("GET", "/noise")
    finally:
        server.shutdown()
        server.server_close()


def test_many_changes_at_once_are_one_push_and_what_is_the_same_is_none(daemon: Daemon) -> None:
    names = ["a"]
    with pushing(lambda *_: networks(*names), node=NodeApi(daemon.url)) as threads:
        threads.start()
        until(partial(has, daemon, "a"), "it is pushed")
        names.append("b")
        for _ in range(100):
            threads.soon()
        until(partial(has, daemon, "a", "b"), "the change is pushed")
        assert writes(daemon) == 2
        looked: list[float] = []
        names.pop()
        names.append("b")
        threads.soon()
        until(lambda: looked.append(0) or len(looked) > 20, "it looks")  # type: ignore[func-returns-value]
        assert writes(daemon) == 2


def test_what_another_process_pushed_since_is_not_undone(daemon: Daemon) -> None:
    other = NodeApi(daemon.url)
    asked: list[str] = []

    def wanted(_node: str, _since: float) -> Body:
        """Return what is old by the time that it is pushed; the next time it is not."""
        asked.append("")
        if len(asked) == 1:
            other.ask("PUT", "/v1/intent", {"owner": "o", **networks("new")})
            return networks("old")
        return networks("new")

    with pushing(wanted, node=NodeApi(f"unix:{daemon.socket}")) as threads:
        threads.start()
        until(lambda: writes(daemon) == 2, "it is pushed anew")
        assert there(daemon) == {"o.new"}
        assert daemon.get("/v1/networks/o.new")["revision"] == 1
    assert "o.old" not in daemon.log()


def test_a_node_that_does_not_answer_holds_up_no_other_nor_who_changes_something(daemon: Daemon) -> None:
    with socket.socket() as silent:
        silent.bind((ADDRESS, 0))
        silent.listen()
        url = f"http://{ADDRESS}:{silent.getsockname()[1]}"
        with pushing(lambda *_: networks("a"), silent=NodeApi(url, timeout_s=30), node=NodeApi(daemon.url)) as threads:
            before = time.monotonic()
            threads.soon()
            assert time.monotonic() - before < 5
            until(partial(has, daemon, "a"), "the other is pushed to", within_s=15)


def test_a_fault_in_finding_out_what_is_wanted_is_logged_and_tried_again(
    daemon: Daemon, caplog: pytest.LogCaptureFixture
) -> None:
    faults = ["the database is away", "the database is away"]

    def wanted(*_: Any) -> Body:
        if faults:
            raise RuntimeError(faults.pop())
        return networks("a")

    with caplog.at_level(logging.INFO), pushing(wanted, node=NodeApi(daemon.url)) as threads:
        threads.soon()
        until(partial(has, daemon, "a"), "it is pushed after all")
        until(lambda: "answers again after 2 failures" in caplog.text, "the log tells")
    assert caplog.text.count("the database is away") == 2, "once in the line and once in its traceback"


def test_processes_take_turns_in_comparing_a_node_that_nobody_changes(daemon: Daemon) -> None:
    interval_s, api = 1.0, NodeApi(daemon.url)
    with (
        pushing(lambda *_: networks("a"), interval_s, node=api) as one,
        pushing(lambda *_: networks("a"), interval_s, node=api) as other,
    ):
        one.start()
        other.start()
        until(lambda: writes(daemon) >= 2, "both have pushed once")
        began, at_first = time.monotonic(), writes(daemon)
        until(lambda: writes(daemon) >= at_first + 3, "it is compared thrice")
        assert time.monotonic() - began > 1.8 * interval_s, "and not twice in each interval"


def test_a_process_that_was_forked_pushes_by_itself(daemon: Daemon) -> None:
    names = ["a"]
    with pushing(lambda *_: networks(*names), node=NodeApi(daemon.url)) as threads:
        threads.start()
        until(partial(has, daemon, "a"), "the parent pushes")
        child = os.fork()
        if child == 0:
            try:
                names.append("b")
                threads.soon()
                until(partial(has, daemon, "a", "b"), "the child pushes")
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert status == 0
        assert has(daemon, "a", "b")
