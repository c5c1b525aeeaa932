"""What policies and the routes that they are tried on look like, in JSON Schema, for the OpenAPI document.

It is for people and for clients that are made of the document; what is read, and refused with its place, is decided in
`bgpvpn.policies` and `bgpvpn.trial`.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]


def _text(description: str) -> Schema:
    return {"type": "string", "description": description}


def _number(description: str, most: int = 0xFFFFFFFF, least: int = 0) -> Schema:
    return {"type": "integer", "minimum": least, "maximum": most, "description": description}


def _list(description: str, of: Schema | None = None, least: int = 1) -> Schema:
    return {"type": "array", "items": of or {"type": "string"}, "minItems": least, "description": description}


def _table(description: str, properties: Schema, required: tuple[str, ...] = ()) -> Schema:
    required_of = {"required": list(required)} if required else {}
    described = {"type": "object", "description": description, "properties": properties}
    return {**described, **required_of, "additionalProperties": False}


_AS = {"type": "integer", "minimum": 0, "maximum": 0xFFFFFFFF}

COMMUNITIES = "64512:1, 64512:* for many, or the name of a well-known one, as no-export"
LARGE_COMMUNITIES = "64512:1:2, 64512:1:* or 64512:* for many"
ROUTE_TARGETS = "64512:1, 64512:* for many"

MATCH = _table(
    "conditions: each list asks for one of its members, and all that are given must hold",
    {
        "families": _list("ipv4, ipv6, vpnv4, vpnv6, evpn, rtc, ipv4-flowspec ..."),
        "neighbours": _list(
            "the peer that the policy is used for: a prefix with its address, or its AS",
            {"anyOf": [{"type": "string"}, {"type": "integer", "minimum": 1, "maximum": 0xFFFFFFFF}]},
        ),
        "prefixes": _list("10.0.0.0/8 exactly, or with le LENGTH, ge LENGTH, or both, what is within it"),
        "route_types": _list("of EVPN routes", {"type": "integer", "minimum": 1, "maximum": 255}),
        "communities": _list(COMMUNITIES),
        "ext_communities": _list("target:RT, origin:RT, encapsulation:NAME, or 0x and 16 hex digits"),
        "large_communities": _list(LARGE_COMMUNITIES),
        "route_targets": _list(ROUTE_TARGETS),
        "as_path": _table(
            "all that are given must hold",
            {
                "neighbour_as": _list("the first AS", _AS),
                "originated_in": _list("the last AS", _AS),
                "contains": _list("any AS", _AS),
                "max_length": _number("how long it may be", 65535),
            },
        ),
        "next_hop": _list("prefixes that it is in"),
    },
)


def _edit(of: str, more: Schema | None = None) -> Schema:
    return _table(
        f"{of}; replace alone, or the others, in the order rewrite, remove, add",
        {
            "add": _list("these, none of them standing for many"),
            "remove": _list("these"),
            "replace": _list("all by these; by none: removes all", least=0),
            **(more or {}),
        },
    )


SET = _table(
    "what the route says instead; nothing where it is rejected",
    {
        "local_pref": _number("LOCAL_PREF"),
        "med": _number("MULTI_EXIT_DISC"),
        "next_hop": _text("an address"),
        "communities": _edit(COMMUNITIES),
        "large_communities": _edit(LARGE_COMMUNITIES),
        "route_targets": _edit(
            ROUTE_TARGETS,
            {"rewrite": {"type": "object", "description": "old: new", "additionalProperties": {"type": "string"}}},
        ),
        "prepend": _table(
            "an AS in front of the AS_PATH",
            {"as": _number("ours towards the peer when it is not given", least=1), "times": _number("1 to 32", 32, 1)},
        ),
    },
)

STATEMENT = _table(
    "one step; without match it holds for every route",
    {
        "name": _text("its number, from 0, when it is not given"),
        "match": MATCH,
        "set": SET,
        "then": {"enum": ["accept", "reject", "next"], "description": "next: go on with the next statement"},
    },
    required=("then",),
)

ROUTE = _table(
    "a route that is made up; what is not given is as little as it can be",
    {
        "prefix": _text("where it leads to; of an EVPN route of type 2 or 3 an address"),
        "rd": _text("route distinguisher, 0:0 when it is not given"),
        "route_type": {"enum": [2, 3, 5], "description": "of an EVPN route"},
        "mac": _text("of an EVPN route of type 2"),
        "as_path": _list("AS numbers, the neighbour's first", _AS, least=0),
        "communities": _list("64512:1, or by name", least=0),
        "ext_communities": _list("target:RT, origin:RT, encapsulation:NAME, 0x...", least=0),
        "large_communities": _list("64512:1:2", least=0),
        "route_targets": _list("64512:1", least=0),
        "next_hop": _text("an address"),
        "local_pref": _number("LOCAL_PREF"),
        "med": _number("MULTI_EXIT_DISC"),
        "neighbour": _text("the address of the peer"),
        "neighbour_as": _number("its AS; ours when it is not given", least=1),
    },
)
