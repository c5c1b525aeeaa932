"""Views of what became of the wishes: the handlers (rim)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from ipaddress import ip_network

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn import access
from bgpvpn.access import Caller
from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.requests import caller_of
from bgpvpn.objects import Bgpvpn
from speaker.values import Family, RouteTarget

MOST_ROUTES = 10_000

READ_AS: dict[str, Callable[[str], object]] = {
    "family": Family.parse,
    "rt": RouteTarget.parse,
    "prefix": lambda text: ip_network(text, strict=False),
}
"""What filters of routes must be; ValueError for all else."""


class Views:
    """What the node says of itself."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def status(self, request: Request) -> Response:
        return answer(self.node.status())

    async def sessions(self, request: Request) -> Response:
        return answer(self.node.sessions())

    async def malformed(self, request: Request) -> Response:
        ref = request.path_params["ref"]
        found = self.node.malformed(ref)
        if found is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "path", ref, f"there is no peer {ref!r}")
        return answer(found)

    async def instances(self, request: Request) -> Response:
        return answer(self.node.instances())

    async def kernel(self, request: Request) -> Response:
        return answer(self.node.kernel())

    async def routes(self, request: Request) -> Response:
        asked = request.query_params
        vpn = self.node.intent.find("bgpvpn", asked["vpn"]) if "vpn" in asked else None
        if "vpn" in asked and vpn is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "vpn", asked["vpn"], f"there is no bgpvpn {asked['vpn']!r}")
        assert vpn is None or isinstance(vpn, Bgpvpn)
        limit = asked.get("limit", "1000")
        if not limit.isdecimal() or len(limit) > 5 or not 1 <= int(limit) <= MOST_ROUTES:
            raise ApiError(HTTPStatus.BAD_REQUEST, "limit", limit, f"limit: takes a number from 1 to {MOST_ROUTES}")
        received = asked.get("received", "no")
        if received not in ("yes", "no"):
            raise ApiError(HTTPStatus.BAD_REQUEST, "received", received, "received: takes yes or no")
        for name, read in READ_AS.items():
            if name in asked:
                try:
                    read(asked[name])
                except ValueError as error:
                    raise ApiError(HTTPStatus.BAD_REQUEST, name, asked[name], f"{name}: {error}") from error
        try:
            found = self.node.routes(
                family=asked.get("family"),
                route_target=asked.get("rt"),
                prefix=asked.get("prefix"),
                vpn=vpn,
                source=asked.get("source"),
                most=int(limit),
                received=received == "yes",
            )
        except LookupError as error:
            source = asked["source"]
            raise ApiError(HTTPStatus.NOT_FOUND, "source", source, f"there is no peer {source!r}") from error
        return answer(found)

    async def explain(self, request: Request) -> Response:
        caller = caller_of(request)
        match list(request.query_params.items()):
            case [("prefix", prefix)]:
                if caller.role == "owner":
                    message = f"routes are for operators to be explained; {caller}"
                    raise ApiError(HTTPStatus.FORBIDDEN, "role", caller.role, message)
                try:
                    return answer(self.node.explain_prefix(prefix))
                except ValueError as error:
                    raise ApiError(HTTPStatus.BAD_REQUEST, "prefix", prefix, f"prefix: {error}") from error
            case [("port", ref)]:
                port = access.find(caller, "port", ref, self.node.intent)
                if port is None:
                    raise ApiError(HTTPStatus.NOT_FOUND, "port", ref, f"there is no port {ref!r}")
                explained = self.node.explain_port(port.id)
                return answer(explained if caller.role == "operator" else _for_owner(explained, caller))
        raise ApiError(HTTPStatus.BAD_REQUEST, "query", None, "either ?prefix= or ?port= is wanted")

    async def metrics(self, request: Request) -> Response:
        registry = CollectorRegistry()
        registry.register(_Collected(self.node.metrics()))
        return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")


def _for_owner(explained: Plain, caller: Caller) -> Plain:
    """Return what is explained of a port without what a VPN is made of, and without peers."""
    left: Plain = {name: explained[name] for name in ("port", "id", "verdict", "segment", "vpns") if name in explained}
    if "verdict" in left:
        left["verdict"] = "; ".join(access.told(caller, part) for part in left["verdict"].split("; "))
    left["objects"] = [_nameless(each, caller) for each in explained.get("objects", ())]
    left["own"] = [
        {
            "family": each["family"],
            "nlri": each["nlri"].split()[-1] if each["family"].startswith("vpn") else each["family"],
            "announced": each["announced"],
            "waits_for": [_nameless(waited, caller) for waited in each["waits_for"]],
        }
        for each in explained.get("own", ())
    ]
    return left


def _nameless(thing: Plain, caller: Caller) -> Plain:
    """Return an object of the dataplane without its name, which may be a VNI."""
    return {
        "object": thing["object"].split()[0],
        "state": thing["state"],
        "reason": access.told(caller, thing["reason"]),
    }


class _Collected:
    """Metrics of one moment, as prometheus_client collects them."""

    def __init__(self, metrics: list[Plain]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        for metric in self._metrics:
            labels = list(metric["samples"][0]["labels"]) if metric["samples"] else []
            family = CounterMetricFamily if metric["type"] == "counter" else GaugeMetricFamily
            collected = family(metric["name"], metric["help"], labels=labels)
            for sample in metric["samples"]:
                collected.add_metric([str(sample["labels"][label]) for label in labels], sample["value"])
            yield collected
