"""The API as a whole (rim): `_operations` is the one list of what there is.

Both the application and its OpenAPI document are made of that list. Who calls is found before anything else is looked
at, except at VERSIONS, and is `request.state.caller`; what is not marked as for owners too is for operators.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import partial
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from bgpvpn.access import OWNED, Caller
from bgpvpn.api import mrt
from bgpvpn.api.answers import HANDLERS, ApiError, answer, on_api_error
from bgpvpn.api.bodies import AssociationOfBgpvpn, PolicyTest
from bgpvpn.api.boundary import Node
from bgpvpn.api.callers import Callers
from bgpvpn.api.desired_state import INTENT, DesiredState
from bgpvpn.api.events import MEDIA_TYPE, Watchers
from bgpvpn.api.looking_glass import Views
from bgpvpn.api.neutron.paths import neutron_routes
from bgpvpn.api.nodes import Nodes
from bgpvpn.api.objects import Objects, filters_of
from bgpvpn.api.openapi import Operation, document
from bgpvpn.api.policies import PolicyTrial
from bgpvpn.api.requests import check_host, check_parameters
from bgpvpn.api.speakers import Speakers
from bgpvpn.objects import CLASSES, plural

log = logging.getLogger(__name__)

VERSIONS = "/"
"""Where clients of OpenStack look for versions, before they show a token; it tells nothing else."""


class Api(Starlette):
    """The application, and those who watch: their streams do not end by themselves when it shall stop."""

    def __init__(self, routes: Sequence[BaseRoute], watchers: Watchers, callers: Callers) -> None:
        super().__init__(routes=routes, exception_handlers=HANDLERS)
        self.router.redirect_slashes = False  # a redirection would lead where the Host header says
        self.watchers = watchers
        self.callers = callers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Find out who calls, then let the request be answered; what is refused to a caller is logged."""
        state = scope.setdefault("state", {})

        async def told(message: Message) -> None:
            status = message.get("status")
            if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
                who = state.get("caller", "nobody who is known")
                log.warning("refused=%d caller=%r request=%r", status, str(who), f"{scope['method']} {scope['path']}")
            await send(message)

        try:
            if not self.callers.asks_for_tokens:
                check_host(Request(scope))
            state["caller"] = self.callers.of(scope)
        except ApiError as error:
            if error.status == HTTPStatus.UNAUTHORIZED and scope["path"] == VERSIONS and scope["method"] == "GET":
                await super().__call__(scope, receive, told)
                return
            await (await on_api_error(Request(scope), error))(scope, receive, told)
        else:
            await super().__call__(scope, receive, told)


def application(node: Node, callers: Callers | None = None) -> Api:
    """Return the API of a node, to be served in the thread of its event loop."""

    async def openapi(request: Request) -> Response:
        return answer(described)

    watchers = Watchers(node)
    operations = [
        *_operations(node),
        Operation("GET", "/v1/events", watchers.watch, "Watch changes, as server-sent events", MEDIA_TYPE, owners=True),
        Operation("GET", "/openapi.json", openapi, "Describe this interface", "object", owners=True),
    ]
    described = document(operations)
    paths: dict[str, dict[str, Operation]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method] = operation
    routes = [Route(path, partial(_dispatch, methods), methods=list(methods)) for path, methods in paths.items()]
    return Api([*routes, *neutron_routes(node)], watchers, callers or Callers())


async def _dispatch(methods: dict[str, Operation], request: Request) -> Response:
    operation = methods["GET" if request.method == "HEAD" else request.method]
    caller: Caller = request.state.caller
    if caller.role != "operator" and not operation.owners:
        message = f"{operation.method} {operation.path} is for operators; {caller}"
        raise ApiError(HTTPStatus.FORBIDDEN, "role", caller.role, message)
    check_parameters(request, operation.filters)
    return await operation.endpoint(request)


def _operations(node: Node) -> Iterable[Operation]:
    for kind in CLASSES:
        objects, path = Objects(node, kind), f"/v1/{plural(kind)}"
        a_kind = f"an {kind}" if kind[0] == "a" else f"a {kind}"
        owned = kind in OWNED
        of_kind = partial(Operation, returns=kind, owners=owned or kind == "bgpvpn")
        yield of_kind("GET", path, objects.show_all, f"List {plural(kind)}", filters=filters_of(kind))
        yield Operation("POST", path, objects.create, f"Make {a_kind}", kind, owners=owned)
        yield of_kind("GET", f"{path}/{{ref}}", objects.show, f"Show {a_kind}")
        yield of_kind("PATCH", f"{path}/{{ref}}", objects.change, f"Change {a_kind}")
        yield of_kind("DELETE", f"{path}/{{ref}}", objects.remove, f"Remove {a_kind} with what refers to it")
    below, path = Objects(node, "association"), "/v1/bgpvpns/{ref}/associations"
    yield Operation("GET", path, below.show_all_below, "List what is bound to a VPN", "association", owners=True)
    words = "Bind a network, a router or a port to a VPN"
    yield Operation("POST", path, below.create_below, words, "association", AssociationOfBgpvpn, owners=True)
    words = "Show what a speaker advertises, and what its peers told it"
    yield Operation("GET", "/v1/speakers/{ref}/routes", Speakers(node).routes, words, "object")
    trial, words = PolicyTrial(node), "Try a policy on a route, or on those of a peer; nothing is changed"
    yield Operation("POST", "/v1/policies/{ref}/test", trial.test, words, "array", PolicyTest)
    desired = DesiredState(node)
    words = "Tell how many objects an owner has, and when it wrote last"
    yield Operation("GET", "/v1/intent", desired.show, words, "object", filters=("owner",))
    words = "Make all objects of an owner those of the body, in one write"
    yield Operation("PUT", "/v1/intent", desired.put, words, "object", INTENT)
    nodes = Nodes(node)
    yield Operation("GET", "/v1/nodes", nodes.show_all, "List nodes: this one", "array")
    yield Operation("GET", "/v1/nodes/{ref}", nodes.show, "Show what the node is and can do", "object")
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
    yield Operation("GET", "/v1/explain", views.explain, words, "object", filters=("prefix", "port"), owners=True)
    words = "Dump the routes in MRT format (RFC 6396)"
    yield Operation("GET", "/v1/mrt", mrt.Mrt(node).dump, words, mrt.MEDIA_TYPE, filters=("families", "view"))
    yield Operation("GET", "/metrics", views.metrics, "Show metrics as Prometheus reads them", "text/plain")
