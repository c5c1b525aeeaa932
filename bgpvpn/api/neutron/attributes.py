"""Fields of resources in requests: which there are, who may give them when, and their one form (rim).

A converter takes what was given and returns what the objects take; it refuses with ValueError.
"""

from __future__ import annotations

import ipaddress
import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import msgspec

from bgpvpn.api.neutron.errors import BadRequest, invalid

Converter = Callable[[Any], Any]

REQUIRED: Any = object()
"""The default of a field that must be given to make something."""

LEFT_OUT: Any = object()
"""The default of a field that the resource works out itself."""


@attrs.frozen
class Attribute:
    """A field of a request; `default` is what it is when something is made without it."""

    convert: Converter
    default: Any = LEFT_OUT
    post: bool = True
    put: bool = True


def fields_of(octets: bytes, name: str, plural: str, *, bulk: bool) -> tuple[list[dict[str, Any]], bool]:
    """Return the tables of fields in the body {name: {...}}, or {plural: [{...}, ...]} where that may be, and which."""
    body = _json(octets)
    if not isinstance(body, dict) or not body:
        raise BadRequest("Resource body required")
    if plural in body:
        if not bulk:
            raise BadRequest("Bulk operation not supported")
        if not isinstance(body[plural], list) or not body[plural]:
            raise BadRequest("Resources required")
        given = [each.get(name, each) if isinstance(each, dict) else each for each in body[plural]]
        return [_table(each, name) for each in given], True
    if name not in body:
        raise BadRequest(f"Unable to find '{name}' in request body")
    return [_table(body[name], name)], False


def action_of(octets: bytes) -> dict[str, Any]:
    """Return the body of an action, which has its fields without a name around them."""
    body = _json(octets)
    if not isinstance(body, dict):
        raise BadRequest("Body contains invalid data")
    return body


def _json(octets: bytes) -> Any:
    try:
        return msgspec.json.decode(octets)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise BadRequest("Cannot understand JSON") from None


def _table(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadRequest(f"Object '{name}' contains invalid data")
    return value


def to_make(given: dict[str, Any], attributes: Mapping[str, Attribute], shown: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields for something new; those that are left out are not in it."""
    given = _checked(given, attributes, shown)
    fields = {}
    for name, attribute in attributes.items():
        if name in given:
            if not attribute.post:
                raise BadRequest(f"Attribute '{name}' not allowed in POST")
            fields[name] = _converted(name, attribute, given[name])
        elif attribute.post and attribute.default is REQUIRED:
            raise BadRequest(f"Failed to parse request. Required attribute '{name}' not specified")
        elif attribute.default is not LEFT_OUT:
            fields[name] = attribute.default
    for name in given.keys() - attributes.keys():
        raise BadRequest(f"Attribute '{name}' not allowed in POST")
    return fields


def to_change(given: dict[str, Any], attributes: Mapping[str, Attribute], shown: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that shall be different."""
    given = _checked(given, attributes, shown)
    fields = {}
    for name, value in given.items():
        if name not in attributes or not attributes[name].put:
            raise BadRequest(f"Cannot update read-only attribute {name}")
        fields[name] = _converted(name, attributes[name], value)
    return fields


def _checked(given: dict[str, Any], attributes: Mapping[str, Attribute], shown: tuple[str, ...]) -> dict[str, Any]:
    """Refuse fields that are not known, and return the rest with the project under one name."""
    unknown = sorted(given.keys() - attributes.keys() - set(shown))
    if unknown:
        raise BadRequest(f"Unrecognized attribute(s) '{', '.join(unknown)}'")
    fields = dict(given)
    if "tenant_id" in fields:
        tenant = fields.pop("tenant_id")
        if fields.setdefault("project_id", tenant) != tenant:
            raise BadRequest("'project_id' and 'tenant_id' do not match")
    return fields


def _converted(name: str, attribute: Attribute, value: Any) -> Any:
    try:
        return attribute.convert(value)
    except ValueError as error:
        raise invalid(name, error) from None


# Converters


def text(value: Any) -> str:
    """Text of at most 255 characters."""
    if not isinstance(value, str):
        raise ValueError(f"'{value}' is not a valid string")
    if len(value) > 255:
        raise ValueError(f"'{value[:32]}...' exceeds maximum length of 255")
    return value


def whole(low: int, high: int) -> Converter:
    """Return the converter for a number, or a text that is one."""

    def convert(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,20}", value):
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"'{value}' is not an integer")
        if not low <= value <= high:
            raise ValueError(f"'{value}' is not in range {low} through {high}")
        return value

    return convert


def flag(value: Any) -> bool:
    """True or false, and the words for them that Neutron takes."""
    word = str(value).lower() if isinstance(value, bool | int | str) else ""
    if word in ("1", "t", "true", "on", "y", "yes"):
        return True
    if word in ("0", "f", "false", "off", "n", "no"):
        return False
    raise ValueError(f"'{value}' cannot be converted to boolean")


def choice(*words: str) -> Converter:
    """Return the converter for one of these words."""

    def convert(value: Any) -> str:
        if value not in words:
            raise ValueError(f"'{value}' is not in {list(words)}")
        return str(value)

    return convert


def optional(convert: Converter) -> Converter:
    """Return a converter that lets None through."""
    return lambda value: None if value is None else convert(value)


def listed(convert: Converter) -> Converter:
    """Return the converter for a list; one value is a list of one, None an empty one, and nothing is there twice."""

    def each(value: Any) -> list[Any]:
        items = [] if value is None else value if isinstance(value, list) else [value]
        found = [convert(item) for item in items]
        for index, item in enumerate(found):
            if item in found[:index]:
                raise ValueError(f"Duplicate items in the list: '{item}'")
        return found

    return each


def constant(*values: Any) -> Converter:
    """Return the converter for what cannot be kept: only what it always is may be given (the first is shown)."""

    def convert(value: Any) -> Any:
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in values):
            raise ValueError(f"{value!r} cannot be kept here, it is always {values[0]!r}")
        return values[0]

    return convert


def anything(value: Any) -> Any:
    """What clients always send, and what is not kept here."""
    return value


def table(value: Any) -> dict[str, Any]:
    """A table."""
    if not isinstance(value, dict):
        raise ValueError(f"'{value}' is not a dictionary")
    return value


def tables(value: Any) -> list[dict[str, Any]]:
    """A list of tables; None is an empty one."""
    if value is not None and not isinstance(value, list):
        raise ValueError(f"'{value}' is not a list")
    return [table(each) for each in value or ()]


def address(value: Any) -> str:
    """An IP address."""
    try:
        found = ipaddress.ip_address(text(value))
        if getattr(found, "scope_id", None) is None:
            return str(found)
    except ValueError:
        pass
    raise ValueError(f"'{value}' is not a valid IP address")


def cidr(value: Any) -> str:
    """An IP prefix without bits beyond its length."""
    try:
        return str(ipaddress.ip_network(text(value)))
    except ValueError:
        raise ValueError(f"'{value}' is not a valid IP subnet") from None


def is_uuid(value: str) -> bool:
    """Tell whether a text is a UUID."""
    try:
        uuid.UUID(value)
    except ValueError:
        return False
    return True


def community(value: Any) -> str:
    """A route target or distinguisher as networking-bgpvpn takes it.

    It is AS:NUMBER with 16 and 32 bits or with 32 and 16, or IPV4:NUMBER, without leading zeros. So a target whose
    4-octet AS is below 65536 cannot be said, nor an AS with a dot; our own API takes both.
    """
    found = (
        re.fullmatch(r"(?:(0|[1-9][0-9]{0,9})|([0-9.]{7,15})):(0|[1-9][0-9]{0,9})", value)
        if isinstance(value, str)
        else None
    )
    if found is not None:
        number = int(found[3])
        if found[2] is not None:
            fits = _is_ipv4(found[2]) and number < 1 << 16
        else:
            asn = int(found[1])
            fits = (asn < 1 << 16 and number < 1 << 32) or (asn < 1 << 32 and number < 1 << 16)
        if fits:
            return str(value)
    raise ValueError(f"'{value}' is not a route target or route distinguisher")


def _is_ipv4(value: str) -> bool:
    try:
        ipaddress.IPv4Address(value)
    except ValueError:
        return False
    return True
