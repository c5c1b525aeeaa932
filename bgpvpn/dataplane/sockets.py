"""Sockets to the kernel's rtnetlink: requests in batches, dumps that are whole, and notifications without our own.

A batch is many messages in one system call.  None of them asks for an acknowledgement: the kernel reports refusals
anyway, in order, and answers the empty message behind them last.  All of it is done when the system call returns, so
an answer that is not there then is lost.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

from bgpvpn.dataplane.wire import (
    ACK,
    DONE,
    DUMP,
    DUMP_INTR,
    ERROR,
    HEADER,
    NOOP,
    REQUEST,
    Failure,
    Message,
    Request,
    encode,
    error_number,
    failure,
    messages,
)

T = TypeVar("T")

BATCH = 120 * 1024
"""Octets of one system call at most; the kernel takes no more than the socket's send buffer holds."""

ATTEMPTS = 5
TRANSIENT = frozenset({errno.EBUSY, errno.EAGAIN, errno.EINTR})
"""Refusals for the moment: what meets one is asked again, so many times in all."""

# linux/socket.h, linux/netlink.h, linux/sched.h
_SOL_NETLINK, _ADD_MEMBERSHIP, _EXT_ACK, _GET_STRICT_CHK = 270, 1, 11, 12
_SO_ATTACH_FILTER, _SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 26, 32, 33
_CLONE_NEWNET = 0x40000000

_BUFFER = 8 << 20


class _Changed(Exception):  # a dump that changes went through while it was read
    pass


class Requests:
    """The socket on which we ask; `namespace` is a descriptor of another network namespace to ask in."""

    def __init__(self, namespace: int | None = None) -> None:
        with _inside(namespace):
            self._socket = _opened()
        self._socket.setsockopt(_SOL_NETLINK, _GET_STRICT_CHK, 1)
        self._last = 0  # sequence number
        self.port: int = self._socket.getsockname()[0]

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Requests:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def do(self, requests: Sequence[Request]) -> dict[int, Failure]:
        """Do requests in their order; return by index those refused. Refused for the moment only: asked again."""
        refused: dict[int, Failure] = {}
        todo: Sequence[int] = range(len(requests))
        for attempt in range(ATTEMPTS):
            refused |= {at: why for at, why in self._answers(requests, todo) if isinstance(why, Failure)}
            todo = [at for at in todo if at in refused and refused[at].errno in TRANSIENT]
            if attempt < ATTEMPTS - 1:
                for at in todo:
                    del refused[at]
            if not todo:
                break
        return refused

    def ask(self, requests: Sequence[Request]) -> list[bytes | Failure | None]:
        """Return for each request the body of the answer, or why there is none."""
        answers: list[bytes | Failure | None] = [None] * len(requests)
        for at, answer in self._answers(requests, range(len(requests))):
            answers[at] = answer
        return answers

    def _answers(self, requests: Sequence[Request], chosen: Iterable[int]) -> Iterator[tuple[int, bytes | Failure]]:
        batch: list[bytes] = []
        first, size = self._last + 1, 0
        index: list[int] = []
        for at in chosen:
            octets = encode(requests[at], first + len(index))
            index.append(at)
            batch.append(octets)
            size += len(octets)
            if size > BATCH - 4096:
                yield from self._answered(batch, first, index)
                batch, index = [], []
                first, size = self._last + 1, 0
        if batch:
            yield from self._answered(batch, first, index)

    def _answered(self, batch: list[bytes], first: int, index: list[int]) -> Iterator[tuple[int, bytes | Failure]]:
        self._last += len(batch)
        for message in self.exchange(b"".join(batch)):
            if not 0 <= message.sequence - first < len(index):
                continue
            at = index[message.sequence - first]
            if message.type != ERROR:
                yield at, message.body
            elif why := failure(message):
                yield at, why

    def exchange(self, octets: bytes) -> list[Message]:
        """Send whole messages, in one system call, and return what the kernel says to them: errors and answers.

        OSError when it is not known what was done.
        """
        self._last += 1
        fence = self._last
        self._send(octets + HEADER.pack(16, NOOP, REQUEST | ACK, fence, 0))
        answers: list[Message] = []
        try:
            while True:
                for message in messages(self._receive()):
                    if message.type == ERROR and message.sequence == fence:
                        return answers
                    answers.append(message)
        except OSError:
            self._forget()
            raise

    def dump(self, kind: int, body: bytes, take: Callable[[Iterator[Message]], T]) -> T:
        """Read all objects of a kind as `take` makes of them, again when changes went through the reading.

        OSError when they cannot be read, or change all the time.
        """
        for _ in range(ATTEMPTS):
            try:
                return take(self._dumped(kind, body))
            except _Changed:
                continue
            except OSError:
                self._forget()
                raise
        raise OSError(errno.EAGAIN, f"netlink: what is read changed {ATTEMPTS} times while it was read")

    def _dumped(self, kind: int, body: bytes) -> Iterator[Message]:
        self._last += 1
        sequence, whole = self._last, True
        self._send(encode((kind, DUMP, body), sequence))
        while True:
            for message in messages(self._receive()):
                if message.sequence != sequence:
                    continue
                whole = whole and not message.flags & DUMP_INTR
                if message.type in (DONE, ERROR):
                    code = error_number(message)
                    if code not in (0, errno.ENOENT):  # a table that is not there has no routes
                        raise OSError(code, f"netlink: {os.strerror(code)}")
                    if not whole:
                        raise _Changed
                    return
                yield message

    def _send(self, octets: bytes) -> None:
        for attempt in range(ATTEMPTS):
            try:
                self._socket.send(octets)
                return
            except OSError as error:
                if error.errno not in TRANSIENT or attempt == ATTEMPTS - 1:
                    raise

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
        except BlockingIOError:
            raise OSError(errno.ENOBUFS, "netlink: an answer was lost; it is not known what was done") from None

    def _forget(self) -> None:
        while True:
            try:
                self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError:
                continue  # ENOBUFS is reported once, and there may be more behind it


class Notifications:
    """The socket on which the kernel tells what changed, except what the request socket with port `ours` caused."""

    def __init__(self, groups: Iterable[int], ours: int) -> None:
        self._socket = _opened()
        # Classic BPF, before the first notification can come: drop the message if the port id in its header is ours.
        # A load is in network order.
        program = b"".join(
            struct.pack("=HBBI", *instruction)
            for instruction in (
                (0x20, 0, 0, 12),  # load the word at 12
                (0x15, 0, 1, socket.htonl(ours)),  # equal: go on, else skip one
                (0x06, 0, 0, 0),  # return 0: drop
                (0x06, 0, 0, 0xFFFFFFFF),  # return all of it
            )
        )
        instructions = array("Q", program)
        address, length = instructions.buffer_info()
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("HP", length, address))
        for group in groups:
            self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def drained(self) -> Iterator[Message]:
        """Give what has come, without waiting; OSError (ENOBUFS) when some of it was lost."""
        while True:
            try:
                octets = self._socket.recv(1 << 18, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            yield from messages(octets)


def _opened() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.bind((0, 0))
    for option, weaker in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
        try:
            opened.setsockopt(socket.SOL_SOCKET, option, _BUFFER)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, weaker, _BUFFER)  # as much as net.core.?mem_max allows
    opened.setsockopt(_SOL_NETLINK, _EXT_ACK, 1)
    return opened


@contextlib.contextmanager
def _inside(namespace: int | None) -> Iterator[None]:
    if namespace is None:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        _enter(namespace)
        try:
            yield
        finally:
            _enter(home)
    finally:
        os.close(home)


def _enter(namespace: int) -> None:
    import ctypes  # os.setns is there from Python 3.12 on; few need this, and it takes memory

    if ctypes.CDLL(None, use_errno=True).setns(namespace, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"cannot enter a network namespace: {os.strerror(number)}")
