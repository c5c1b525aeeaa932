"""What a speaker tells its peers, and what they told it (rim)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node
from bgpvpn.api.objects import Objects
from bgpvpn.api.requests import caller_of


class Speakers:
    """Views of speakers."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.speakers = Objects(node, "speaker")

    async def routes(self, request: Request) -> Response:
        speaker = self.speakers.found(request.path_params["ref"], caller_of(request))
        return answer({"advertised": self.node.advertised(speaker.id), "learned": self.node.learned(speaker.id)})
