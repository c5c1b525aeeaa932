"""Ports that clients of bagpipe-bgp attach without the lengths of their subnets, on two nodes: packets pass."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.namespaces import answers, inside, namespaces, sh, within

LIMIT_S = 60.0
NODES = ("bagpipe-1", "bagpipe-2")
TENANTS = {  # name: node, address, gateway, VPN instance
    "bagpipe-a": (1, "10.0.0.5", "10.0.0.1", "ipvpn_net"),
    "bagpipe-b": (2, "10.0.0.7", "10.0.0.1", "ipvpn_net"),
    "bagpipe-c": (2, "10.1.0.5", "10.1.0.1", "ipvpn_other"),
    "bagpipe-d": (2, "10.0.0.8", "10.0.0.1", "ipvpn_net"),
}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[None]:
    """Two nodes that are peers of each other, with a daemon each, and tenants behind tap interfaces."""
    with namespaces(*NODES, *TENANTS), contextlib.ExitStack() as stack:
        sh(f"ip link add core netns {NODES[0]} type veth peer name core netns {NODES[1]}")
        for at, node in enumerate(NODES, start=1):
            within(node, f"address add 192.0.2.{at}/24 dev core", "link set core up")
        for at, (tenant, (where, address, gateway, _)) in enumerate(TENANTS.items(), start=1):
            mac = f"02:00:00:00:01:0{at}"
            within(NODES[where - 1], f"link add tap{at} type veth peer name eth0 netns {tenant} address {mac}")
            within(tenant, "link set eth0 up", f"address add {address}/24 dev eth0", f"route add default via {gateway}")
        processes = [stack.enter_context(_daemon(tmp_path, at)) for at in (1, 2)]
        for at, process in enumerate(processes, start=1):
            _until(lambda at=at: _ask(at, "GET", "/ping"), f"daemon {at} answers", process)  # type: ignore[misc]
        yield
        assert [process.poll() for process in processes] == [None, None]


@contextlib.contextmanager
def _daemon(folder: Path, at: int) -> Iterator[subprocess.Popen[bytes]]:
    conf, paths = folder / f"bgp{at}.conf", folder / f"paths{at}.toml"
    conf.write_text(
        f"[BGP]\nlocal_address=core\npeers=192.0.2.{3 - at}\nmy_as=64512\n"
        "[DATAPLANE_DRIVER_IPVPN]\ndataplane_driver=linux\n[DATAPLANE_DRIVER_EVPN]\ndataplane_driver=linux\n"
    )
    listen = '[bgp]\nlisten = ["0.0.0.0"]\n' if at == 1 else ""
    paths.write_text(f'{listen}[store]\npath = "{folder}/{at}/intent.db"\n[api]\nsocket = "{folder}/{at}/api.sock"\n')
    words = [sys.executable, "-m", "bgpvpn.daemon", "--bagpipe-config", str(conf), "--config", str(paths)]
    with (folder / f"log{at}").open("wb") as log:
        process = subprocess.Popen(["ip", "netns", "exec", NODES[at - 1], *words], stderr=log)
    try:
        yield process
    except BaseException:
        print(f"daemon {at}:", (folder / f"log{at}").read_text()[-4000:], file=sys.stderr)
        raise
    finally:
        process.kill()
        process.wait()


def _ask(at: int, method: str, path: str, body: object = None) -> Any:
    """Ask a daemon as a client in its namespace does; None: nobody answers."""
    with inside(NODES[at - 1]):
        connection = http.client.HTTPConnection("127.0.0.1", 8082, timeout=LIMIT_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            answer = connection.getresponse()
            text = answer.read()
        except ConnectionRefusedError:
            return None
        finally:
            connection.close()
    assert answer.status == 200, text
    return json.loads(text)


def _until(fact: Callable[[], object], words: str, process: subprocess.Popen[bytes] | None = None) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not fact():
        assert process is None or process.poll() is None, f"ended with {process.returncode}"
        assert time.monotonic() < deadline, f"after {LIMIT_S:g} s it is not so: {words}"
        time.sleep(0.1)


def _attachment(at: int, tenant: str) -> dict[str, Any]:
    _, address, gateway, instance = TENANTS[tenant]
    return {
        "vpn_type": "ipvpn",
        "vpn_instance_id": instance,
        "mac_address": f"02:00:00:00:01:0{at}",
        "ip_address": address,
        "gateway_ip": gateway,
        "local_port": {"linuxif": f"tap{at}"},
        "import_rt": ["64512:1"],
        "export_rt": ["64512:1"],
    }


@pytest.mark.usefixtures("nodes")
def test_stations_reach_their_gateway_and_each_other_on_both_nodes_also_within_one_subnet() -> None:
    for at, (tenant, (node, *_)) in enumerate(TENANTS.items(), start=1):
        _ask(node, "POST", "/attach_localport", _attachment(at, tenant))
    with inside("bagpipe-a"):
        for address in ("10.0.0.1", "10.1.0.5", "10.0.0.7", "10.0.0.8"):
            _until(lambda address=address: answers(address), f"a reaches {address}")  # type: ignore[misc]
    with inside("bagpipe-b"):
        assert answers("10.0.0.8")
        assert answers("10.1.0.5")
    _ask(2, "POST", "/detach_localport", _attachment(2, "bagpipe-b"))
    with inside("bagpipe-a"):
        _until(lambda: not answers("10.0.0.7"), "the detached station is not reached")
        assert answers("10.0.0.8")
