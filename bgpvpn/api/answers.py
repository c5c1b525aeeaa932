"""Answers: JSON, and errors in one shape, {"error": {"what", "where", "value", "message"}} (rim)."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.access import ForbiddenError
from bgpvpn.api.bodies import BodyError
from bgpvpn.intent import StoreError
from bgpvpn.objects import ConflictError, IntentError

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A request that ends with this status; `where` is a field or parameter, "" for the whole."""

    def __init__(self, status: HTTPStatus, where: str, value: object, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.where = where
        self.value = value


WHAT = {
    HTTPStatus.BAD_REQUEST: "validation",
    HTTPStatus.UNAUTHORIZED: "unauthorized",
    HTTPStatus.FORBIDDEN: "forbidden",
    HTTPStatus.NOT_FOUND: "not found",
    HTTPStatus.METHOD_NOT_ALLOWED: "method not allowed",
    HTTPStatus.REQUEST_TIMEOUT: "timeout",
    HTTPStatus.CONFLICT: "conflict",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too large",
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: "media type",
    HTTPStatus.INTERNAL_SERVER_ERROR: "internal",
    HTTPStatus.SERVICE_UNAVAILABLE: "unavailable",
}


def answer(content: object, status: HTTPStatus = HTTPStatus.OK) -> Response:
    """Return content as JSON."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def refusal(status: HTTPStatus, where: str, value: object, message: str) -> Response:
    """Return an error."""
    detail = {
        "what": WHAT.get(status, status.phrase.lower()),
        "where": where,
        "value": value if _is_plain(value) else None,
        "message": message,
    }
    return answer({"error": detail}, status)


def _is_plain(value: object) -> bool:
    """Tell whether a value can be in an answer; JSON of our encoder has integers of 64 bits."""
    if isinstance(value, int):
        return -(1 << 63) <= value < 1 << 64
    if isinstance(value, list | tuple):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(value, str | float)


async def on_intent_error(_: Request, error: Exception) -> Response:
    """A wish that cannot be: 400; 409 when only something else is in its way; 403 when others may wish it."""
    assert isinstance(error, IntentError)
    status = HTTPStatus.BAD_REQUEST
    if isinstance(error, ForbiddenError):
        status = HTTPStatus.FORBIDDEN
    elif isinstance(error, ConflictError):
        status = HTTPStatus.CONFLICT
    return refusal(status, error.field, error.value, str(error))


async def on_body_error(_: Request, error: Exception) -> Response:
    """A body that is not understood."""
    assert isinstance(error, BodyError)
    return refusal(HTTPStatus.BAD_REQUEST, error.where, error.value, str(error))


async def on_store_error(_: Request, error: Exception) -> Response:
    """The store does not take the change, and nothing was changed."""
    log.error("a change is refused: %s", error)
    return refusal(HTTPStatus.SERVICE_UNAVAILABLE, "store", None, str(error))


async def on_api_error(_: Request, error: Exception) -> Response:
    """What a handler found wrong itself."""
    assert isinstance(error, ApiError)
    response = refusal(error.status, error.where, error.value, str(error))
    if error.status == HTTPStatus.UNAUTHORIZED:
        response.headers["www-authenticate"] = "Bearer"
    return response


async def on_http_error(request: Request, error: Exception) -> Response:
    """What the framework found wrong: no such path, no such method."""
    assert isinstance(error, HTTPException)
    status, path = HTTPStatus(error.status_code), request.scope["path"]
    message = {
        HTTPStatus.NOT_FOUND: f"there is nothing at {path}",
        HTTPStatus.METHOD_NOT_ALLOWED: f"{request.method} is not for {path}",
    }.get(status, error.detail)
    response = refusal(status, "path", path, message)
    response.headers.update(error.headers or {})
    return response


async def on_any_error(request: Request, error: Exception) -> Response:
    """A fault of our own, which the server logs."""
    message = f"a fault in the daemon, {type(error).__name__}; its log has more"
    return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "", None, message)


HANDLERS: dict[Any, Any] = {
    IntentError: on_intent_error,
    BodyError: on_body_error,
    StoreError: on_store_error,
    ApiError: on_api_error,
    HTTPException: on_http_error,
    Exception: on_any_error,
}
