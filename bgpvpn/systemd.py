"""Words to systemd (rim): sd_notify(3) by its protocol, a datagram to $NOTIFY_SOCKET; silence where there is none."""

from __future__ import annotations

import contextlib
import os
import socket


def notify(**words: str | int) -> None:
    """Say for example notify(READY=1, STATUS="…"); what cannot be said is dropped."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    text = "\n".join(f"{key}={value}" for key, value in words.items())
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, kind) as to:
        to.sendto(text.encode(), "\0" + address[1:] if address[0] == "@" else address)


def watchdog_s() -> float | None:
    """Return how often WATCHDOG=1 is to be said: twice as often as systemd asks for; None when it does not ask."""
    usec = os.environ.get("WATCHDOG_USEC", "")
    if not usec.isdecimal() or not int(usec) or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(usec) / 2_000_000
