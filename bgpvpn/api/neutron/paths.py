"""The paths of Neutron's API, and what answers each (rim)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bgpvpn.api.boundary import Node
from bgpvpn.api.neutron.bgpvpns import Bgpvpns, NetworkAssociations, PortAssociations, RouterAssociations
from bgpvpn.api.neutron.errors import EXPECTED, NeutronError, NotFound, refusal
from bgpvpn.api.neutron.extensions import show_extension, show_extensions
from bgpvpn.api.neutron.networks import Networks, Subnets
from bgpvpn.api.neutron.ports import Ports
from bgpvpn.api.neutron.resource import Resource
from bgpvpn.api.neutron.routers import FloatingIps, Routers
from bgpvpn.api.neutron.speakers import Agents, Peers, Speakers
from bgpvpn.api.neutron.versions import Versions

Endpoint = Callable[[Node, Request], Awaitable[Response]]
Methods = dict[str, Endpoint]

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def neutron_routes(node: Node) -> list[Route]:
    """Return the routes of everything below /v2.0, and of /, where clients look for versions."""
    return [Route(path, partial(_answer, node, methods), methods=METHODS) for path, methods in _paths().items()]


async def _answer(node: Node, methods: Methods, request: Request) -> Response:
    """Answer a request; whatever it ends with is said as Neutron says it."""
    try:
        endpoint = methods.get("GET" if request.method == "HEAD" else request.method)
        if endpoint is None and not methods:
            raise NotFound("HTTPNotFound", "The resource could not be found.")
        if endpoint is None:
            message = f"The method {request.method} is not allowed for this resource."
            raise NeutronError(HTTPStatus.METHOD_NOT_ALLOWED, "HTTPMethodNotAllowed", message)
        return await endpoint(node, request)
    except EXPECTED as error:
        return refusal(error)


def _paths() -> dict[str, Methods]:
    routers, speakers, agents = Routers(), Speakers(), Agents()
    usual = (Networks(), Subnets(), Ports(), routers, FloatingIps(), Bgpvpns(), speakers, Peers())
    versions = Versions([(each.name, each.plural, each.path or each.plural) for each in (*usual, agents)])
    paths: dict[str, Methods] = {
        "/": {"GET": versions.show_all},
        "/v2.0": {"GET": versions.show},
        "/v2.0/": {"GET": versions.show},
        "/v2.0/extensions": {"GET": show_extensions},
        "/v2.0/extensions/{id}": {"GET": show_extension},
        "/v2.0/routers/{id}/add_router_interface": {"PUT": routers.add_interface},
        "/v2.0/routers/{id}/remove_router_interface": {"PUT": routers.remove_interface},
        "/v2.0/routers/{id}/add_extraroutes": {"PUT": routers.add_routes},
        "/v2.0/routers/{id}/remove_extraroutes": {"PUT": routers.remove_routes},
        "/v2.0/bgp-speakers/{id}/add_bgp_peer": {"PUT": speakers.add_peer},
        "/v2.0/bgp-speakers/{id}/remove_bgp_peer": {"PUT": speakers.remove_peer},
        "/v2.0/bgp-speakers/{id}/add_gateway_network": {"PUT": speakers.add_network},
        "/v2.0/bgp-speakers/{id}/remove_gateway_network": {"PUT": speakers.remove_network},
        "/v2.0/bgp-speakers/{id}/get_advertised_routes": {"GET": speakers.advertised},
        "/v2.0/bgp-speakers/{id}/bgp-dragents": {"GET": speakers.agents},
        "/v2.0/agents": {"GET": agents.list},
        "/v2.0/agents/{id}": {"GET": agents.get},
        "/v2.0/agents/{id}/bgp-drinstances": {"GET": agents.speakers, "POST": agents.add_speaker},
        "/v2.0/agents/{id}/bgp-drinstances/{speaker}": {"DELETE": agents.remove_speaker},
    }
    for each in usual:
        paths |= _usual(f"/v2.0/{each.path or each.plural}", each)
    for below in (NetworkAssociations(), RouterAssociations(), PortAssociations()):
        paths |= _usual(f"/v2.0/bgpvpn/bgpvpns/{{parent}}/{below.plural}", below)
    return paths | {"/v2.0/{rest:path}": {}}


def _usual(path: str, resource: Resource) -> dict[str, Methods]:
    return {
        path: {"GET": resource.list, "POST": resource.create},
        f"{path}/{{id}}": {"GET": resource.get, "PUT": resource.update, "DELETE": resource.delete},
    }
