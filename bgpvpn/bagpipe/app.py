"""The REST API of bagpipe-bgp (rim): attach, detach, ping and looking glass, as its clients know them.

It has no access control, as bagpipe-bgp's has none: so only who is on this node may attach and detach, and no browser.
"""

from __future__ import annotations

import html
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bgpvpn.access import Caller
from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.requests import body_of, check_host
from bgpvpn.api.writing import write
from bgpvpn.bagpipe import request as requests
from bgpvpn.bagpipe import wishes
from bgpvpn.bagpipe.looking_glass import BASE, LookingGlass, Node
from bgpvpn.bagpipe.pings import Pings
from bgpvpn.intent import Intent, Object, Removal, StoreError
from bgpvpn.objects import IntentError

log = logging.getLogger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]


def application(
    node: Node, looking_glass: LookingGlass, bridges: requests.Bridges, pings: Pings | None = None
) -> Starlette:
    """Return the API of a node, to be served in the thread of its event loop; without `pings` /ping never changes."""
    ignored: set[str] = set()  # what was asked for in vain, told once

    async def nothing(_: Request) -> Response:
        return answer({})

    async def ping(request: Request) -> Response:
        return answer(node.identity if pings is None else pings.answer(request.headers.get("user-agent", "")))

    async def attach(request: Request) -> Response:
        def meant(given: object, intent: Intent) -> list[Object | Removal]:
            asked = requests.attach(given, bridges)
            if new := set(asked.ignored) - ignored:
                ignored.update(new)
                log.warning("bagpipe=attach vpn=%s ignored=%s", asked.instance, ",".join(sorted(new)))
            return wishes.attach(intent, asked)

        return await _write(node, request, meant)

    async def detach(request: Request) -> Response:
        return await _write(node, request, lambda given, intent: wishes.detach(intent, requests.detach(given)))

    async def look(request: Request) -> Response:
        path = request.scope.get("raw_path", request.scope["path"].encode()).decode("latin-1").partition("?")[0]
        elements = [unquote(each) for each in path.removeprefix(f"/{BASE}").split("/") if each]
        found = looking_glass.at(elements, f"{request.url.scheme}://{request.headers.get('host', 'localhost')}")
        return answer(found)

    app = Starlette(
        routes=[
            _route("/", GET=nothing),
            _route("/ping", GET=ping, POST=ping),
            _route("/attach_localport", GET=nothing, POST=attach),
            _route("/detach_localport", GET=nothing, POST=detach),
            _route(f"/{BASE}", GET=look),
            _route(f"/{BASE}/{{path:path}}", GET=look),
        ],
        exception_handlers={
            requests.RequestError: _on_bad_request,
            IntentError: _on_bad_request,
            StoreError: _on_store_error,
            ApiError: _on_api_error,
            LookupError: _on_missing,
            HTTPException: _on_http_error,
            Exception: _on_any_error,
        },
    )
    app.router.redirect_slashes = False
    return app


def _route(path: str, **methods: Endpoint) -> Route:
    async def dispatch(request: Request) -> Response:
        _check_origin(request)
        return await methods["GET" if request.method == "HEAD" else request.method](request)

    return Route(path, dispatch, methods=list(methods))


def _check_origin(request: Request) -> None:
    """Refuse changes from other machines, and pages in a browser, which could reach the loopback.

    Whoever may look from elsewhere may call this node by its name.
    """
    client, server = request.client, request.scope.get("server")
    changes = request.method == "POST"
    if changes or (server is not None and ip_address(server[0]).is_loopback):
        check_host(request)
    if not changes:
        return
    if "origin" in request.headers:
        raise ApiError(HTTPStatus.FORBIDDEN, "", None, "this is not for pages in a browser")
    if (
        client is not None
        and server is not None
        and client.host != server[0]
        and not ip_address(client.host).is_loopback
    ):
        raise ApiError(HTTPStatus.FORBIDDEN, "", None, "only who is on this node may attach and detach")


async def _write(node: Node, request: Request, meant: Callable[[object, Intent], list[Object | Removal]]) -> Response:
    """Do what a body asks for, all of it or nothing."""
    body = await body_of(request, media_type=None)
    try:
        given = msgspec.json.decode(body)
    except (ValueError, RecursionError):  # DecodeError is a ValueError
        raise ApiError(HTTPStatus.BAD_REQUEST, "", None, "No local port details received") from None
    client = request.client.host if request.client is not None else "?"
    write(node, meant(given, node.intent), Caller(f"bagpipe {client}", "operator"))
    return answer(None)


# Errors, in the form that the client accepts


async def _on_bad_request(request: Request, error: Exception) -> Response:
    log.warning("bagpipe=%s refused=%r", request.url.path.strip("/"), str(error))
    return _refusal(request, HTTPStatus.BAD_REQUEST, f"API error: {error}")


async def _on_store_error(request: Request, error: Exception) -> Response:
    log.error("bagpipe=%s refused=%r", request.url.path.strip("/"), str(error))
    return _refusal(request, HTTPStatus.SERVICE_UNAVAILABLE, str(error))


async def _on_api_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)
    return _refusal(request, error.status, str(error))


async def _on_missing(request: Request, error: Exception) -> Response:
    return _refusal(request, HTTPStatus.NOT_FOUND, f"No such looking glass object: {error}")


async def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    response = _refusal(request, HTTPStatus(error.status_code), error.detail)
    response.headers.update(error.headers or {})
    return response


async def _on_any_error(request: Request, error: Exception) -> Response:
    return _refusal(
        request, HTTPStatus.INTERNAL_SERVER_ERROR, f"a fault in the daemon, {type(error).__name__}; its log has more"
    )


def _refusal(request: Request, status: HTTPStatus, description: str) -> Response:
    accepted = request.headers.get("accept", "")
    if "application/json" in accepted:
        content: dict[str, Any] = {"code": status.value, "title": status.phrase, "description": description}
        return answer(content, status)
    title = f"{status.value} {status.phrase}"
    if "text/html" in accepted or "*/*" in accepted:
        words = html.escape(description)
        page = f"<html><head><title>{title}</title></head><body><h1>{title}</h1>{words}</body></html>"
        return Response(page, status, media_type="text/html")
    return Response(f"{title}\n\n{description}\n", status, media_type="text/plain")
