"""The node as an object: derived from what it is and serves, and changed nowhere (rim)."""

from __future__ import annotations

from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.boundary import Node


class Nodes:
    """The handlers; there is one node, that which is asked."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def show_all(self, request: Request) -> Response:
        return answer([self.node.itself()])

    async def show(self, request: Request) -> Response:
        ref, itself = request.path_params["ref"], self.node.itself()
        if ref not in (itself["id"], itself["host"]):
            raise ApiError(HTTPStatus.NOT_FOUND, "path", ref, f"there is no node {ref!r}")
        return answer(itself)
