"""Brings a containerlab topology up with network namespaces, veth pairs and ordinary processes, without containers.

A node is a network namespace `LAB-NODE` and a folder /run/lab/LAB/NODE. Whatever runs in it sees that folder's `run`
as /run, its `etc` laid over the machine's /etc, and its `state` as /var/lib/bgpvpn (lab/enter.py), so that several
FRRs or daemons live side by side with the paths that they have in containers. Nothing keeps running but the nodes'
own processes; their numbers are in /run/lab/LAB/processes.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs

from lab import programs, topology
from lab.enter import FOLDERS, entering
from lab.topology import Node, Topology, TopologyError

T = TypeVar("T")

FOLDER = Path("/run/lab")
READY_S = 30.0  # a process that is not ready after this time has failed
STOP_S = 3.0  # a process that has not ended this long after SIGTERM is killed


class LabError(Exception):
    """A lab could not be brought up or a command in it failed; what had been made is gone again."""


@attrs.frozen
class Running:
    """A process of a node; `started` (clock ticks since boot) tells it from a later one with the same number."""

    node: str
    name: str
    pid: int
    started: int

    @property
    def alive(self) -> bool:
        return _started(self.pid) == self.started


class Lab:
    """A lab on this machine, up or down; all that it knows is in the kernel and in its folder."""

    def __init__(self, plan: Topology) -> None:
        self.plan = plan
        self.folder = FOLDER / plan.name
        self._book = self.folder / "processes.json"
        self._children: list[subprocess.Popen[str]] = []

    def up(self) -> None:
        """Make everything and start everything; LabError, and then nothing is left of it."""
        if self.folder.exists() or any(namespace in _namespaces() for namespace in self._namespaces()):
            raise LabError(f"{self.plan.name} is up already, or a remnant of it: take it down first")
        for node in self.plan.nodes.values():
            if absent := programs.missing(node.program):
                needed = ", ".join(absent)
                raise LabError(f"{node.name} runs {node.program}: {needed} is not installed (lab/setup does it)")
        try:
            self.folder.mkdir(parents=True)
        except OSError as error:
            raise LabError(f"{self.folder} cannot be made: {error.strerror}") from error
        try:
            for node in self.plan.nodes.values():
                self._furnish(node)
            self._connect()
            for node in self.plan.nodes.values():
                self._configure(node)
            for node in self.plan.nodes.values():
                self.start(node.name)
        except BaseException as error:  # an interrupt by the user as well
            self.down()
            if isinstance(error, OSError):
                raise LabError(str(error)) from error
            raise

    def down(self) -> None:
        """End every process of the lab and remove all that `up` made; does what is left to do when called again."""
        _end(running for running in self.running() if running.alive)
        for namespace in self._namespaces():
            if namespace in _namespaces():
                _end_pids(int(pid) for pid in _call("ip", "netns", "pids", namespace).split())
                _call("ip", "netns", "delete", namespace)
        self._reap()
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            FOLDER.rmdir()

    def start(self, node: str) -> None:
        """Start the program of a node and wait until it is ready; LabError with the end of its log."""
        program = programs.PROGRAMS[self.plan.nodes[node].program]
        for process in program.processes(self.folder / node / "etc"):
            for folder, owner in process.folders:
                path = self.folder / node / "run" / folder
                path.mkdir(exist_ok=True)
                shutil.chown(path, owner, owner)
            if process.socket:  # one that a killed process left behind says nothing
                (self.folder / node / "run" / process.socket).unlink(missing_ok=True)
            running = self.spawn(node, process.name, process.command)
            until = time.monotonic() + READY_S
            while not self._ready(node, process):
                if not running.alive or time.monotonic() > until:
                    raise LabError(
                        f"{node}: {process.name} did not become ready\n{self.log(node, process.name)[-2000:]}"
                    )
                time.sleep(0.05)
        if program.then:
            self.run(node, *program.then)

    def stop(self, node: str, name: str | None = None, sign: signal.Signals = signal.SIGTERM) -> None:
        """Send a signal to the processes of a node, or to the one of that name, and wait until they have ended."""
        chosen = [running for running in self.running() if running.node == node and name in (None, running.name)]
        _end((running for running in chosen if running.alive), sign)
        self._record([running for running in self.running() if running not in chosen])
        self._reap()

    def spawn(self, node: str, name: str, command: Sequence[str]) -> Running:
        """Start a process in a node that goes on after us and ends with the lab; its output is in `log(node, name)`."""
        with open(self.folder / node / f"{name}.log", "ab") as log:
            child = self.popen(node, *command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self._children.append(child)
        started = _started(child.pid)
        if started is None:
            raise LabError(f"{node}: {name} ended at once")
        running = Running(node, name, child.pid, started)
        self._record([*self.running(), running])
        return running

    def popen(self, node: str, *command: str, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a node, as a child of ours; `options` are those of subprocess.Popen. LabError, OSError."""
        if not self.folder.exists():
            raise LabError(f"{self.plan.name} is not up")
        enter = entering(self.plan.namespace(node), self.folder / node, node)
        chosen = {"stdin": subprocess.DEVNULL, **options}
        try:
            return subprocess.Popen(command, env=self._env(node), text=True, preexec_fn=enter, **chosen)
        except subprocess.SubprocessError as error:
            raise LabError(f"{node} cannot be entered: {error}") from error

    def call(self, node: str, *command: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command in a node and wait for it; LabError when it takes too long, not when it fails."""
        with self.popen(node, *command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            try:
                out, err = child.communicate(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                child.kill()
                raise LabError(f"{node}: {' '.join(command)} did not end in {timeout_s:g} s") from None
        return subprocess.CompletedProcess(command, child.returncode, out, err)

    def run(self, node: str, *command: str, timeout_s: float = 60, name: str = "") -> str:
        """Run a command in a node and return what it printed; LabError, with its words or the name, when it fails."""
        done = self.call(node, *command, timeout_s=timeout_s)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip())[-2000:]
            raise LabError(f"{node}: {name or shlex.join(command)} ended with status {done.returncode}: {said}")
        return done.stdout

    def log(self, node: str, name: str) -> str:
        """What a process of a node has printed so far."""
        return (self.folder / node / f"{name}.log").read_text(errors="replace")

    def running(self) -> list[Running]:
        """The processes that were started and not stopped by us; a look at `alive` tells whether they still run."""
        if not self._book.exists():
            return []
        return [Running(**entry) for entry in json.loads(self._book.read_text())]

    def _ready(self, node: str, process: programs.Process) -> bool:
        if process.socket:
            return (self.folder / node / "run" / process.socket).is_socket()
        return self.call(node, *process.answers).returncode == 0

    def _env(self, node: str) -> dict[str, str]:
        return {**os.environ, "PATH": programs.PATH, **self.plan.nodes[node].env}

    def _namespaces(self) -> list[str]:
        return [self.plan.namespace(node) for node in self.plan.nodes]

    def _record(self, processes: list[Running]) -> None:
        fresh = self._book.with_suffix(".new")
        fresh.write_text(json.dumps([attrs.asdict(running) for running in processes]))
        fresh.replace(self._book)

    def _reap(self) -> None:
        """Take the exit status of our children that have ended, so that they are no zombies."""
        self._children = [child for child in self._children if child.poll() is None]

    def _furnish(self, node: Node) -> None:
        """The folder of a node, with what its binds put there."""
        folder = self.folder / node.name
        for part in FOLDERS:
            (folder / part).mkdir(parents=True)
        for bind in node.binds:
            target = folder / bind.target.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            if bind.source.is_dir():
                shutil.copytree(bind.source, target)
            else:
                shutil.copyfile(bind.source, target)

    def _connect(self) -> None:
        """All network namespaces and all links between them."""
        lines = [f"netns add {namespace}" for namespace in self._namespaces()]
        for link in self.plan.links:
            ends = []
            for end in link.ends:
                mac = f" address {end.mac}" if end.mac else ""
                ends.append(f"name {end.interface} mtu {link.mtu}{mac} netns {self.plan.namespace(end.node)}")
            lines.append(f"link add {ends[0]} type veth peer {ends[1]}")
        _call("ip", "-batch", "-", said="\n".join(lines))

    def _configure(self, node: Node) -> None:
        """The commands of a node, as one script: to enter a node takes longer than most of them."""
        interfaces = ["lo", *(end.interface for link in self.plan.links for end in link.ends if end.node == node.name)]
        settings = [f"{key}={value}" for key, value in node.sysctls.items()]
        commands = [
            *(("ip", "link", "set", interface, "up") for interface in interfaces),
            *([("sysctl", "-qw", *settings)] if settings else []),
            *node.commands,
        ]
        script = [
            f"{words} || {{ echo {shlex.quote(f'in: {words}')} >&2; exit 1; }}" for words in map(shlex.join, commands)
        ]
        self.run(node.name, "sh", "-c", "\n".join(script), name=f"the commands of {node.name}")


def eventually(fact: Callable[[], T], within_s: float, what: str) -> T:
    """The first true answer of a function that is asked again and again; LabError when the time is over."""
    until = time.monotonic() + within_s
    while not (answer := fact()):
        if time.monotonic() > until:
            raise LabError(f"not within {within_s:g} s: {what}")
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def lab_of(file: Path) -> Iterator[Lab]:
    """A lab that is up inside of the `with` and gone after it."""
    lab = Lab(topology.load(file))
    lab.up()
    try:
        yield lab
    finally:
        lab.down()


def _call(*command: str, said: str = "") -> str:
    """Run a command of the machine, with something said to it on its input, and return what it printed; LabError."""
    done = subprocess.run(command, input=said, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout


def _namespaces() -> set[str]:
    return {line.split()[0] for line in _call("ip", "netns", "list").splitlines() if line}


def _started(pid: int) -> int | None:
    """When a process began, in clock ticks since boot; None when it has ended (proc(5), fields 3 and 22 of stat)."""
    try:
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if words[0] in "ZX" else int(words[19])


def _end(processes: Iterable[Running], sign: signal.Signals = signal.SIGTERM) -> None:
    _end_pids((running.pid for running in processes), sign)


def _end_pids(pids: Iterable[int], sign: signal.Signals = signal.SIGTERM) -> None:
    """Send a signal to processes, wait until they have ended, and kill those that do not."""
    born = {pid: _started(pid) for pid in pids}
    for send in (sign, signal.SIGKILL):
        left = [pid for pid, started in born.items() if started is not None and _started(pid) == started]
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, send)
        until = time.monotonic() + STOP_S
        while any(_started(pid) == born[pid] for pid in left) and time.monotonic() < until:
            time.sleep(0.02)


def _inspect(lab: Lab) -> None:
    there = _namespaces()
    processes = lab.running()
    for node in lab.plan.nodes.values():
        namespace = lab.plan.namespace(node.name)
        state = "up" if namespace in there else "down"
        print(f"{node.name}: namespace {namespace} {state}, runs {node.program}")
        for running in processes:
            if running.node == node.name:
                print(f"    {running.name}: process {running.pid}, {'alive' if running.alive else 'ended'}")
        if state == "up":
            for line in _call("ip", "-n", namespace, "-brief", "address").splitlines():
                print(f"    {' '.join(line.split())}")


def main() -> int:
    """The command line; exit status 0 when it is done, 1 when it failed, 2 for a file or words that make no sense."""
    parser = argparse.ArgumentParser(
        prog="lab/runner", description="Bring a containerlab topology up in network namespaces."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    for verb, text in [
        ("up", "make the nodes and links, and start the software"),
        ("down", "end the software and remove everything"),
        ("inspect", "say what is there"),
        ("exec", "run a command in a node"),
    ]:
        arguments = verbs.add_parser(verb, help=text, description=text)
        arguments.add_argument("file", type=Path, metavar="NAME.clab.yml")
        if verb == "exec":
            arguments.add_argument("node")
            arguments.add_argument("command", nargs=argparse.REMAINDER)
    words = parser.parse_args()
    try:
        lab = Lab(topology.load(words.file))
        match words.verb:
            case "up":
                lab.up()
            case "down":
                lab.down()
            case "inspect":
                _inspect(lab)
            case "exec" if words.node not in lab.plan.nodes or not words.command:
                parser.error(f"exec needs one of the nodes {', '.join(lab.plan.nodes)} and a command")
            case "exec":
                return lab.popen(words.node, *words.command, stdin=None).wait()
    except (TopologyError, LabError, OSError) as error:
        print(f"lab/runner: {error}", file=sys.stderr)
        return 2 if isinstance(error, TopologyError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
