"""How the software of a node is started: which processes, in which order, and when each is ready."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs

FRR = Path("/usr/lib/frr")


@attrs.frozen
class Process:
    """A process to start in a node, and how to see that it is ready: by its socket or by a command."""

    name: str
    command: tuple[str, ...]
    folders: tuple[tuple[str, str], ...] = ()  # below /run of the node, made before: (path, owner)
    socket: str = ""  # below /run of the node, made by the process when it is ready
    answers: tuple[str, ...] = ()  # a command in the node that succeeds as soon as the process is ready


@attrs.frozen
class Program:
    """One of `lab.topology.PROGRAMS`: what must be installed, what runs, and what is said to it at the end."""

    needs: tuple[str, ...]
    processes: Callable[[Path], Iterator[Process]]  # given the folder that the node sees as /etc
    then: tuple[str, ...] = ()  # a command in the node, once, when all processes are ready


def _frr(etc: Path) -> Iterator[Process]:
    """zebra, and the daemons that are `yes` in /etc/frr/daemons, as the init script of FRR reads it."""
    chosen = etc / "frr/daemons"
    settings = dict(re.findall(r"^(\w+)=(\w+)", chosen.read_text() if chosen.exists() else "bgpd=yes", re.MULTILINE))
    for daemon in ["zebra", *(name for name, value in settings.items() if value == "yes" and name[-1] == "d")]:
        command = (str(FRR / daemon), "-A", "127.0.0.1", "-u", "frr", "-g", "frr", "--log", "stdout")
        yield Process(daemon, command, (("frr", "frr"),), socket=f"frr/{daemon}.vty")


def _gobgp(etc: Path) -> Iterator[Process]:
    command = ("gobgpd", "-f", "/etc/gobgp/gobgpd.toml", "--api-hosts", "127.0.0.1:50051", "--log-plain")
    yield Process("gobgpd", command, answers=("gobgp", "global"))


def _bgpvpnd(etc: Path) -> Iterator[Process]:
    command = ("bgpvpnd", "--config", "/etc/bgpvpn/bgpvpn.toml")
    yield Process("bgpvpnd", command, (("bgpvpn", "root"),), answers=("bgpvpn", "show", "status"))


def _bird(etc: Path) -> Iterator[Process]:
    command = ("bird", "-f", "-c", "/etc/bird/bird.conf", "-s", "/run/bird/bird.ctl")
    yield Process("bird", command, (("bird", "root"),), answers=("birdc", "-s", "/run/bird/bird.ctl", "show", "status"))


def _exabgp(etc: Path) -> Iterator[Process]:
    """ExaBGP knows no looking glass: what it heard goes, line by line, to the process of its configuration."""
    command = ("env", "exabgp.daemon.user=root", "exabgp.api.cli=false", "exabgp", "server", "/etc/exabgp/exabgp.conf")
    yield Process("exabgp", command, (("exabgp", "root"),), answers=("test", "-e", "/run/exabgp/heard"))


def _host(etc: Path) -> Iterator[Process]:
    yield from ()


PROGRAMS = {
    "frr": Program((str(FRR / "zebra"), str(FRR / "bgpd"), "vtysh"), _frr, then=("vtysh", "-b")),
    "gobgp": Program(
        ("gobgpd", "gobgp"), _gobgp, then=("sh", "-c", "[ ! -e /etc/gobgp/routes ] || sh /etc/gobgp/routes")
    ),
    "bgpvpnd": Program(("bgpvpnd",), _bgpvpnd),
    "bird": Program(("bird", "birdc"), _bird),
    "exabgp": Program(("exabgp",), _exabgp),
    "host": Program((), _host),
}

PATH = f"{Path(sys.executable).parent}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where the nodes find their programs: those of our virtual environment first."""


def missing(program: str) -> list[str]:
    """What a program needs and the machine does not have."""
    return [name for name in PROGRAMS[program].needs if not shutil.which(name, path=PATH)]
