"""What handlers take from a request, and its bounds (rim)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from ipaddress import ip_address

from starlette.requests import ClientDisconnect, Request

from bgpvpn.api.answers import ApiError

BODY_OCTETS = 1 << 20
BODY_S = 10.0


async def body_of(request: Request) -> bytes:
    """Return the body of a request, bounded in size and time."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json":
        message = "the body must be application/json"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", media_type, message)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for part in request.stream():
                body += part
                if len(body) > BODY_OCTETS:
                    message = f"the body has more than {BODY_OCTETS} octets"
                    raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", None, message)
    except TimeoutError:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "body", None, f"the body took more than {BODY_S:g} s") from None
    except ClientDisconnect:
        raise ApiError(HTTPStatus.BAD_REQUEST, "body", None, "the client went away") from None
    return bytes(body)


def parameters_of(request: Request, known: tuple[str, ...]) -> dict[str, str]:
    """Return the query parameters; ApiError names one that is not known."""
    for name, value in request.query_params.items():
        if name not in known:
            message = f"{name}: is not known; there are {', '.join(known)}"
            raise ApiError(HTTPStatus.BAD_REQUEST, name, value, message)
    return dict(request.query_params)


def check_host(request: Request) -> None:
    """Refuse a browser that was led here by a name of somebody else (DNS rebinding)."""
    server, host = request.scope.get("server"), request.url.hostname or ""
    if server is None or server[1] is None or host == "localhost":
        return
    try:
        ip_address(host)
    except ValueError:
        raise ApiError(HTTPStatus.FORBIDDEN, "host", host, f"this host is not called {host!r}") from None
