"""bgpvpnd as a process that writes to no kernel, with its peers on the loopback: what it says, uses and logs.

with Daemon.running(folder, Peer("127.0.1.1"), Peer("127.0.1.2", 'hold_time_s = 3')) as daemon:
    assert daemon.session("127.0.1.1")["state"] == "established"
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import attrs

from cli.api import Api, ApiError
from lab.usage import Usage

ADDRESS = "127.0.0.1"
AS = 64512
START_S = 20.0
LIMIT_S = 30.0
"""How long anything may take before a test fails; what works takes a second or two."""

LAST_WORDS = 15


@attrs.frozen
class Peer:
    """A section of the configuration."""

    address: str
    options: str = ""
    remote_as: int = AS

    def text(self) -> str:
        """As in the file."""
        return f'[[peer]]\naddress = "{self.address}"\nremote_as = {self.remote_as}\npassive = true\n{self.options}\n'


class Daemon:
    """A daemon and its folder."""

    def __init__(self, folder: Path, peers: tuple[Peer, ...], level: str = "info") -> None:
        self.port = free_port()
        self._log = folder / "log"
        self._config = folder / "bgpvpn.toml"
        self._config.write_text(
            f'[node]\nrouter_id = "192.0.2.250"\nlocal_as = {AS}\ntunnel_ip = "192.0.2.250"\n'
            f'[bgp]\nlisten = ["{ADDRESS}"]\nport = {self.port}\ndeferral_s = 1\n'
            f'[store]\npath = "{folder}/state/intent.db"\n[api]\nsocket = "{folder}/api.sock"\n'
            f'[dataplane]\nkind = "dryrun"\n[log]\nlevel = "{level}"\n' + "".join(each.text() for each in peers)
        )
        self.api = Api(str(folder / "api.sock"))
        with self._log.open("ab") as log:
            words = [sys.executable, "-m", "bgpvpn.daemon", "--config", str(self._config)]
            self.process = subprocess.Popen(words, stderr=log)

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, *peers: Peer, level: str = "info") -> Iterator[Self]:
        """One that answers; it must not have ended by itself, nor logged an exception."""
        daemon = cls(folder, peers, level)
        try:
            until(daemon._answers, "the daemon answers", START_S)
            yield daemon
            daemon.see_to_it()
        except BaseException:
            print("the daemon's last words:", *daemon.log().splitlines()[-LAST_WORDS:], sep="\n    ", file=sys.stderr)
            raise
        finally:
            daemon.process.send_signal(signal.SIGCONT)
            daemon.process.kill()
            daemon.process.wait()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"bgpvpnd ended with {self.process.returncode}: {self.log()}"
        with contextlib.suppress(ApiError):
            self.api.get("status")
            return True
        return False

    def see_to_it(self) -> None:
        """It lives, and nothing happened that nobody had thought of."""
        assert self.process.poll() is None, f"bgpvpnd ended with {self.process.returncode}"
        log = self.log()
        for word in ("Traceback", "reason=exception", "internal error"):
            at = log.find(word)
            assert at < 0, f"the log has an exception: {log[max(at - 500, 0) : at + 3000]}"

    def log(self) -> str:
        """All that it has logged."""
        return self._log.read_text(errors="strict")

    def session(self, address: str) -> dict[str, Any]:
        """What it says of the session with a peer."""
        found: dict[str, Any] = next(each for each in self.api.get("sessions") if each["address"] == address)
        return found

    def routes_in(self, address: str) -> int:
        """How many routes it holds of a peer."""
        return int(sum(self.session(address)["routes_in"].values()))

    def becomes(self, address: str, field: str, value: object, within_s: float = LIMIT_S) -> None:
        """Wait until a field of a session has a value."""
        until(
            lambda: self.session(address)[field] == value,
            lambda: f"{field} of {address} is {value!r}, not {self.session(address)[field]!r}",
            within_s,
        )

    def kernel_messages(self) -> int:
        """How many messages would have gone to the kernel."""
        return sum(self.api.get("kernel")["messages"].values())

    def wish_for_vpns(self, *targets: str) -> None:
        """An l3 VPN with a port for each route target, so that routes are imported and lead somewhere."""
        for number, target in enumerate(targets):
            network = f"net{number}"
            self.api.post({"name": network}, "networks")
            subnet = f"10.200.{number}"
            self.api.post({"network_id": network, "cidr": f"{subnet}.0/24", "gateway_ip": f"{subnet}.1"}, "subnets")
            port = {"interface": f"tap{number}", "mac_address": f"02:00:00:00:01:{number:02x}"}
            self.api.post({"network_id": network, "ip_addresses": [f"{subnet}.5"], **port}, "ports")
            self.api.post({"name": f"vpn{number}", "type": "l3", "route_targets": [target]}, "bgpvpns")
            self.api.post({"network_id": network}, "bgpvpns", f"vpn{number}", "associations")

    def usage(self) -> Usage:
        """What it has used."""
        return Usage.of(self.process.pid)

    def descriptors(self) -> int:
        """How many files it has open."""
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def may_open(self, more: int | None) -> None:
        """Let it open so many files more; None: as many as it could at first."""
        pid, (_, hard) = self.process.pid, resource.prlimit(self.process.pid, resource.RLIMIT_NOFILE)
        taken = set(map(int, os.listdir(f"/proc/{pid}/fd")))
        free = [number for number in range(len(taken) + (more or 0) + 1) if number not in taken]
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard if more is None else free[more], hard))


def until(fact: Callable[[], object], what: str | Callable[[], str], within_s: float = LIMIT_S) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + within_s
    while not fact():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what if isinstance(what, str) else what()}")
        time.sleep(0.02)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as found:
        found.bind((ADDRESS, 0))
        port: int = found.getsockname()[1]
        return port


@contextlib.contextmanager
def busy_processors(seconds: float) -> Iterator[None]:
    """All processors have something else to do meanwhile, for so long at most."""
    words = [
        sys.executable,
        "-c",
        f"import time\nend = time.monotonic() + {seconds}\nwhile time.monotonic() < end: pass",
    ]
    loops = [subprocess.Popen(words) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
