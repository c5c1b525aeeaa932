"""All routes in MRT format, as a stream (rim)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bgpvpn.api.answers import ApiError
from bgpvpn.api.boundary import Node

MEDIA_TYPE = "application/octet-stream"
VIEWS = ("post-policy", "pre-policy")


class Mrt:
    """The dump of the tables."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def dump(self, request: Request) -> Response:
        """Answer with the routes of `families`, comma-separated, of all without; `view` is one of VIEWS."""
        asked = request.query_params
        view = asked.get("view", "post-policy")
        if view not in VIEWS:
            raise ApiError(HTTPStatus.BAD_REQUEST, "view", view, f"view: takes {' or '.join(VIEWS)}, not {view!r}")
        families = [text for text in asked.get("families", "").split(",") if text]
        try:
            records = self.node.mrt(families, pre_policy=view == "pre-policy")
        except ValueError as error:
            message = f"families: {error}"
            raise ApiError(HTTPStatus.BAD_REQUEST, "families", asked["families"], message) from error
        return StreamingResponse(_pieces(records), media_type=MEDIA_TYPE)


async def _pieces(records: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what there is, and let the loop do other things after each share of the work."""
    for piece in records:
        if piece:
            yield piece
        await asyncio.sleep(0)
