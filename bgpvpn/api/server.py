"""Serving the API (rim): on a unix socket with a group and permissions, and on a TCP port of the loopback if wanted.

It runs in the event loop of the daemon. Bounded here are the connections, the head of a request and the time that a
connection idles; bodies and watchers are bounded by their handlers.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import uvicorn
from starlette.applications import Starlette

CONNECTIONS = 256
HEAD_OCTETS = 64 * 1024
IDLE_S = 30
STOP_S = 1


class _Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers, which are the daemon's business, and with word of when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listens.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class ApiServer:
    """The API's sockets and what serves them."""

    def __init__(
        self, app: Starlette, *, path: Path, group: str = "", mode: int = 0o660, tcp: tuple[str, int] | None = None
    ) -> None:
        """`group` "" leaves the daemon's own; `tcp` is an address and port of the loopback."""
        self._path = path
        self._group = group
        self._mode = mode
        self._tcp = tcp
        self._sockets: list[socket.socket] = []
        self._task: asyncio.Task[None] | None = None
        self._server = _Uvicorn(
            uvicorn.Config(
                app,
                http="h11",
                loop="none",
                lifespan="off",
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                date_header=False,
                proxy_headers=False,
                limit_concurrency=CONNECTIONS,
                h11_max_incomplete_event_size=HEAD_OCTETS,
                timeout_keep_alive=IDLE_S,
                timeout_graceful_shutdown=STOP_S,
            )
        )

    async def start(self) -> None:
        """Listen; OSError names the socket that cannot be had, LookupError a group that does not exist."""
        try:
            self._sockets.append(_unix_socket(self._path, self._group, self._mode))
            if self._tcp is not None:
                self._sockets.append(_tcp_socket(*self._tcp))
        except BaseException:
            self._close()
            raise
        self._task = asyncio.create_task(self._server.serve(self._sockets), name="api")
        await self._server.listens.wait()

    async def stop(self) -> None:
        """Answer what is being asked for at most a second, then close."""
        self._server.should_exit = True
        if self._task is not None:
            await self._task
        self._close()

    def _close(self) -> None:
        for each in self._sockets:
            each.close()
        self._sockets = []
        self._path.unlink(missing_ok=True)


def _unix_socket(path: Path, group: str, mode: int) -> socket.socket:
    """Listen on a path; a socket that was left there by a dead daemon is replaced, anything else is not."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        if path.exists():
            if not stat.S_ISSOCK(path.stat().st_mode):
                raise FileExistsError(f"{path} is there and not a socket")
            path.unlink()
        mask = os.umask(0o777)  # nobody connects before the permissions are right
        try:
            listener.bind(str(path))
        finally:
            os.umask(mask)
        if group:
            shutil.chown(path, group=group)
        path.chmod(mode)
    except OSError as error:
        listener.close()
        raise OSError(error.errno or 0, f"the API cannot listen on {path}: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def _tcp_socket(address: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
    except OSError as error:
        listener.close()
        raise OSError(error.errno or 0, f"the API cannot listen on {address} port {port}: {error.strerror}") from error
    return listener
