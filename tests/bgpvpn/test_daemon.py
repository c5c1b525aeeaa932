"""The daemon as a process of its own: its words, its signals, its exit status; it writes to no kernel."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from bgpvpn.store.lock import holder_of

LIMIT_S = 20.0
"""How long anything may take before a test fails; what works takes a second or two."""

COMMAND = [sys.executable, "-m", "bgpvpn.daemon"]
SECRET = "s3cret-of-rr1"
MAC = "02:00:00:00:00:01"
WISHES: list[tuple[str, dict[str, Any]]] = [
    ("networks", {"id": "n", "name": "blue-net"}),
    ("subnets", {"id": "s", "network_id": "n", "cidr": "10.1.0.0/24", "gateway_ip": "10.1.0.1"}),
    (
        "ports",
        {
            "id": "p",
            "network_id": "n",
            "interface": "tap1",
            "mac_address": "02:00:00:00:00:01",
            "ip_addresses": ["10.1.0.5"],
        },
    ),
    ("bgpvpns", {"id": "v", "name": "blue", "route_targets": ["64512:1"]}),
    ("associations", {"id": "a", "bgpvpn_id": "v", "network_id": "n"}),
]


class Machine:
    """A folder with a configuration, and the daemons that run there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "bgpvpn.toml"
        self.socket = folder / "run" / "api.sock"
        self.store = folder / "state" / "intent.db"
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self.notified = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notified.bind(str(folder / "notify"))
        self.notified.settimeout(LIMIT_S)
        self.configure()

    def configure(self, **sections: str) -> None:
        """Write the configuration; a section is given by lines of its options."""
        lines = {
            "node": 'router_id = "192.0.2.1"\nlocal_as = 64512\ntunnel_ip = "192.0.2.1"',
            "bgp": "listen = []",
            "store": f'path = "{self.store}"',
            "api": f'socket = "{self.socket}"',
            "dataplane": 'kind = "dryrun"',
            **sections,
        }
        text = "\n".join(f"[{name}]\n{options}\n" for name, options in lines.items())
        self.config.write_text(text.replace("[peer]", "[[peer]]"))

    def start(self, **environment: str) -> subprocess.Popen[bytes]:
        """Start a daemon, and wait until it says that it is ready."""
        words = [*COMMAND, "--config", str(self.config)]
        environment = {**os.environ, "NOTIFY_SOCKET": str(self.folder / "notify"), **environment}
        with self.log.open("ab") as log:
            process = subprocess.Popen(words, stderr=log, env=environment)
        self.processes.append(process)
        until(lambda: "READY=1" in self.heard())
        return process

    def heard(self) -> list[str]:
        """Return what systemd would hear next."""
        return self.notified.recv(1000).decode().split("\n")

    def run(self, *words: str) -> tuple[int, str]:
        """Run a daemon to its end; return its status and all that it printed."""
        done = subprocess.run(
            [*COMMAND, "--config", str(self.config), *words],
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=LIMIT_S,
            check=False,
        )
        return done.returncode, done.stdout

    def client(self, **options: Any) -> httpx.Client:
        """Return a client of the API."""
        transport = httpx.HTTPTransport(uds=str(self.socket))
        return httpx.Client(transport=transport, base_url="http://localhost/v1", timeout=LIMIT_S, **options)

    def wish(self) -> None:
        """Make a VPN with a network and a port."""
        with self.client() as client:
            for path, body in WISHES:
                assert client.post(f"/{path}", json=body).status_code == 201, path

    def ask(self, path: str) -> Any:
        """Return an answer of the API."""
        with self.client() as client:
            return client.get(path).raise_for_status().json()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    try:
        yield machine
    finally:
        for process in machine.processes:
            process.kill()
            process.wait()
        machine.notified.close()


def until(fact: Callable[[], object]) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + LIMIT_S
    while not fact():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.02)


def ended(process: subprocess.Popen[bytes], number: signal.Signals) -> int:
    """Send a signal and return the exit status."""
    process.send_signal(number)
    return process.wait(LIMIT_S)


# Words on the command line


def test_a_configuration_is_checked_and_all_that_is_wrong_is_said(machine: Machine) -> None:
    assert machine.run("--check-config") == (0, f"{machine.config}: in order\n")
    machine.configure(bgp="hold_time_s = 1\nprot = 179", log='level = "loud"')
    status, text = machine.run("--check-config")
    assert (status, text.splitlines()) == (
        1,
        [
            f"{machine.config}: line 7: bgp.hold_time_s: takes 0 or at least 3 seconds, not 1 (RFC 4271 section 4.2)",
            f"{machine.config}: line 8: bgp.prot: is not known; did you mean port?",
            f"{machine.config}: line 20: log.level: takes debug, info, warning or error, not 'loud'",
        ],
    )
    assert machine.run() == (status, text), "the daemon itself says the same"


@pytest.mark.parametrize("words", [["--no-such-option"], ["word"], ["--config"]])
def test_wrong_words_are_status_2(machine: Machine, words: list[str]) -> None:
    assert machine.run(*words)[0] == 2


def test_a_file_that_is_not_there_is_status_1(machine: Machine) -> None:
    machine.config.unlink()
    for words in ([], ["--check-config"], ["--drain"]):
        assert machine.run(*words) == (1, f"{machine.config}: file: cannot be read: No such file or directory\n")


# From the start to the end


def test_systemd_is_told_of_the_start_the_life_and_the_end(machine: Machine) -> None:
    process = machine.start(WATCHDOG_USEC="100000")
    assert [machine.heard() for _ in range(3)] == [["WATCHDOG=1"]] * 3
    process.terminate()
    until(lambda: machine.heard() == ["STOPPING=1"])
    assert process.wait(LIMIT_S) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_daemon_though_a_peer_hangs(machine: Machine, number: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as peer:
        port = peer.getsockname()[1]
        machine.configure(peer=f'address = "127.0.0.1"\nport = {port}\nremote_as = 64512')
        process = machine.start()
        peer.settimeout(LIMIT_S)
        connection, _ = peer.accept()
        with connection:
            assert connection.recv(19)[:16] == b"\xff" * 16
            assert ended(process, number) == 0
    assert f"state=stopped signal={number.name}" in machine.log.read_text()
    assert not machine.socket.exists()
    assert holder_of(machine.store.parent) is None


def test_what_users_want_outlives_a_kill_and_the_next_start_is_at_once(machine: Machine) -> None:
    process = machine.start()
    machine.wish()
    instances = machine.ask("/instances")
    assert instances[0]["vrf"]["label"] == 16000
    assert ended(process, signal.SIGKILL) == -signal.SIGKILL
    assert machine.socket.is_socket(), "it is left behind"
    assert (machine.store.parent / "lock").read_text() == f"{process.pid}\n"
    machine.start()
    assert machine.ask("/instances") == instances
    assert machine.ask("/ports/p")["status"]["state"] == "ACTIVE"


def test_a_second_daemon_ends_at_once_and_names_the_first(machine: Machine) -> None:
    first = machine.start()
    status, text = machine.run()
    assert status == 1
    assert text == f"bgpvpnd: {machine.store.parent} is in use by another bgpvpnd, process {first.pid}\n"
    assert machine.ask("/status")["synced"]


def test_what_cannot_be_listened_on_is_named(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        machine.configure(bgp=f'listen = ["127.0.0.1"]\nport = {port}')
        status, text = machine.run()
        assert status == 1
        assert text.endswith(f"cannot listen on 127.0.0.1 port {port}: Address already in use\n")
        machine.configure(api=f'socket = "{machine.socket}"\ntcp = "127.0.0.1:{port}"')
        status, text = machine.run()
        assert status == 1
        assert text.endswith(f"the API cannot listen on 127.0.0.1 port {port}: Address already in use\n")
    machine.configure(api=f'socket = "{machine.socket}"\ngroup = "nobody-has-this"')
    status, text = machine.run()
    assert status == 1
    assert text.splitlines()[-1].startswith("bgpvpnd: ")
    assert "nobody-has-this" in text.splitlines()[-1]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is damaged: it is empty"),
        (b"no database" * 1000, "cannot be opened: file is not a database"),
    ],
)
def test_a_store_that_cannot_be_read_is_named_and_left_as_it_is(machine: Machine, content: bytes, reason: str) -> None:
    machine.store.parent.mkdir()
    machine.store.write_bytes(content)
    assert machine.run() == (1, f"bgpvpnd: the store {machine.store} {reason}\n")
    assert machine.store.read_bytes() == content


def test_a_damaged_row_is_named_and_the_kernel_left_alone(machine: Machine) -> None:
    process = machine.start()
    machine.wish()
    assert ended(process, signal.SIGTERM) == 0
    octets = machine.store.read_bytes()
    machine.store.write_bytes(octets.replace(b"blue-net", b"blue-nut"))
    status, text = machine.run()
    assert status == 1
    assert text == f"bgpvpnd: the store {machine.store} is damaged: object network n has a wrong checksum\n"
    assert b"blue-nut" in machine.store.read_bytes()


# Draining


def test_a_drain_ends_a_running_daemon_and_keeps_what_users_want(machine: Machine) -> None:
    process = machine.start()
    machine.wish()
    assert machine.run("--drain") == (0, "")
    assert process.wait(LIMIT_S) == 0
    text = machine.log.read_text()
    assert "state=draining" in text
    assert re.search(r"remove link bv-\w+", text)
    assert "state=stopped signal=SIGUSR1" in text
    machine.start()
    assert machine.ask("/ports/p")["status"]["state"] == "ACTIVE"


def test_a_drain_without_a_daemon_is_in_order_also_where_none_ever_was(machine: Machine) -> None:
    assert machine.run("--drain") == (0, "")
    assert ended(machine.start(), signal.SIGTERM) == 0
    assert machine.run("--drain") == (0, "")


# What is said


@pytest.mark.parametrize("style", ["text", "json"])
def test_the_log_has_a_fact_a_line(machine: Machine, style: str) -> None:
    machine.configure(log=f'format = "{style}"', peer='address = "127.0.0.1"\nport = 1\nremote_as = 64512')
    process = machine.start()
    machine.wish()
    assert ended(process, signal.SIGTERM) == 0
    lines = machine.log.read_text().splitlines()
    if style == "json":
        said = [json.loads(line)["event"] for line in lines]
        assert {json.loads(line)["level"] for line in lines} == {"info"}
    else:
        assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:.]+Z (info|warning|error) +\S", line) for line in lines)
        said = [line.split(maxsplit=2)[2] for line in lines]
    assert said[0] == "node=192.0.2.1 local_as=64512 state=started networks=0 ports=0 vpns=0 kernel=empty"
    assert said[-1] == "node=192.0.2.1 state=stopped signal=SIGTERM"


def test_a_password_is_said_nowhere(machine: Machine) -> None:
    key = machine.folder / "rr1.key"
    key.write_text(SECRET)
    key.chmod(0o600)
    machine.configure(
        log='level = "debug"',
        peer='address = "127.0.0.1"\nport = 1\nremote_as = 64512\npassword_file = "rr1.key"',
    )
    said = [machine.run("--check-config")[1]]
    process = machine.start()
    with machine.client() as client:
        peer = {"address": "127.0.0.2", "port": 1, "remote_as": 64512, "password": SECRET}
        said.append(client.post("/peers", json=peer).raise_for_status().text)
        said += [client.post("/peers", json={**peer, field: f"{SECRET}\a"}).text for field in ("password", "name")]
        said += [client.get(path).text for path in ("/peers", "/status", "/sessions", "/kernel", "/instances")]
        said.append(client.get("http://localhost/metrics").text)
        said.append(client.patch("/peers/configured-127.0.0.1", json={"password": SECRET}).text)
    assert ended(process, signal.SIGTERM) == 0
    said.append(machine.log.read_text())
    assert ["password" in text for text in said[1:4]] == [True, True, False]
    assert [text for text in said if SECRET in text] == [said[3]], "what is no password is shown"
    assert SECRET.encode() not in machine.store.read_bytes()
    assert [path.stat().st_mode & 0o777 for path in (machine.store.parent / "keys").iterdir()] == [0o600]


def test_the_API_is_on_a_port_of_the_loopback_too_when_that_is_wanted(machine: Machine) -> None:
    port = random.randrange(20_000, 32_000)
    machine.configure(api=f'socket = "{machine.socket}"\ntcp = "127.0.0.1:{port}"\nmode = "0600"')
    machine.start()
    answer = httpx.get(f"http://127.0.0.1:{port}/v1/status", timeout=LIMIT_S)
    assert answer.json()["router_id"] == "192.0.2.1"
    assert machine.socket.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(socket.socket()) as elsewhere, pytest.raises(ConnectionRefusedError):
        elsewhere.connect(("127.0.0.2", port))
