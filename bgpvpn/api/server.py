"""Serving the API (rim): on a unix socket with a group and permissions, and on a TCP port of the loopback if wanted.

It runs in the event loop of the daemon. Bounded here are the connections, the head of a request, and the time that a
connection may take to say what it wants; bodies and watchers are bounded by their handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import shutil
import socket
import stat
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from bgpvpn.api.answers import refusal
from bgpvpn.api.app import Api
from bgpvpn.api.callers import peer_of

CONNECTIONS = 256
HEAD_OCTETS = 64 * 1024
IDLE_S = 30
LINGER_S = 1.0
STOP_S = 1.0


class _Connection(H11Protocol):
    """A connection that is ended when it has not asked for anything, in whole, some seconds after it could.

    uvicorn counts only from an answer to the next octet, so that a silent client and one that dribbles would stay.
    """

    _timer: asyncio.TimerHandle | None = None
    _refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": peer_of(transport.get_extra_info("socket"))}
        self._wait()
        if len(self.connections) > CONNECTIONS:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, f"{CONNECTIONS} clients are there already")

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._timer is not None:
            self._timer.cancel()

    def on_response_complete(self) -> None:
        self._wait()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, f"this is not HTTP/1.1, or its head is above {HEAD_OCTETS} octets")

    def _wait(self) -> None:
        self._call_later(self.timeout_keep_alive, self._give_up)

    def _call_later(self, seconds: float, what: Callable[[], None]) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(seconds, what)

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        """Answer before there is a request that a handler could answer.

        What the client still says is read and dropped for a moment: a connection that is closed with unread input is
        reset, and the client may never see the answer.
        """
        response = refusal(status, "", None, message)
        head = h11.Response(status_code=status, headers=[*response.raw_headers, (b"connection", b"close")])
        for event in (head, h11.Data(data=bytes(response.body)), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.write_eof()
        self._refused = True
        self._call_later(LINGER_S, self.transport.abort)


class ApiServer:
    """The API's sockets and what serves them."""

    def __init__(
        self,
        app: Starlette,
        *,
        path: Path | None,
        group: str = "",
        mode: int = 0o660,
        tcp: tuple[str, int] | None = None,
        idle_s: int = IDLE_S,
    ) -> None:
        """`group` "" leaves the daemon's own; `path` None: no unix socket; `tcp` is an address and port."""
        self._app = app
        self._path = path
        self._group = group
        self._mode = mode
        self._tcp = tcp
        self._sockets: list[socket.socket] = []
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                http=_Connection,
                loop="none",
                lifespan="off",
                ws="none",
                log_config=None,
                log_level="error",
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                h11_max_incomplete_event_size=HEAD_OCTETS,
                timeout_keep_alive=idle_s,
            )
        )

    async def start(self) -> None:
        """Listen; OSError names the socket that cannot be had, LookupError a group that does not exist."""
        try:
            if self._tcp is not None:
                self._sockets.append(_tcp_socket(*self._tcp))
            if self._path is not None:
                self._sockets.append(_unix_socket(self._path, self._group, self._mode))
            # What uvicorn's serve() does, without its signal handlers and its clock: those are the daemon's business.
            self._server.config.load()
            self._server.lifespan = self._server.config.lifespan_class(self._server.config)
            await self._server.startup(self._sockets)
        except BaseException:
            self._close()
            raise

    async def stop(self) -> None:
        """End the streams, answer what is being asked for at most a second, then close."""
        if isinstance(self._app, Api):
            self._app.watchers.end()
        if self._server.started:
            late = asyncio.get_running_loop().call_later(STOP_S, self._abort)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(2 * STOP_S):  # a connection that comes now is not waited for
                    await self._server.shutdown(self._sockets)
            late.cancel()
        self._close()

    def _abort(self) -> None:
        for connection in list(self._server.server_state.connections):
            connection.transport.abort()

    def _close(self) -> None:
        for each in self._sockets:
            if each.family == socket.AF_UNIX and self._path is not None:
                self._path.unlink(missing_ok=True)
            each.close()
        self._sockets = []


def _unix_socket(path: Path, group: str, mode: int) -> socket.socket:
    """Bind to a path; a socket that was left there by a dead daemon is replaced, anything else is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if os.path.lexists(path):
            _remove_stale(path)
        mask = os.umask(0o777)  # nobody connects before the permissions are right
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        try:
            if group:
                shutil.chown(path, group=group)
            path.chmod(mode)
        except BaseException:
            path.unlink()
            raise
    except OSError as error:
        listener.close()
        raise OSError(error.errno or 0, f"the API cannot listen on {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket on which nobody listens."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise FileExistsError(errno.EEXIST, "there is something that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
        except BlockingIOError:
            pass  # its queue is full, so that somebody has it
    raise OSError(errno.EADDRINUSE, "another process listens there")


def _tcp_socket(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno or 0, f"the API cannot listen on {address} port {port}: {error.strerror}") from error
    return listener
