"""The API as a whole (rim): `_operations` is the one list of what there is.

Both the application and its OpenAPI document are made of that list.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from bgpvpn.api import mrt
from bgpvpn.api.answers import HANDLERS, answer
from bgpvpn.api.bodies import AssociationOfBgpvpn, PolicyTest
from bgpvpn.api.boundary import Node
from bgpvpn.api.events import MEDIA_TYPE, Watchers
from bgpvpn.api.looking_glass import Views
from bgpvpn.api.objects import Objects, filters_of
from bgpvpn.api.openapi import Operation, document
from bgpvpn.api.policies import PolicyTrial
from bgpvpn.api.requests import check_host, check_parameters
from bgpvpn.api.speakers import Speakers
from bgpvpn.objects import CLASSES, plural


class Api(Starlette):
    """The application, and those who watch: their streams do not end by themselves when it shall stop."""

    def __init__(self, routes: Sequence[Route], watchers: Watchers) -> None:
        super().__init__(routes=routes, exception_handlers=HANDLERS)
        self.router.redirect_slashes = False  # a redirection would lead where the Host header says
        self.watchers = watchers


def application(node: Node) -> Api:
    """Return the API of a node, to be served in the thread of its event loop."""

    async def openapi(request: Request) -> Response:
        return answer(described)

    watchers = Watchers(node)
    operations = [
        *_operations(node),
        Operation("GET", "/v1/events", watchers.watch, "Watch changes, as server-sent events", MEDIA_TYPE),
        Operation("GET", "/openapi.json", openapi, "Describe this interface", "object"),
    ]
    described = document(operations)
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(path, partial(_dispatch, methods), methods=list(methods)) for path, methods in paths.items()]
    return Api(routes, watchers)


async def _dispatch(methods: dict[str, Operation], request: Request) -> Response:
    check_host(request)
    operation = methods["GET" if request.method == "HEAD" else request.method]
    check_parameters(request, operation.filters)
    return await operation.endpoint(request)


def _operations(node: Node) -> Iterable[Operation]:
    for kind in CLASSES:
        objects, path = Objects(node, kind), f"/v1/{plural(kind)}"
        a_kind = f"an {kind}" if kind[0] == "a" else f"a {kind}"
        yield Operation("GET", path, objects.show_all, f"List {plural(kind)}", kind, filters=filters_of(kind))
        yield Operation("POST", path, objects.create, f"Make {a_kind}", kind)
        yield Operation("GET", f"{path}/{{ref}}", objects.show, f"Show {a_kind}", kind)
        yield Operation("PATCH", f"{path}/{{ref}}", objects.change, f"Change {a_kind}", kind)
        yield Operation("DELETE", f"{path}/{{ref}}", objects.remove, f"Remove {a_kind} with what refers to it", kind)
    below, path = Objects(node, "association"), "/v1/bgpvpns/{ref}/associations"
    yield Operation("GET", path, below.show_all_below, "List what is bound to a VPN", "association")
    words = "Bind a network, a router or a port to a VPN"
    yield Operation("POST", path, below.create_below, words, "association", AssociationOfBgpvpn)
    words = "Show what a speaker advertises, and what its peers told it"
    yield Operation("GET", "/v1/speakers/{ref}/routes", Speakers(node).routes, words, "object")
    trial, words = PolicyTrial(node), "Try a policy on a route, or on those of a peer; nothing is changed"
    yield Operation("POST", "/v1/policies/{ref}/test", trial.test, words, "array", PolicyTest)
    views = Views(node)
    yield Operation("GET", "/v1/status", views.status, "Show what the node says of itself", "object")
    yield Operation("GET", "/v1/sessions", views.sessions, "Show the BGP sessions", "array")
    words = "Show the last messages of a peer that broke the protocol"
    yield Operation("GET", "/v1/sessions/{ref}/malformed", views.malformed, words, "array")
    filters = ("family", "rt", "prefix", "vpn", "source", "limit", "received")
    yield Operation("GET", "/v1/routes", views.routes, "Show routes", "array", filters=filters)
    yield Operation("GET", "/v1/instances", views.instances, "Show segments, VRFs and EVIs", "array")
    yield Operation("GET", "/v1/kernel", views.kernel, "Show what the kernel took and what it refused", "object")
    words = "Explain what became of a prefix or a port; exactly one of the two"
    yield Operation("GET", "/v1/explain", views.explain, words, "object", filters=("prefix", "port"))
    words = "Dump the routes in MRT format (RFC 6396)"
    yield Operation("GET", "/v1/mrt", mrt.Mrt(node).dump, words, mrt.MEDIA_TYPE, filters=("families", "view"))
    yield Operation("GET", "/metrics", views.metrics, "Show metrics as Prometheus reads them", "text/plain")
