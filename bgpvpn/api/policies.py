"""Trying a policy before it is used (rim)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import answer
from bgpvpn.api.bodies import PolicyTest, decode, given
from bgpvpn.api.boundary import Node
from bgpvpn.api.objects import Objects
from bgpvpn.api.requests import body_of, caller_of
from bgpvpn.objects import Policy


class PolicyTrial:
    """What a policy would make of routes."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.policies = Objects(node, "policy")

    async def test(self, request: Request) -> Response:
        wanted = given(decode(await body_of(request), PolicyTest))
        policy = self.policies.found(request.path_params["ref"], caller_of(request))
        assert isinstance(policy, Policy)
        return answer(self.node.try_policy(policy, wanted))
