"""A client of a node's API over a unix socket or TCP, with a token or without, of the standard library alone (rim)."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any
from urllib.parse import urlsplit


class UnreachableError(Exception):
    """No answer came; whether the node did what was asked is not known."""


class RefusedError(Exception):
    """The node answered with an error: its status, and the field that is wrong, "" for the whole."""

    def __init__(self, status: int, where: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.where = where


class NodeApi:
    """One node; every call is a connection of its own, so that threads share it."""

    def __init__(self, url: str, token: str = "", timeout_s: float = 10.0) -> None:
        """`url`: "unix:/run/bgpvpn/api.sock", "http://192.0.2.1:8179", or the same with https."""
        self.url = url
        self._token = token
        self._timeout_s = timeout_s
        scheme, _, path = url.partition(":")
        self._path = path if scheme == "unix" else ""
        parts = urlsplit(url)
        if scheme == "unix":
            if not path.startswith("/"):
                raise ValueError(f"{url!r} takes an absolute path: unix:/run/bgpvpn/api.sock")
        elif scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise ValueError(f"{url!r} is neither unix:/PATH nor http://HOST:PORT nor https://HOST:PORT")
        self._scheme, self._host, self._port = scheme, parts.hostname or "", parts.port

    def ask(self, method: str, path: str, body: object = None) -> Any:
        """Return what the node answers; UnreachableError or RefusedError if that is not success."""
        headers = {"Accept": "application/json", "Connection": "close"}
        octets = None
        if body is not None:
            octets = json.dumps(body, separators=(",", ":")).encode()
            headers["Content-Type"] = "application/json"
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        connection = self._connection()
        try:
            connection.request(method, path, octets, headers)
            response = connection.getresponse()
            answered = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(f"{self.url}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        try:
            plain = json.loads(answered) if answered else None
        except ValueError:
            plain = None
        if response.status >= 400:
            told = plain.get("error", {}) if isinstance(plain, dict) else {}
            message = told.get("message") or f"{method} {path} ended with status {response.status}"
            raise RefusedError(response.status, told.get("where") or "", message)
        return plain

    def _connection(self) -> http.client.HTTPConnection:
        if self._path:
            return _UnixConnection(self._path, self._timeout_s)
        kind = http.client.HTTPSConnection if self._scheme == "https" else http.client.HTTPConnection
        return kind(self._host, self._port, timeout=self._timeout_s)


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
