"""Network namespaces for tests: made, entered by the thread of the test, and gone afterwards."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

_libc = ctypes.CDLL(None, use_errno=True)


def ip(text: str) -> bytes:
    return ipaddress.ip_address(text).packed


def prefix(text: str) -> bytes:
    """Octets of a prefix as the tables have them: truncated, then the length."""
    network = ipaddress.ip_network(text)
    return network.network_address.packed[: (network.prefixlen + 7) // 8] + bytes((network.prefixlen,))


def sh(*lines: str) -> str:
    """Run commands in the namespace that this thread is in; return what they say."""
    return "".join(_said(line.split()) for line in lines)


def within(name: str, *lines: str) -> None:
    """Run commands of `ip`, without that word, in a named namespace: one process for all of them."""
    _said(["ip", "-n", name, "-batch", "-"], "\n".join(lines))


def _said(words: list[str], given: str = "") -> str:
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}{done.stdout}"
    return done.stdout


@contextmanager
def namespaces(*names: str) -> Iterator[None]:
    """Make namespaces of these names, and remove those that are left of them at the end."""
    for name in names:
        sh(f"ip netns add {name}")
        within(name, "link set lo up")
    try:
        yield
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def inside(name: str) -> Iterator[None]:
    """Be in a named namespace, with this thread and what it starts."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    there = os.open(f"/run/netns/{name}", os.O_RDONLY)
    try:
        _enter(there)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(there)
        os.close(home)


def _enter(descriptor: int) -> None:
    assert _libc.setns(descriptor, 0x40000000) == 0, os.strerror(ctypes.get_errno())


def answers(address: str) -> bool:
    """Whether a host answers one of a few pings."""
    return any(not silent(address) for _ in range(5))


def silent(address: str) -> bool:
    """Whether a host does not answer a ping."""
    ping = ["ping", "-c", "1", "-W", "1", address]
    return subprocess.run(ping, capture_output=True, check=False).returncode != 0
