"""HTTP to the daemon, over its unix socket or TCP, there with a token if the daemon wants one.

    api = Api("/run/bgpvpn/api.sock")
    api.get("bgpvpns", "blue")  # GET /v1/bgpvpns/blue

What can go wrong is one of three exceptions, each with the exit status of the command: Refused 1, Unreachable 3,
Fault 4.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

import click

from cli.output import cell, escaped

if TYPE_CHECKING:
    import http.client

SOCKET = "/run/bgpvpn/api.sock"
ANSWER_S = 30.0
PIECE_OCTETS = 64 * 1024
SILENCE_S = 60.0  # on a stream of events the daemon says something every 15 s


class ApiError(click.ClickException):
    """The daemon did not do what it was asked; the message may hold text of others."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"error: {self.format_message()}", file=file, err=file is None)

    def format_message(self) -> str:
        return escaped(self.message)


class Refused(ApiError):
    """The daemon does not accept the wish, or what it is about is not there.

    `what` is the sort of refusal ("validation", "not found", "conflict"), `where` a field or "" for the whole.
    """

    exit_code = 1

    def __init__(self, message: str, what: str = "", where: str = "", value: object = None) -> None:
        super().__init__(message)
        self.what = what
        self.where = where
        self.value = value

    def format_message(self) -> str:
        message, value = super().format_message(), cell(self.value)
        told = self.value is None or value in message
        return message if told else f"{message}\n  {escaped(self.where)}: {value}"


class Unreachable(ApiError):
    """Nobody answers, or not to the end."""

    exit_code = 3


class Fault(ApiError):
    """The daemon failed by its own word, or says what is not understood."""

    exit_code = 4


class Api:
    """The daemon at an address, the path of a socket or http[s]://HOST:PORT; each request is a connection.

    `token_file`: the first line is the token that says who asks.
    """

    def __init__(self, address: str = SOCKET, timeout_s: float = ANSWER_S, token_file: str | None = None) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.token_file = token_file

    def get(self, *path: str, **query: str | None) -> Any:
        """Return what is there; a query that is None is not made."""
        return self._ask("GET", _target(path, query))

    def post(self, body: object, *path: str) -> Any:
        """Make something; return it."""
        return self._ask("POST", _target(path), body)

    def patch(self, body: object, *path: str) -> Any:
        """Change something; return it as it is now."""
        return self._ask("PATCH", _target(path), body)

    def delete(self, *path: str) -> None:
        """Remove something."""
        self._ask("DELETE", _target(path))

    @contextlib.contextmanager
    def events(self) -> Iterator[Iterator[dict[str, Any]]]:
        """Give what happens from now on, as an iterator; when the daemon ends it raises Unreachable."""
        with self._answer("GET", "/v1/events", None, SILENCE_S) as response:
            if response.status != 200:
                raise _failure(response.status, response.read())
            yield self._each(response)

    @contextlib.contextmanager
    def octets(self, *path: str, **query: str | None) -> Iterator[Iterator[bytes]]:
        """Give an answer that is not JSON, in pieces as they come; Unreachable if it is cut off."""
        with self._answer("GET", _target(path, query), None, self.timeout_s) as response:
            if response.status != 200:
                raise _failure(response.status, response.read())
            yield self._pieces(response)

    def _pieces(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        from http.client import HTTPException

        try:
            while piece := response.read1(PIECE_OCTETS):
                yield piece
        except (HTTPException, OSError) as error:
            raise Unreachable(f"the daemon at {self.address} did not answer to the end") from error

    def _each(self, lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
        for line in lines:
            if line.startswith(b"data: "):
                yield _decoded(line[6:])
        raise Unreachable(f"the daemon at {self.address} has ended")

    def _ask(self, method: str, target: str, body: object = None) -> Any:
        with self._answer(method, target, body, self.timeout_s) as response:
            status, octets = response.status, response.read()
        if status >= 300:
            raise _failure(status, octets)
        return _decoded(octets) if octets else None

    @contextlib.contextmanager
    def _answer(self, method: str, target: str, body: object, timeout_s: float) -> Iterator[http.client.HTTPResponse]:
        """Connect, ask, and let the answer be read."""
        from http.client import HTTPException

        content = None if body is None else json.dumps(body).encode()
        headers = {} if content is None else {"Content-Type": "application/json"}
        if self.token_file is not None:
            headers["Authorization"] = f"Bearer {_token(self.token_file)}"
        connection = self._connected(timeout_s)
        try:
            connection.request(method, target, content, headers)
            yield connection.getresponse()
        except (HTTPException, OSError) as error:
            why = f"no answer within {timeout_s:g} s" if isinstance(error, TimeoutError) else str(error) or repr(error)
            unknown = "" if method == "GET" else "; whether the change was made is not known"
            raise Unreachable(f"the daemon at {self.address} does not answer: {why}{unknown}") from error
        finally:
            connection.close()

    def _connected(self, timeout_s: float) -> http.client.HTTPConnection:
        import socket
        from http.client import HTTPConnection, HTTPSConnection

        host, port = _place(self.address)
        secure = self.address.startswith("https:")
        connection = (HTTPSConnection if secure else HTTPConnection)(host, port, timeout=timeout_s)
        try:
            if port is not None:
                connection.connect()
            else:
                connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                connection.sock.settimeout(timeout_s)
                connection.sock.connect(self.address)
        except OSError as error:
            connection.close()
            raise Unreachable(f"cannot reach the daemon at {self.address}: {_why(error, self.address)}") from error
        return connection


def _place(address: str) -> tuple[str, int | None]:
    """Return the host and port of an address; a unix socket has no port."""
    if "://" not in address:
        return "localhost", None
    with contextlib.suppress(ValueError):
        split = urlsplit(address)
        if split.scheme in ("http", "https") and split.hostname and split.path in ("", "/"):
            return split.hostname, split.port or (443 if split.scheme == "https" else 80)
    raise click.UsageError(f"--api takes the path of a socket or http[s]://HOST:PORT, not {address!r}")


def _token(name: str) -> str:
    """Return the first line of a file."""
    try:
        with click.open_file(name) as file:
            token = str(file.readline()).strip()
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise click.UsageError(f"--token-file: {name} cannot be read: {reason}") from None
    if not token or not token.isascii() or not token.isprintable():
        raise click.UsageError(f"--token-file: there is no token in the first line of {name}")
    return token


def _why(error: OSError, path: str) -> str:
    match error:
        case FileNotFoundError():
            return "there is no such socket; is bgpvpnd running?"
        case ConnectionRefusedError():
            return "nobody listens there; is bgpvpnd running?"
        case PermissionError():
            return f"permission denied{_group(path)}"
        case _:
            return error.strerror or str(error) or type(error).__name__


def _group(path: str) -> str:
    """Return, in words, who may use a socket, as far as one may know."""
    import grp

    with contextlib.suppress(OSError, KeyError):
        return f"; it is for root and the group {grp.getgrgid(os.stat(path).st_gid).gr_name}"
    return ""


def _target(path: tuple[str, ...], query: Mapping[str, str | None] | None = None) -> str:
    for part in path:
        if not part or "/" in part:
            raise click.UsageError(f"a name is not empty and has no slash: {part!r}")
    asked = urlencode({name: text for name, text in (query or {}).items() if text is not None})
    return "/v1/" + "/".join(quote(part, safe="") for part in path) + (f"?{asked}" if asked else "")


def _decoded(octets: bytes) -> Any:
    try:
        return json.loads(octets)
    except ValueError as error:
        raise Fault(f"what the daemon says is not JSON: {error}") from error


def _failure(status: int, octets: bytes) -> ApiError:
    """Return what an answer of 300 and above is, whoever wrote it."""
    try:
        error = json.loads(octets)["error"]
        message, what, where = (str(error[name]) for name in ("message", "what", "where"))
        value = error["value"]
    except (ValueError, LookupError, TypeError):
        said = octets.decode(errors="replace").strip()
        message = f"HTTP status {status}: {said or 'the daemon says no more'}"
        what, where, value = "", "", None
    return Fault(message) if status >= 500 else Refused(message, what, where, value)
