"""bgpvpnd as a process that writes to no kernel, with its API on the loopback as OpenStack's clients want it.

with Daemon.running(folder, node="local_as = 64512") as daemon:
    daemon.get("/v2.0/networks")
"""

from __future__ import annotations

import contextlib
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Self

import httpx

ADDRESS = "127.0.0.1"
LIMIT_S = 30.0
"""How long anything may take before a test fails; what works takes a second or two."""

LAST_WORDS = 15


class Daemon:
    """A daemon, its folder and its addresses: `url` of the API, `socket` of the same, `bgp_port`."""

    def __init__(self, folder: Path, sections: dict[str, str], token: str) -> None:
        self.folder = folder
        self.log_file = folder / "log"
        self.socket = folder / "api.sock"
        api_port, self.bgp_port = free_ports(2)
        self.url = f"http://{ADDRESS}:{api_port}"
        lines = {
            "node": 'router_id = "192.0.2.250"\nlocal_as = 64512\ntunnel_ip = "192.0.2.250"',
            "bgp": f'listen = ["{ADDRESS}"]\nport = {self.bgp_port}\ndeferral_s = 1',
            "store": f'path = "{folder}/state/intent.db"',
            "api": f'socket = "{self.socket}"\ntcp = "{ADDRESS}:{api_port}"',
            "dataplane": 'kind = "dryrun"',
            **sections,
        }
        self.config = folder / "bgpvpn.toml"
        self.config.write_text("\n".join(f"[{name}]\n{options}\n" for name, options in lines.items()))
        headers = {"X-Auth-Token": token} if token else {}
        self.client = httpx.Client(base_url=self.url, timeout=LIMIT_S, headers=headers)
        self.process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        with self.log_file.open("ab") as log:
            return subprocess.Popen([sys.executable, "-m", "bgpvpn.daemon", "--config", str(self.config)], stderr=log)

    @classmethod
    @contextlib.contextmanager
    def running(cls, folder: Path, *, token: str = "", **sections: str) -> Iterator[Self]:
        """One that answers; it must not have ended by itself, nor logged an exception.

        A section is given by its lines; `token` is that of the client, where the API wants one.
        """
        daemon = cls(folder, sections, token)
        try:
            until(daemon._answers, "the daemon answers")
            yield daemon
            assert daemon.process.poll() is None, f"bgpvpnd ended with {daemon.process.returncode}"
            assert "Traceback" not in daemon.log()
        except BaseException:
            print("the daemon's last words:", *daemon.log().splitlines()[-LAST_WORDS:], sep="\n    ", file=sys.stderr)
            raise
        finally:
            daemon.client.close()
            daemon.process.kill()
            daemon.process.wait()

    def restart(self) -> None:
        """Kill it, and start it anew in the same folder."""
        self.stop()
        self.start()

    def stop(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Start it anew in the same folder."""
        self.process = self._started()
        until(self._answers, "the daemon answers")

    def log(self) -> str:
        """All that it has logged."""
        return self.log_file.read_text(errors="replace")

    def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask, and return the answer whatever its status."""
        return self.client.request(method, path, json=body) if body is not None else self.client.request(method, path)

    def get(self, path: str) -> Any:
        """Return what stands at a path."""
        return self.ask("GET", path).raise_for_status().json()

    def post(self, path: str, body: object) -> Any:
        """Make something, and return it."""
        return self.ask("POST", path, body).raise_for_status().json()

    def _answers(self) -> bool:
        assert self.process.poll() is None, f"bgpvpnd ended with {self.process.returncode}: {self.log()}"
        with contextlib.suppress(httpx.TransportError):
            return self.client.get("/v1/status").is_success
        return False


def until(fact: Callable[[], object], words: str, within_s: float = LIMIT_S) -> None:
    """Wait for a fact."""
    deadline = time.monotonic() + within_s
    while not fact():
        assert time.monotonic() < deadline, f"after {within_s:g} s it is not so: {words}"
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    """Ports of the loopback that are free, below those that the kernel gives to connections."""
    found: list[int] = []
    for port in random.sample(range(10_000, 32_000), 1000):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind((ADDRESS, port))
            found.append(port)
        if len(found) == count:
            break
    return found
