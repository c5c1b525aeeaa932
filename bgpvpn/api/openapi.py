"""The OpenAPI 3.1 document of the API, made of the same list of operations and the same structs (rim)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import attrs
import msgspec
from starlette.requests import Request
from starlette.responses import Response

import bgpvpn
from bgpvpn.api.bodies import ANSWER, CREATE, PATCH, ErrorBody
from bgpvpn.objects import Kind

Endpoint = Callable[[Request], Awaitable[Response]]

ERRORS = {
    "400": "the request is wrong",
    "401": "a token is wanted, or is not known",
    "403": "it is not for this caller",
    "404": "there is no such object, for this caller",
    "409": "something else is in its way",
    "413": "the body is too large",
    "415": "the body is not application/json",
    "503": "the store does not take the change, or too many clients are there",
}


@attrs.frozen
class Operation:
    """One method of one path."""

    method: str
    path: str
    endpoint: Endpoint
    summary: str
    returns: str  # a kind of objects; else "object", "array", or a media type of text
    takes: type[msgspec.Struct] | None = None  # the body, when it is not that of its kind
    filters: tuple[str, ...] = ()  # query parameters
    owners: bool = False  # whether it is for owners too, and not for operators only

    @property
    def body(self) -> type[msgspec.Struct] | None:
        """Return what the body must be."""
        if self.takes is not None:
            return self.takes
        kind: Kind | None = next((kind for kind in CREATE if kind == self.returns), None)
        if kind is None or self.method not in ("POST", "PATCH"):
            return None
        return (CREATE if self.method == "POST" else PATCH)[kind]

    @property
    def status(self) -> str:
        """Return how it ends when it is done."""
        if self.method == "POST":
            return "201" if self.returns in CREATE else "200"
        return "204" if self.method == "DELETE" else "200"

    @property
    def lists(self) -> bool:
        """Tell whether an answer has many objects."""
        return self.method == "GET" and self.returns in CREATE and not self.path.endswith("{ref}")


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Return the document as plain values."""
    structs = [*ANSWER.values(), *(each.body for each in operations if each.body is not None), ErrorBody]
    _, components = msgspec.json.schema_components(structs, ref_template="#/components/schemas/{name}")
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "bgpvpnd",
            "version": bgpvpn.__version__,
            "description": "The interface of a BGP VPN node, on a unix socket and, if configured, on TCP.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": components},
    }


def _described(operation: Operation) -> dict[str, Any]:
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "query", "schema": {"type": "string"}} for name in operation.filters
    ]
    if "{ref}" in operation.path:
        words = "id, or name when only one has it"
        parameters.insert(
            0, {"name": "ref", "in": "path", "required": True, "description": words, "schema": {"type": "string"}}
        )
    described: dict[str, Any] = {
        "summary": operation.summary if operation.owners else f"{operation.summary} (operators)",
        "operationId": _identifier(operation),
        "parameters": parameters,
        "responses": {
            operation.status: _success(operation),
            **{
                status: {"description": words, "content": _json({"$ref": "#/components/schemas/ErrorBody"})}
                for status, words in ERRORS.items()
            },
        },
    }
    if operation.body is not None:
        body = {"$ref": f"#/components/schemas/{operation.body.__name__}"}
        described["requestBody"] = {"required": True, "content": _json(body)}
    return described


def _success(operation: Operation) -> dict[str, Any]:
    if operation.method == "DELETE":
        return {"description": "it is gone"}
    if "/" in operation.returns:
        return {"description": "done", "content": {operation.returns: {"schema": {"type": "string"}}}}
    schema: dict[str, Any] = {"type": operation.returns}
    for kind, struct in ANSWER.items():
        if kind == operation.returns:
            schema = {"$ref": f"#/components/schemas/{struct.__name__}"}
    return {"description": "done", "content": _json({"type": "array", "items": schema} if operation.lists else schema)}


def _json(schema: dict[str, Any]) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _identifier(operation: Operation) -> str:
    words = operation.path.replace("/v1", "").replace("{ref}", "one").replace(".", "_").strip("/").split("/")
    return "_".join([operation.method.lower(), *words])
