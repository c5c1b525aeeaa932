"""What handlers take from a request, and its bounds (rim)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect, Request

from bgpvpn.access import Caller
from bgpvpn.api.answers import ApiError

BODY_OCTETS = 1 << 20
BODY_S = 10.0


async def body_of(
    request: Request,
    within_s: float = BODY_S,
    *,
    media_type: str | None = "application/json",
    most: int = BODY_OCTETS,
) -> bytes:
    """Return the body of a request, bounded in size and time; `media_type` None: whatever it says that it is."""
    given = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in (None, given):
        message = f"the body must be {media_type}"
        raise ApiError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "content-type", given, message)
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for part in request.stream():
                body += part
                if len(body) > most:
                    message = f"the body has more than {most} octets"
                    raise ApiError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body", None, message)
    except TimeoutError:
        raise ApiError(HTTPStatus.REQUEST_TIMEOUT, "body", None, f"the body took more than {within_s:g} s") from None
    except ClientDisconnect:
        raise ApiError(HTTPStatus.BAD_REQUEST, "body", None, "the client went away") from None
    return bytes(body)


def caller_of(request: Request) -> Caller:
    """Return who makes a request."""
    caller: Caller = request.state.caller
    return caller


def check_parameters(request: Request, known: tuple[str, ...]) -> None:
    """Refuse query parameters that are not known, which may be secrets put in the wrong place, or given twice."""
    for name, value in request.query_params.items():
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none here"
            raise ApiError(HTTPStatus.BAD_REQUEST, name, None, f"{name}: is not known; {there}")
        if len(request.query_params.getlist(name)) > 1:
            raise ApiError(HTTPStatus.BAD_REQUEST, name, value, f"{name}: is there more than once")


def check_host(request: Request) -> None:
    """Refuse a browser that was led here by a name of somebody else (DNS rebinding)."""
    server, host = request.scope.get("server"), request.headers.get("host", "localhost")
    if server is None or server[1] is None:
        return
    try:
        name = urlsplit(f"//{host}").hostname or ""
        if name != "localhost":
            ip_address(name)
    except ValueError:
        raise ApiError(HTTPStatus.FORBIDDEN, "host", host, f"this host is not called {host!r}") from None
