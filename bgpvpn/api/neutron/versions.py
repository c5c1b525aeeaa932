"""The versions of Neutron's API: the one that there is, and its collections (rim)."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.neutron.listing import origin


class Versions:
    """What a client asks first."""

    def __init__(self, collections: Sequence[tuple[str, str, str]]) -> None:
        """`collections`: the name of one, of several, and the path of each."""
        self.collections = collections

    async def show_all(self, node: Node, request: Request) -> Response:
        return answer({"versions": [_version(request)]})

    async def show(self, node: Node, request: Request) -> Response:
        rows = [
            {"name": name, "collection": plural, "links": [_self(request, f"v2.0/{path}")]}
            for name, plural, path in self.collections
        ]
        return answer({"version": _version(request), "resources": rows})


def _version(request: Request) -> Plain:
    return {"id": "v2.0", "status": "CURRENT", "links": [_self(request, "v2.0/")]}


def _self(request: Request, path: str) -> Plain:
    return {"rel": "self", "href": f"{origin(request)}/{path}"}
