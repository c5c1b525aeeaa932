from __future__ import annotations

import asyncio
import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from bgpvpn import policies, trial
from bgpvpn.api import policy_schema
from bgpvpn.api.answers import WHAT
from bgpvpn.api.bodies import ANSWER, CREATE, PATCH
from bgpvpn.objects import CLASSES, Network, plural
from speaker.policy import AsPathMatch, Changes, Edit, Match
from tests.bgpvpn.api.serving import in_loop, ok, served
from tests.fakes.node import FakeNode

BODIES: dict[str, dict[str, Any]] = {
    "/v1/networks": {"id": "network", "mtu": 1400, "subnets": [{"cidr": "10.0.0.0/24", "gateway_ip": "10.0.0.1"}]},
    "/v1/subnets": {"id": "subnet", "network_id": "network", "cidr": "2001:db8::/64"},
    "/v1/ports": {"id": "port", "network_id": "network", "interface": "tap0", "mac_address": "02:00:00:00:00:01"},
    "/v1/bgpvpns": {"id": "bgpvpn", "type": "l2", "vni": 7, "route_targets": ["64512:1"]},
    "/v1/routers": {
        "id": "router",
        "subnet_ids": ["subnet"],
        "routes": [{"destination": "::/0", "nexthop": "2001:db8::9"}],
    },
    "/v1/associations": {"id": "association", "bgpvpn_id": "bgpvpn", "network_id": "network"},
    "/v1/bgpvpns/{ref}/associations": {"id": "other", "port_id": "port"},
    "/v1/floating_ips": {"id": "floating_ip", "network_id": "outside", "address": "192.0.2.7", "port_id": "port"},
    "/v1/policies": {"name": "policy", "statement": [{"match": {"prefixes": ["10.0.0.0/8 le 24"]}, "then": "accept"}]},
    "/v1/policies/{ref}/test": {"family": "ipv4", "route": {"prefix": "10.0.0.0/16"}},
    "/v1/peers": {"id": "peer", "address": "192.0.2.1", "remote_as": 64512, "password": "x", "families": ["ipv4"]},
    "/v1/speakers": {"id": "speaker", "local_as": 64512, "networks": ["outside"], "peers": ["peer"]},
    "/v1/advertisements": {
        "id": "advertisement",
        "speaker_id": "speaker",
        "destination": "192.0.2.0/24",
        "next_hop": "192.0.2.1",
    },
}
"""One body for each path that takes one, in an order in which what they refer to is there."""

PAGE = (Path(__file__).parents[3] / "docs/api.md").read_text()

EXAMPLE = """
[[policy]]
name = "in"
[[policy.statement]]
name = "theirs"
then = "next"
match.families = ["vpnv4"]
match.neighbours = ["192.0.2.0/24", 64500]
match.prefixes = ["10.0.0.0/8 ge 9 le 24"]
match.route_types = [2]
match.communities = ["64512:*", "no-export"]
match.ext_communities = ["origin:64500:*"]
match.large_communities = ["64512:1:*"]
match.route_targets = ["64512:1"]
match.as_path = { neighbour_as = [1], originated_in = [2], contains = [3], max_length = 10 }
match.next_hop = ["192.0.2.0/24"]
set.local_pref = 200
set.med = 5
set.next_hop = "192.0.2.1"
set.communities = { remove = ["64512:*"], add = ["64512:1"] }
set.large_communities = { replace = ["64512:1:1"] }
set.route_targets = { rewrite = { "64500:1" = "64512:1" } }
set.prepend = { as = 64512, times = 2 }
"""

OUTSIDE = Network(id="outside", external=True)

QUERIES = {"/v1/explain": "?prefix=10.0.0.0/8", "/v1/intent": "?owner=neutron"}


def operations_of(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def one_of(path: str) -> str:
    """Return a path with the id that the object there has in BODIES, which is its kind."""
    path = re.sub(r"(\w+)ies/\{ref\}", r"\1ies/\1y", path)
    return re.sub(r"(\w+)s/\{ref\}", r"\1s/\1", path)


def check(document: dict[str, Any], operation: dict[str, Any], response: httpx.Response) -> None:
    """Fail if an answer is not what an operation documents."""
    documented = operation["responses"][str(response.status_code)]
    if "content" not in documented:
        assert response.content == b""
        return
    (media_type,) = documented["content"]
    assert response.headers["content-type"].partition(";")[0] == media_type
    if media_type == "application/json":
        schema = {**documented["content"][media_type]["schema"], "components": document["components"]}
        Draft202012Validator(schema).validate(response.json())


@in_loop
async def test_the_document_is_openapi_3_1_and_names_all_paths_once(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        document = await ok(api.get("/openapi.json"))
    assert document["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(document).validate()
    identifiers = [operation["operationId"] for _, _, operation in operations_of(document)]
    assert len(set(identifiers)) == len(identifiers)
    assert {f"/v1/{plural(kind)}" for kind in CLASSES} <= document["paths"].keys()
    for path, methods in document["paths"].items():
        named = [each["name"] for each in (methods.get("get") or methods["post"])["parameters"]]
        assert len(set(named)) == len(named)
        assert ("{ref}" in path) == ("ref" in named)
        assert "password" not in named


def test_requests_and_answers_have_every_field_of_every_kind() -> None:
    for kind, cls in CLASSES.items():
        fields = {field.name for field in attrs.fields(cls)} - ({"id"} if kind == "policy" else set())
        more = {"subnets"} if kind == "network" else set()
        assert set(CREATE[kind].__struct_fields__) == fields | more, kind
        assert set(PATCH[kind].__struct_fields__) == fields - {"id"}, kind
        assert fields <= set(ANSWER[kind].__struct_fields__), kind


def test_the_document_has_every_field_of_a_policy_and_of_a_route_that_one_is_tried_on() -> None:
    match, changes = policy_schema.MATCH["properties"], policy_schema.SET["properties"]
    named = {"next_hops": "next_hop"}
    assert set(match) == {named.get(field.name, field.name) for field in attrs.fields(Match)}
    assert set(match["as_path"]["properties"]) == {field.name for field in attrs.fields(AsPathMatch)}
    assert set(changes) == {field.name for field in attrs.fields(Changes)}
    assert set(changes["route_targets"]["properties"]) == {field.name for field in attrs.fields(Edit)}
    assert set(policy_schema.ROUTE["properties"]) == set(trial.FIELDS)
    schema = {"type": "array", "items": policy_schema.STATEMENT}
    (example,) = tomllib.loads(EXAMPLE)["policy"]
    for statements, right in (
        (example["statement"], True),
        ([{"then": "drop"}], False),
        ([{}], False),
        ([{"then": "accept", "match": {"prefix": ["10.0.0.0/8"]}}], False),
        ([{"then": "accept", "match": {"communities": []}}], False),
        ([{"then": "accept", "set": {"communities": {"replace": []}}}], True),
        ([{"then": "accept", "set": {"prepend": {"times": 33}}}], False),
    ):
        assert Draft202012Validator(schema).is_valid(statements) == right, statements
        try:
            policies.read("p", "reject", statements)
        except policies.PolicyError:
            assert not right, statements
        else:
            assert right, statements


@in_loop
async def test_every_operation_answers_as_documented(tmp_path: Path) -> None:
    async with served(FakeNode(configured=[OUTSIDE]), tmp_path) as api:
        document = await ok(api.get("/openapi.json"))
        paths = document["paths"]
        assert {path for path, method, _ in operations_of(document) if method == "post"} == BODIES.keys()
        for path, body in BODIES.items():
            schema = {"$ref": paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]["$ref"]}
            Draft202012Validator({**schema, "components": document["components"]}).validate(body)
            response = await api.post(one_of(path), json=body)
            assert response.status_code == (200 if path.endswith("/test") else 201)
            check(document, paths[path]["post"], response)
            response = await api.post(one_of(path), json={**body, "nosuch": 1})
            assert response.status_code == 400
            check(document, paths[path]["post"], response)
        for path, method, operation in operations_of(document):
            if method == "get" and not path.endswith("/malformed"):
                async with api.stream("GET", one_of(path) + QUERIES.get(path, "")) as response:
                    assert response.status_code == 200
                    if path != "/v1/events":
                        await response.aread()
                    check(document, operation, response)
            elif method == "patch":
                response = await api.patch(one_of(path), json={})
                assert response.status_code == 200
                check(document, operation, response)
        deletions = [(path, operation) for path, method, operation in operations_of(document) if method == "delete"]
        for path, operation in reversed(deletions):
            response = await api.delete(one_of(path))
            assert response.status_code in (204, 404), "an association goes with its VPN"
            check(document, operation, response)


@in_loop
async def test_every_documented_filter_is_one(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        document = await ok(api.get("/openapi.json"))
        for path, method, operation in operations_of(document):
            if method == "get" and path.removeprefix("/v1/") in map(plural, CLASSES):
                for parameter in operation["parameters"]:
                    assert await ok(api.get(path, params={parameter["name"]: "x"})) == []


def example_of(line: str) -> tuple[str, str, str | None]:
    """Return the method, URL and body of a request as curl would make it of a line."""
    words = iter(shlex.split(line)[1:])
    method, url, body = "", "", None
    for word in words:
        match word:
            case "--unix-socket":
                assert next(words) == "/run/bgpvpn/api.sock"
            case "-X":
                method = next(words)
            case "--json":
                body = next(words)
            case "-N":
                pass
            case _:
                assert not url, line
                url = word
    return method or ("GET" if body is None else "POST"), url, body


@in_loop
async def test_the_examples_of_the_page_work_one_after_the_other(tmp_path: Path) -> None:
    examples = [example_of(line) for line in PAGE.splitlines() if line.startswith("curl ")]
    assert {method for method, _, _ in examples} == {"GET", "POST", "PATCH", "DELETE"}
    async with served(FakeNode(), tmp_path) as api:
        for method, url, body in examples:
            headers = {} if body is None else {"content-type": "application/json"}
            async with api.stream(method, url, content=body, headers=headers) as response:
                assert response.status_code < 300, url


@in_loop
async def test_the_page_names_every_view_kind_and_error(tmp_path: Path) -> None:
    async with served(FakeNode(), tmp_path) as api:
        paths = (await ok(api.get("/openapi.json")))["paths"]
    for path in paths:
        kind = path.split("/")[-1] if path.removeprefix("/v1/") in map(plural, CLASSES) else ""
        assert f"`{kind or path}`" in PAGE or "{ref}" in path or path == "/openapi.json", path
    for word in WHAT.values():
        assert f"`{word}`" in PAGE


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from(["network", "port", "bgpvpn", "tap0", "l2", "vpnv4", "***", "a/b", "..", ""])
NUMBERS = st.sampled_from(["10.0.0.1", "10.0.0.0/24", "::1/64", "fe80::1%eth0", "64512:1", "-1:5", "0:0", "100L:5"])
WORDS = NAMES | NUMBERS
VALUES = WORDS | st.lists(WORDS, max_size=3) | st.integers(-1, 70000) | st.booleans() | JSON


def requests_of(document: dict[str, Any]) -> st.SearchStrategy[tuple[str, str, Any]]:
    """Draw a method, a path, and a body of fields that the path takes, with right, wrong and senseless values."""
    drawn = []
    for path, method, operation in operations_of(document):
        if "requestBody" in operation:
            reference = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"]
            names = sorted(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"])
            fields = st.dictionaries(st.sampled_from(names), VALUES, max_size=3)
            if method == "post":
                fields |= fields.map(lambda given, usual=BODIES[path]: {**usual, "id": "another", **given})
            drawn.append(st.tuples(st.just(method.upper()), st.just(one_of(path)), fields | JSON))
    return st.one_of(drawn)


def test_no_body_whatever_makes_the_daemon_fail(tmp_path: Path) -> None:
    with asyncio.Runner() as runner:
        stack = served(FakeNode(configured=[OUTSIDE]), tmp_path)
        api = runner.run(stack.__aenter__())
        for path, body in BODIES.items():
            runner.run(ok(api.post(one_of(path), json=body), 200 if path.endswith("/test") else 201))

        @settings(max_examples=500, suppress_health_check=[HealthCheck.too_slow])
        @given(requests_of(runner.run(ok(api.get("/openapi.json")))))
        def answered(request: tuple[str, str, Any]) -> None:
            method, path, body = request
            headers = {"content-type": "application/json"}
            answer = runner.run(api.request(method, path, content=json.dumps(body), headers=headers))
            assert answer.status_code in (200, 201, 400, 409)

        answered()
        runner.run(stack.__aexit__(None, None, None))
