"""Who calls (rim): the process at the other end of the unix socket, by what the kernel says of it, or a token.

    unix socket   SO_PEERCRED and SO_PEERGROUPS: user and groups of the process when it connected; a token goes before
    TCP           a token; without any client configured nobody is asked, and only the loopback is listened on

Without clients everybody who comes through is an operator. With clients one that is none of them is refused, but for
root and the daemon's own user on the unix socket.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Literal

import attrs

from bgpvpn.access import Caller
from bgpvpn.api.answers import ApiError
from bgpvpn.config import ClientConfig

SO_PEERGROUPS = 59  # asm-generic/socket.h; Python does not name it
MOST_OCTETS = 1024  # that Python takes of a socket option: 256 groups


@attrs.frozen
class Peer:
    """The process at the other end of a unix socket, as it was when it connected."""

    uid: int
    gids: frozenset[int]


def peer_of(connection: Any) -> Peer | None:
    """Return who is at the other end of a socket; None: it is not a unix socket."""
    if connection is None or connection.family != socket.AF_UNIX:
        return None
    _, uid, gid = struct.unpack("iII", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    try:
        octets = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, MOST_OCTETS)
    except OSError:  # more groups than that, or a kernel before Linux 4.13
        octets = b""
    return Peer(uid, frozenset({gid, *struct.unpack(f"{len(octets) // 4}I", octets)}))


class Callers:
    """Those who may call, in the order of the configuration: the first that fits is who calls."""

    def __init__(self, clients: Sequence[ClientConfig] = (), own_uid: int | None = None) -> None:
        """`own_uid` is the daemon's own user; None: that of this process."""
        self.clients = tuple(clients)
        self.own_uid = os.geteuid() if own_uid is None else own_uid

    @property
    def asks_for_tokens(self) -> bool:
        """Whether a caller by TCP needs a token."""
        return bool(self.clients)

    def of(self, scope: Any) -> Caller:
        """Return who makes a request (an ASGI scope); ApiError 401 or 403 if it is nobody who may."""
        peer: Peer | None = scope["state"].get("peer")
        token = _token(scope["headers"])
        if token is not None and any(client.digest for client in self.clients):
            return self._by_token(token)
        if peer is None:
            if not self.clients:
                return Caller(f"TCP {(scope.get('client') or ['?'])[0]}", "operator")
            message = "a token is wanted: Authorization: Bearer TOKEN, or X-Auth-Token: TOKEN"
            raise ApiError(HTTPStatus.UNAUTHORIZED, "authorization", None, message)
        name = f"uid {peer.uid}"
        if not self.clients or peer.uid in (0, self.own_uid):
            return Caller(name, "operator")
        for client in self.clients:
            if client.uid == peer.uid:
                return _caller(client, f"user {client.user}")
            if client.gid in peer.gids:
                return _caller(client, f"{name} of group {client.group}")
        message = f"{name} has no role here; an operator gives one in [[api.client]] of the configuration"
        raise ApiError(HTTPStatus.FORBIDDEN, "role", name, message)

    def _by_token(self, token: bytes) -> Caller:
        digest = hashlib.sha256(token).digest()
        # All are compared, each in constant time, so that time tells nothing of them.
        found = [each for each in self.clients if each.digest and hmac.compare_digest(each.digest, digest)]
        if not found:
            raise ApiError(HTTPStatus.UNAUTHORIZED, "authorization", None, "nobody here has this token")
        return _caller(found[0], f"token {found[0].token_name}")


def _caller(client: ClientConfig, name: str) -> Caller:
    role: Literal["operator", "owner"] = "operator" if client.role == "operator" else "owner"
    return Caller(name, role, client.project)


def _token(headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """Return the token that a request has, if any."""
    given = dict(reversed(headers))  # the first of a name counts
    scheme, _, token = given.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer" and token.strip():
        return token.strip()
    return given.get(b"x-auth-token", b"").strip() or None
