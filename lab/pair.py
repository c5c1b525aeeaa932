"""bgpvpnd in one network namespace and a BGP neighbour for benchmarks in another, joined by a veth pair.

    bench-node  192.0.2.11  10.0.0.1/30 ------- 10.0.0.2/30  192.0.2.100  bench-peer
                bgpvpnd                         lab.generator, for the PEs 192.0.2.1 and 192.0.2.2

They need none of what the lab's runner gives its nodes but the namespace, so that they run on any kernel. The files of
the daemon are in a folder below /run, which is in memory.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cli.api import Api, ApiError
from lab.generator import pe_address
from lab.usage import Usage, has_mpls

NODE, PEER = "bench-node", "bench-peer"
NODE_ADDRESS, PEER_ADDRESS = "192.0.2.11", "192.0.2.100"
PES = 2

READY_S = 30.0
END_S = 5.0
RESTS_S = 0.7  # who uses no processor for so long has nothing to do; the node itself waits half a second at most
TICK_S = 0.015  # less than that in RESTS_S is nothing: the clock may go in steps of 10 ms

CONFIG = f"""
[node]
router_id = "{NODE_ADDRESS}"
local_as = 64512
tunnel_ip = "{NODE_ADDRESS}"
[[peer]]
address = "{PEER_ADDRESS}"
remote_as = 64512
families = ["vpnv4"]
passive = true
[store]
path = "FOLDER/intent.db"
[api]
socket = "FOLDER/api.sock"
"""


class BenchError(Exception):
    """The run is not complete, or did not come out as it must."""


class Pair:
    """Both ends, from an empty machine to a daemon that waits for its neighbour; all of it is gone after the `with`."""

    def __init__(self, generator: Sequence[str]) -> None:
        """`generator` are the words of lab.generator after its addresses."""
        self._words = generator
        self._stack = contextlib.ExitStack()
        self._said: list[bytes] = []  # lines of the neighbour that nobody has looked at
        self._unfinished = b""

    def __enter__(self) -> Self:
        with self._stack:
            self._stack.enter_context(namespaces(NODE, PEER))
            ip(
                f"link add eth0 netns {NODE} type veth peer name eth0 netns {PEER}",
                *_addressed(NODE, NODE_ADDRESS, "10.0.0.1/30"),
                *_addressed(PEER, PEER_ADDRESS, "10.0.0.2/30"),
                f"-n {PEER} route add {NODE_ADDRESS} via 10.0.0.1 src {PEER_ADDRESS}",
                *(f"-n {NODE} route add {way(at)}" for at in (PEER_ADDRESS, *map(pe_address, range(PES)))),
            )
            self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir="/run")))
            (self._folder / "bgpvpn.toml").write_text(CONFIG.replace("FOLDER", str(self._folder)))
            self.api = Api(str(self._folder / "api.sock"))
            self._log = self._stack.enter_context((self._folder / "log").open("w+"))
            self.daemon = self._start()
            self._generator = self._stack.enter_context(
                _process(PEER, "lab.generator", NODE_ADDRESS, PEER_ADDRESS, *self._words, stdout=subprocess.PIPE)
            )
            assert self._generator.stdout is not None
            self._voice = self._generator.stdout.fileno()
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._log.seek(0)
            print("the daemon's last words:", *self._log.read().splitlines()[-10:], sep="\n    ", file=sys.stderr)
        self._stack.close()

    def _start(self) -> subprocess.Popen[str]:
        module = "bgpvpn.daemon" if has_mpls() else "lab.bare"
        arguments = ("--config", str(self._folder / "bgpvpn.toml"))
        daemon = self._stack.enter_context(_process(NODE, module, *arguments, stderr=self._log))
        self.wait(self._answers, READY_S, "bgpvpnd answers")
        return daemon

    def _answers(self) -> bool:
        with contextlib.suppress(ApiError):
            self.api.get("status")
            return True
        return False

    # The neighbour

    def tell(self, *words: str) -> None:
        """Say commands to the neighbour."""
        assert self._generator.stdin is not None
        self._generator.stdin.write("".join(f"{word}\n" for word in words))
        self._generator.stdin.flush()

    def hear(self, fact: str, value: object, within_s: float) -> float:
        """Wait for a fact from the neighbour, None for any; return when it was so, on the monotonic clock."""
        until = time.monotonic() + within_s
        while True:
            while self._said:
                said = json.loads(self._said.pop(0))
                if fact in said and value in (None, said[fact]):
                    return float(said["at"])
            octets = b""
            if select.select([self._voice], [], [], max(0.0, until - time.monotonic()))[0]:
                octets = os.read(self._voice, 1 << 16)
            if not octets:
                raise BenchError(f"the neighbour did not say {fact} {value} within {within_s:g} s")
            *lines, self._unfinished = (self._unfinished + octets).split(b"\n")
            self._said += lines

    # The daemon

    def usage(self) -> Usage:
        """What the daemon has used so far."""
        return Usage.of(self.daemon.pid)

    def rest(self, fact: Callable[[], bool], within_s: float, what: str) -> tuple[float, Usage]:
        """Wait until the daemon has nothing to do and a fact is true; when it came to rest, and what it had used then.

        The fact is asked for only while the daemon rests, since its answers cost processor time.
        """
        until = time.monotonic() + within_s
        while True:
            at, used = time.monotonic(), self.usage()
            active_at, active = at, used
            while at < active_at + RESTS_S:
                time.sleep(0.05)
                at, used = time.monotonic(), self.usage()
                if used.cpu_s - active.cpu_s >= TICK_S:
                    active_at, active = at, used
                if at > until:
                    raise BenchError(f"not within {within_s:g} s, and the daemon is still busy: {what}")
            if fact():
                return active_at, used
            if time.monotonic() > until:
                raise BenchError(f"not within {within_s:g} s: {what}")

    def wait(self, fact: Callable[[], bool], within_s: float, what: str) -> None:
        """Ask for a fact until it is true."""
        until = time.monotonic() + within_s
        while not fact():
            if time.monotonic() > until:
                raise BenchError(f"not within {within_s:g} s: {what}")
            time.sleep(0.1)

    def counts(self, routes: int) -> bool:
        """Whether the daemon says that the kernel has acknowledged so many routes."""
        return bool(self.api.get("kernel")["counters"]["routes"] == routes)

    def messages(self) -> dict[str, int]:
        """How many messages the daemon has sent to the kernel, by kind of row."""
        return dict(self.api.get("kernel")["messages"])

    def active(self) -> bool:
        """Whether all objects are in the kernel."""
        return all(each["state"] == "active" for each in self.api.get("kernel")["objects"])


@contextlib.contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Network namespaces of these names; BenchError when one is there already, and nothing is left after the `with`."""
    with contextlib.ExitStack() as stack:
        for name in names:
            ip(f"netns add {name}")
            stack.callback(ip, f"netns delete {name}")
        yield


def ip(*lines: str) -> str:
    """Run `ip` with each line of words, and return what it printed; BenchError with its words."""
    said = ""
    for line in lines:
        done = subprocess.run(["ip", *line.split()], capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"ip {line}: {done.stderr.strip()}")
        said += done.stdout
    return said


def batch(namespace: str, lines: Sequence[str]) -> None:
    """Run many lines of `ip` in a namespace, with one process."""
    command = ["ip", "-n", namespace, "-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchError(f"ip -batch: {done.stderr.strip()}")


def output(namespace: str, within_s: float, module: str, *words: str) -> str:
    """Run a module of ours in a namespace, and return what it printed; BenchError with its words when it fails."""
    with _process(namespace, module, *words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        try:
            said, errors = process.communicate(timeout=within_s)
        except subprocess.TimeoutExpired:
            raise BenchError(f"{module} did not end in {within_s:g} s") from None
    if process.returncode:
        raise BenchError(f"{module}: {errors.strip()[-2000:]}")
    return str(said)


class Watch:
    """The nexthop objects in the namespace of the daemon, as they are rewritten, each with its time."""

    def __init__(self) -> None:
        self._stack = contextlib.ExitStack()
        self._seen = ""

    def __enter__(self) -> Self:
        with self._stack:
            monitor = ["ip", "-ts", "-n", NODE, "monitor", "nexthop"]
            self._monitor = self._stack.enter_context(subprocess.Popen(monitor, stdout=subprocess.PIPE, text=True))
            self._stack.callback(self._monitor.terminate)
            batch = ["ip", "-n", NODE, "-batch", "-"]
            self._batch = self._stack.enter_context(subprocess.Popen(batch, stdin=subprocess.PIPE, text=True))
            until = time.monotonic() + READY_S
            assert self._monitor.stdout is not None
            while not select.select([self._monitor.stdout], [], [], 0.1)[0]:  # both of them work
                self.do("nexthop add id 1 blackhole")
                self.do("nexthop delete id 1")
                if time.monotonic() > until:
                    raise BenchError("`ip monitor` shows nothing")
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._monitor.stdout is not None
        self._monitor.terminate()
        self._seen = self._monitor.stdout.read()
        self._stack.close()

    def do(self, line: str) -> float:
        """Have a line of `ip` done by a process that waits for it; return when it was asked, in seconds since 1970."""
        assert self._batch.stdin is not None
        at = time.time()
        self._batch.stdin.write(f"{line}\n")
        self._batch.stdin.flush()
        return at

    @property
    def rewritten(self) -> list[float]:
        """When groups were rewritten, in seconds since 1970; known after the `with`."""
        return rewritings(self._seen)


def rewritings(shown: str) -> list[float]:
    """The times of the groups among the lines of `ip -ts monitor nexthop`."""
    lines = [line for line in shown.splitlines() if " group " in line and "Deleted" not in line]
    return [datetime.datetime.fromisoformat(line[1:].partition("]")[0]).timestamp() for line in lines]


def way(address: str) -> str:
    """The way from the daemon to an address of the neighbour, as words of `ip route`."""
    return f"{address} via 10.0.0.2 src {NODE_ADDRESS}"


def _addressed(namespace: str, loopback: str, address: str) -> tuple[str, ...]:
    at = f"-n {namespace}"
    return (
        f"{at} link set lo up",
        f"{at} link set eth0 up",
        f"{at} address add {loopback}/32 dev lo",
        f"{at} address add {address} dev eth0",
    )


@contextlib.contextmanager
def _process(namespace: str, module: str, *words: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A module of ours as a process in a namespace, ended with the `with`."""
    command = ["ip", "netns", "exec", namespace, sys.executable, "-m", module, *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(END_S)
            except subprocess.TimeoutExpired:
                process.kill()
