"""Errors as Neutron says them: {"NeutronError": {"type", "message", "detail"}} (rim).

Clients look at the status and the type, and show people the message. What intent refuses is said with the field's name
as intent has it, unless the resource knows a better type (`resource.Resource.refusal`).
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.responses import Response

from bgpvpn.access import ForbiddenError
from bgpvpn.api.answers import ApiError, answer
from bgpvpn.intent import StoreError
from bgpvpn.objects import ConflictError, IntentError

log = logging.getLogger(__name__)

WORDS = 1000
"""A message has at most so many characters: values of clients are in it."""


class NeutronError(Exception):
    """A request that ends with this status; `kind` is the name of Neutron's exception."""

    def __init__(self, status: HTTPStatus, kind: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


class BadRequest(NeutronError):
    """A request that is not understood."""

    def __init__(self, message: str, kind: str = "HTTPBadRequest") -> None:
        super().__init__(HTTPStatus.BAD_REQUEST, kind, message)


class NotFound(NeutronError):
    """Something is not there, for this caller at least."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(HTTPStatus.NOT_FOUND, kind, message)


class Conflict(NeutronError):
    """Something else is in the way."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(HTTPStatus.CONFLICT, kind, message)


def invalid(field: str, reason: object) -> BadRequest:
    """Return the error for a value that cannot be."""
    return BadRequest(f"Invalid input for {field}. Reason: {reason}.")


EXPECTED = (NeutronError, IntentError, StoreError, ApiError)
"""What a request may end with; anything else is a fault of our own."""


def error_of(error: Exception) -> NeutronError:
    """Return how Neutron would say it."""
    match error:
        case NeutronError():
            return error
        case ForbiddenError():
            return NeutronError(HTTPStatus.FORBIDDEN, "PolicyNotAuthorized", str(error))
        case ConflictError(field="name"):
            return Conflict("Conflict", f"{error}. Here a project has a name once for each kind, unlike in Neutron.")
        case ConflictError():
            return Conflict("Conflict", str(error))
        case IntentError():
            return invalid(error.field, error.reason)
        case StoreError():
            log.error("a change is refused: %s", error)
            return NeutronError(HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", str(error))
        case ApiError():
            return NeutronError(error.status, f"HTTP{error.status.phrase.title().replace(' ', '')}", str(error))
    raise error


def refusal(error: Exception) -> Response:
    """Return the answer to a request that ended with an error."""
    said = error_of(error)
    detail = {"type": said.kind, "message": str(said)[:WORDS], "detail": ""}
    return answer({"NeutronError": detail}, said.status)
