"""Connecting: one attempt to reach a neighbour (rim)."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from speaker.signatures import set_ao, set_md5
from speaker.sockets import Endpoint, family_of, protect


class Attempt:
    """An attempt under way: `connected` takes the socket, or `refused` the reason, in a later turn of the loop."""

    def __init__(
        self,
        endpoint: Endpoint,
        *,
        ibgp: bool,
        connected: Callable[[socket.socket], None],
        refused: Callable[[str], None],
    ) -> None:
        self._connected = connected
        self._refused = refused
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None  # None: it is over
        try:
            self._socket = socket.socket(family_of(endpoint.address), socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            code = self._begin(self._socket, endpoint, ibgp)
            failure = os.strerror(code)
        except OSError as error:
            code, failure = error.errno or errno.EIO, error.strerror or str(error)
        if code == errno.EINPROGRESS and self._socket is not None:
            self._loop.add_writer(self._socket, self._end)
        else:
            self._loop.call_soon(*((self._fail, failure) if code else (self._end,)))

    @staticmethod
    def _begin(connecting: socket.socket, endpoint: Endpoint, ibgp: bool) -> int:
        protect(connecting, endpoint, ibgp=ibgp)
        if endpoint.password is not None:
            set_md5(connecting, endpoint.address, endpoint.password)
        set_ao(connecting, endpoint.address, endpoint.ao_keys)
        if endpoint.source is not None:
            connecting.bind((endpoint.source, 0))
        return connecting.connect_ex((endpoint.address, endpoint.port))

    def cancel(self) -> None:
        """Give it up; neither answer comes any more."""
        self._refused = lambda reason: None
        self._fail("")

    def _end(self) -> None:
        if self._socket is None:  # cancelled before this call came
            return
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._fail(os.strerror(code))
            return
        connected, self._socket = self._socket, None
        self._loop.remove_writer(connected)
        self._connected(connected)

    def _fail(self, reason: str) -> None:
        if self._socket is not None:
            self._loop.remove_writer(self._socket)
            self._socket.close()
            self._socket = None
        self._refused(reason)
