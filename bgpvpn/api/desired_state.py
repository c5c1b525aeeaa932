"""All that an owner wants, said at once: a program that keeps objects elsewhere, such as Neutron (rim).

An owner's objects are those whose id begins with its name and a dot.  Of the kinds that a request has, what it does not
list is removed; the whole is one write.  Programs of one owner in several processes are kept from undoing each other by
a serial, which changes with every write of the owner: a program reads it, then what is wanted, and says both.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from http import HTTPStatus
from typing import Annotated, Any, Literal

import attrs
import msgspec
from msgspec import UNSET, Meta, UnsetType
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn import rules
from bgpvpn.api import shares
from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.bodies import CREATE, SHOWN_SECRET, decode, given
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.requests import body_of, caller_of
from bgpvpn.api.writing import write
from bgpvpn.intent import Change, ConflictError, IntentError, Key
from bgpvpn.objects import KINDS, Kind, Object, make, plural
from bgpvpn.replacing import owned, replace

BODY_OCTETS = 32 << 20
"""About sixty thousand ports."""

BODY_S = 30.0


class IntentBase(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """What every such request has."""

    owner: Annotated[str, Meta(description="ids of its objects begin with it and a dot")]
    refused: Annotated[
        Literal["fail", "skip"],
        Meta(description="what cannot be fails the whole, or is left as it is and told"),
    ] = "fail"
    serial: Annotated[str | None, Meta(description="as it was read before; null: whatever was written since")] = None
    keep: Annotated[
        list[str],
        Meta(description="ids of objects, of the kinds that are listed, that stay as they are if they are there"),
    ] = []


INTENT: type[msgspec.Struct] = msgspec.defstruct(
    "IntentBody",
    [(plural(kind), list[struct] | UnsetType, UNSET) for kind, struct in CREATE.items()],  # type: ignore[valid-type]
    bases=(IntentBase,),
    forbid_unknown_fields=True,
    kw_only=True,
    namespace={"__doc__": "All objects of an owner, by kind; a kind that is not given stays as it is."},
)


@attrs.define
class _Written:
    """When an owner wrote last."""

    serial: str
    at: float | None = None  # monotonic seconds


class DesiredState:
    """The handlers; which owner wrote when is known as long as the daemon runs."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self._boot = secrets.token_hex(4)
        self._count = 0
        self._written: dict[str, _Written] = {}

    async def show(self, request: Request) -> Response:
        """Tell how many objects an owner has, the serial of its last write, and how long ago that was."""
        owner = _owner(request.query_params.get("owner", ""))
        written = self._of(owner)
        return answer(
            {
                "owner": owner,
                "serial": written.serial,
                "age_s": None if written.at is None else round(time.monotonic() - written.at, 1),
                "objects": {
                    plural(kind): sum(owned(owner, id_) for id_ in self.node.intent.tables[kind].rows) for kind in KINDS
                },
            }
        )

    async def put(self, request: Request) -> Response:
        """Make an owner's objects those of the body."""
        octets, caller = await body_of(request, BODY_S, most=BODY_OCTETS), caller_of(request)
        body: Any = decode(octets, INTENT)
        owner = _owner(body.owner)
        refused: list[Plain] = []
        things: dict[Key, Object] = {}
        kinds = [kind for kind in KINDS if getattr(body, plural(kind)) is not UNSET]
        for kind in kinds:
            for place, each in enumerate(getattr(body, plural(kind))):
                id_ = _id(kind, place, each, owner)
                if (kind, id_) in things:
                    raise IntentError(f"{plural(kind)}[{place}].id", id_, f"{id_!r} is listed twice")
                try:
                    things[kind, id_] = _made(kind, id_, given(each))
                except IntentError as error:
                    if body.refused == "fail":
                        raise _at(kind, place, error) from None
                    refused.append(_plain((kind, id_), error))
                if len(things) % shares.SHARE == 0:
                    await asyncio.sleep(0)  # up to here only the body is looked at
        if body.serial not in (None, self._of(owner).serial):
            raise ConflictError(
                "serial", body.serial, f"{owner!r} has written since; it is {self._of(owner).serial!r} now"
            )
        out = {each["id"] for each in refused}
        kept = [(kind, id_) for kind in kinds for id_ in (*body.keep, *out)]
        found = replace(self.node.intent, owner, list(things.values()), kinds, kept, time.time())
        if found.refused and body.refused == "fail":
            raise _whole(body, found.refused)
        changes = write(self.node, found.wishes, caller)
        refused += [_plain(key, error) for key, error in found.refused.items()]
        self._count += 1
        self._written[owner] = _Written(f"{self._boot}-{self._count}", time.monotonic())
        return answer({"serial": self._of(owner).serial, "changed": _summary(changes), "refused": refused})

    def _of(self, owner: str) -> _Written:
        return self._written.get(owner) or _Written(f"{self._boot}-0")


def _owner(text: str) -> str:
    try:
        if "." in text:
            raise ValueError(f"takes no dot, with which a name ends in ids: {text!r}")
        return rules.identifier(text)
    except ValueError as error:
        raise ApiError(HTTPStatus.BAD_REQUEST, "owner", text, f"owner: {error}") from None


def _id(kind: Kind, place: int, body: msgspec.Struct, owner: str) -> str:
    """Return the id of an object of the body, which must be its owner's."""
    field = "name" if kind == "policy" else "id"
    id_ = getattr(body, field)
    where = f"{plural(kind)}[{place}].{field}"
    if id_ is UNSET:
        raise IntentError(where, None, "is wanted: what has none is not found again")
    if not owned(owner, id_):
        raise IntentError(where, id_, f"begins with {owner!r} and a dot, as all objects of this owner")
    return str(id_)


def _made(kind: Kind, id_: str, fields: dict[str, Any]) -> Object:
    if fields.pop("subnets", None):
        raise IntentError("subnets", None, "are listed by themselves here")
    if SHOWN_SECRET in [fields.get("password"), *(key["secret"] for key in fields.get("tcp_ao", ()))]:
        raise IntentError("password", SHOWN_SECRET, "*** is how a secret is shown; list the object in keep to keep it")
    return make(kind, {**fields, "id": id_})


def _at(kind: Kind, place: int, error: IntentError) -> IntentError:
    """Return an error with the place of its object in front of its field."""
    return type(error)(f"{plural(kind)}[{place}].{error.field}", error.value, error.reason, error.more)


def _whole(body: Any, refused: Any) -> IntentError:
    """Return the error of a request of which nothing is done because of some objects."""
    errors = []
    for (kind, id_), error in refused.items():
        ids = [_id(kind, 0, each, body.owner) for each in getattr(body, plural(kind))]
        if id_ in ids:
            errors.append(_at(kind, ids.index(id_), error))
        else:
            errors.append(ConflictError(plural(kind), id_, f"{id_!r} cannot be removed: {error}"))
    first, *more = errors
    return type(first)(first.field, first.value, first.reason, more)


def _plain(key: Key, error: IntentError) -> Plain:
    return {"kind": key[0], "id": key[1], "where": error.field, "message": str(error)}


def _summary(changes: list[Change]) -> dict[str, list[dict[str, str]]]:
    """Return what was made, changed and removed, each object once."""
    last = {(change.kind, change.id): change for change in changes}
    found: dict[str, list[dict[str, str]]] = {"made": [], "changed": [], "removed": []}
    for key, change in last.items():
        done = "removed" if change.thing is None else "made" if change.stamp.revision == 1 else "changed"
        found[done].append({"kind": key[0], "id": key[1]})
    return found
