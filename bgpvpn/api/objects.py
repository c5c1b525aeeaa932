"""Making, listing, showing, changing and removing the objects that users want (rim)."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.bodies import CREATE, PATCH, SHOWN_SECRET, AssociationOfBgpvpn, decode, given
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.requests import body_of
from bgpvpn.intent import Change, Removal
from bgpvpn.objects import CLASSES, ConflictError, IntentError, Kind, Object, Peer, make, title

log = logging.getLogger(__name__)

REFERENCES: dict[str, Kind] = {
    "network_id": "network",
    "gateway_network_id": "network",
    "bgpvpn_id": "bgpvpn",
    "router_id": "router",
    "port_id": "port",
    "speaker_id": "speaker",
}
"""Fields in which a name stands for an id."""

LISTS_OF_REFERENCES: dict[str, Kind] = {"subnet_ids": "subnet", "networks": "network", "peers": "peer"}
"""Fields with a list of such."""

PROJECT_OF: dict[Kind, str] = {"subnet": "network_id", "port": "network_id", "floating_ip": "port_id"}
"""Fields that name the object whose project is taken when none is given."""


class Objects:
    """The handlers for one kind."""

    def __init__(self, node: Node, kind: Kind) -> None:
        self.node = node
        self.kind = kind

    async def create(self, request: Request) -> Response:
        body = decode(await body_of(request), CREATE[self.kind])
        return self._create(given(body))

    async def create_below(self, request: Request) -> Response:
        """Make an association of the VPN in the path."""
        octets = await body_of(request)
        vpn = self.found(request.path_params["ref"], "bgpvpn")
        return self._create({**given(decode(octets, AssociationOfBgpvpn)), "bgpvpn_id": vpn.id})

    def _create(self, fields: dict[str, Any]) -> Response:
        id_ = fields["name"] if self.kind == "policy" else str(uuid.uuid4())
        fields = {"id": id_, **self._resolved(fields)}
        if self.node.intent.tables[self.kind].get(fields["id"]) is not None:
            where = "name" if self.kind == "policy" else "id"
            message = f"{where}: there is a {self.kind} {fields['id']!r} already"
            raise ApiError(HTTPStatus.CONFLICT, where, fields["id"], message)
        if "project_id" not in fields and "project_id" in CREATE[self.kind].__struct_fields__:
            fields["project_id"] = self._project(fields)
        subnets = fields.pop("subnets", [])
        wishes: list[Object | Removal] = [make(self.kind, fields)]
        for index, subnet in enumerate(subnets):
            wanted = {"id": str(uuid.uuid4()), "network_id": fields["id"], "project_id": fields["project_id"]}
            try:
                wishes.append(make("subnet", {**wanted, **subnet}))
            except IntentError as error:
                raise IntentError(f"subnets[{index}].{error.field}", error.value, error.reason) from None
        self._write(wishes)
        return answer(self.shown(self.node.intent.tables[self.kind][fields["id"]]), HTTPStatus.CREATED)

    def _project(self, fields: dict[str, Any]) -> str:
        """Return the project of an object for which none is given."""
        field = PROJECT_OF.get(self.kind, "")
        of = self.node.intent.tables[REFERENCES[field]].get(fields.get(field) or "") if field else None
        return "default" if of is None else str(of.project_id)

    async def show_all(self, request: Request) -> Response:
        return self._list(dict(request.query_params))

    async def show_all_below(self, request: Request) -> Response:
        """List the associations of the VPN in the path."""
        vpn = self.found(request.path_params["ref"], "bgpvpn")
        return self._list({"bgpvpn_id": vpn.id})

    def _list(self, filters: dict[str, str]) -> Response:
        things: Iterable[Object] = self.node.intent.tables[self.kind].rows.values()
        for field, text in filters.items():
            resolved = self._resolved({field: text})[field]
            things = [thing for thing in things if _fits(getattr(thing, field), resolved)]
        return answer([self.shown(thing) for thing in things])

    async def show(self, request: Request) -> Response:
        return answer(self.shown(self.found(request.path_params["ref"])))

    async def change(self, request: Request) -> Response:
        octets = await body_of(request)
        thing = self.found(request.path_params["ref"])  # as it is now, not as it was before the body came
        fields = self._resolved(given(decode(octets, PATCH[self.kind])))
        self._write([attrs.evolve(thing, **fields)])
        return answer(self.shown(self.node.intent.tables[self.kind][thing.id]))

    async def remove(self, request: Request) -> Response:
        self._write([Removal(self.kind, self.found(request.path_params["ref"]).id)])
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def shown(self, thing: Object) -> Plain:
        """Return an object as answers have it."""
        kind, intent = self.kind, self.node.intent
        stamp = intent.stamps[kind, thing.id]
        plain = attrs.asdict(thing)
        if isinstance(thing, Peer):
            plain["password"] = None if thing.password is None else SHOWN_SECRET
            plain["tcp_ao"] = [{**key, "secret": SHOWN_SECRET} for key in plain["tcp_ao"]]
        if kind == "network":
            subnets = intent.referring("network", thing.id, "subnet")
            plain["subnets"] = [{"id": each.id, "cidr": each.cidr, "gateway_ip": each.gateway_ip} for each in subnets]
        return {
            **plain,
            "status": self.node.status_of(kind, thing.id),
            "revision": stamp.revision,
            "created_at": _time(stamp.created_at),
            "updated_at": _time(stamp.updated_at),
        }

    def found(self, ref: str, kind: Kind | None = None) -> Object:
        """Return the object of this id or unique name."""
        kind = kind or self.kind
        thing = self.node.intent.find(kind, ref)
        if thing is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "path", ref, f"there is no {kind} {ref!r}")
        return thing

    def _resolved(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields with ids where names were given; what is not found stays, to be refused with the rest."""
        resolved = {field: self._ids(field, value) for field, value in fields.items()}
        secrets = {"password": [fields.get("password")]}
        secrets["tcp_ao"] = [key["secret"] for key in fields.get("tcp_ao", ()) if isinstance(key, dict)]
        for field, texts in secrets.items():
            if SHOWN_SECRET in texts:
                raise IntentError(field, SHOWN_SECRET, "*** is how a secret is shown; leave it out to keep it")
        return resolved

    def _ids(self, field: str, value: Any) -> Any:
        """Return the value of a field with ids where it has names."""
        if field in REFERENCES:
            return self._id(field, REFERENCES[field], value)
        if field in LISTS_OF_REFERENCES:
            kind = LISTS_OF_REFERENCES[field]
            return (
                [self._id(field, kind, each) for each in value]
                if isinstance(value, list)
                else self._id(field, kind, value)
            )
        if self.kind == "association" and field == "routes":
            return [{**each, "bgpvpn_id": self._id(field, "bgpvpn", each.get("bgpvpn_id"))} for each in value]
        return value

    def _id(self, field: str, kind: Kind, text: Any) -> Any:
        try:
            thing = self.node.intent.find(kind, text) if isinstance(text, str) else None
        except ConflictError as error:
            raise ConflictError(field, text, error.reason) from None
        return text if thing is None else thing.id

    def _write(self, wishes: list[Object | Removal]) -> None:
        for change in self.node.write(wishes):
            log.info("%s", _line(change))


def filters_of(kind: Kind) -> tuple[str, ...]:
    """Return the fields by which objects of a kind can be filtered: all but secrets and what is more than a list."""
    left_out = ("password", "tcp_ao", "statement", "prefix_limits", "routes", "ovs", "local_pref_range")
    return tuple(field.name for field in attrs.fields(CLASSES[kind]) if field.name not in left_out)


def _fits(value: Any, text: str) -> bool:
    """Tell whether a field is, or a list holds, what a filter says; "" stands for none."""
    if isinstance(value, tuple):
        return text in value or (not value and not text)
    if isinstance(value, bool):
        return text.lower() == str(value).lower()
    return ("" if value is None else str(value)) == text


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")


def _line(change: Change) -> str:
    """Return the log line of a change."""
    if change.thing is None:
        return f"{change.kind} removed: id={change.id}"
    done = "made" if change.stamp.revision == 1 else "changed"
    return f"{change.kind} {done}: id={change.id} name={title(change.thing)!r} revision={change.stamp.revision}"
