"""Makes a child process part of a node: its network namespace, its own /run, /etc, /var/lib/bgpvpn and host name.

The system calls are made directly, between fork and exec: a lab starts some hundred short commands, and with `ip
netns exec`, `unshare` and `mount` each of them would cost eight processes (a quarter of a second inside
user-mode-linux).
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

# linux/sched.h, linux/mount.h
_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
_MS_BIND, _MS_REC, _MS_SLAVE = 0x1000, 0x4000, 0x80000
_MNT_DETACH = 2

FOLDERS = ("run", "etc", "lib/bgpvpn", "state")
"""What the folder of a node must have: its /run, what lies over its /etc and /var/lib, its /var/lib/bgpvpn."""


def entering(namespace: str, folder: Path, host_name: str) -> Callable[[], None]:
    """What a child does between fork and exec to be in a network namespace and see a node's folder; it raises OSError.

    /run and /var/lib/bgpvpn are the node's own and can be written. The machine's /etc and /var/lib are seen beneath
    the node's, read-only. Mounts are seen by this process and its children alone, and are gone with them.
    """
    inside = str(folder)

    def enter() -> None:
        descriptor = os.open(f"/run/netns/{namespace}", os.O_RDONLY)
        _check(_libc.setns(descriptor, _CLONE_NEWNET), f"enter network namespace {namespace}")
        os.close(descriptor)
        _check(_libc.unshare(_CLONE_NEWNS | _CLONE_NEWUTS), "unshare")
        _mount("none", "/", flags=_MS_REC | _MS_SLAVE)
        _libc.umount2(b"/sys", _MNT_DETACH)  # /sys shows the network namespace in which it was mounted
        _mount("sysfs", "/sys", "sysfs")
        _mount("overlay", "/etc", "overlay", options=f"lowerdir={inside}/etc:/etc")
        _mount("overlay", "/var/lib", "overlay", options=f"lowerdir={inside}/lib:/var/lib")
        _mount(f"{inside}/state", "/var/lib/bgpvpn", flags=_MS_BIND)
        _mount(f"{inside}/run", "/run", flags=_MS_BIND)  # last: the folder itself is below /run
        socket.sethostname(host_name)

    return enter


def _mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    words = [word.encode() for word in (source, target, kind)]
    _check(_libc.mount(*words, ctypes.c_ulong(flags), options.encode()), f"mount {source} on {target}")


def _check(result: int, what: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
