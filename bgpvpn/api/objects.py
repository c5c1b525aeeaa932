"""Making, listing, showing, changing and removing the objects that users want (rim)."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn import access
from bgpvpn.access import Caller, ForbiddenError
from bgpvpn.api import shares
from bgpvpn.api.answers import ApiError, answer
from bgpvpn.api.bodies import CREATE, PATCH, SHOWN_SECRET, AssociationOfBgpvpn, decode, given
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.requests import body_of, caller_of
from bgpvpn.api.writing import write
from bgpvpn.intent import Removal
from bgpvpn.objects import CLASSES, ConflictError, IntentError, Kind, Object, Peer, make

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
        return self._create(given(body), caller_of(request))

    async def create_below(self, request: Request) -> Response:
        """Make an association of the VPN in the path."""
        octets, caller = await body_of(request), caller_of(request)
        vpn = self.found(request.path_params["ref"], caller, "bgpvpn")
        return self._create({**given(decode(octets, AssociationOfBgpvpn)), "bgpvpn_id": vpn.id}, caller)

    def _create(self, fields: dict[str, Any], caller: Caller) -> Response:
        if "id" in fields and caller.role == "owner":
            # Else ids of others could be found out, and the interface that is named after another's port be taken.
            raise ForbiddenError("id", None, f"ids are for operators to choose; {caller}")
        id_ = fields["name"] if self.kind == "policy" else str(uuid.uuid4())
        fields = {"id": id_, **self._resolved(fields, caller)}
        if self.node.intent.tables[self.kind].get(fields["id"]) is not None:
            where = "name" if self.kind == "policy" else "id"
            message = f"{where}: there is a {self.kind} {fields['id']!r} already"
            raise ApiError(HTTPStatus.CONFLICT, where, fields["id"], message)
        if "project_id" not in fields and "project_id" in CREATE[self.kind].__struct_fields__:
            fields["project_id"] = self._project(fields) if caller.role == "operator" else caller.project_id
        subnets = fields.pop("subnets", [])
        wishes: list[Object | Removal] = [make(self.kind, fields)]
        for index, subnet in enumerate(subnets):
            wanted = {"id": str(uuid.uuid4()), "network_id": fields["id"], "project_id": fields["project_id"]}
            try:
                wishes.append(make("subnet", {**wanted, **subnet}))
            except IntentError as error:
                raise IntentError(f"subnets[{index}].{error.field}", error.value, error.reason) from None
        write(self.node, wishes, caller)
        return answer(self.shown(self.node.intent.tables[self.kind][fields["id"]], caller), HTTPStatus.CREATED)

    def _project(self, fields: dict[str, Any]) -> str:
        """Return the project of an object for which none is given."""
        field = PROJECT_OF.get(self.kind, "")
        of = self.node.intent.tables[REFERENCES[field]].get(fields.get(field) or "") if field else None
        return "default" if of is None else str(of.project_id)

    async def show_all(self, request: Request) -> Response:
        return await self._list(dict(request.query_params), caller_of(request))

    async def show_all_below(self, request: Request) -> Response:
        """List the associations of the VPN in the path."""
        caller = caller_of(request)
        vpn = self.found(request.path_params["ref"], caller, "bgpvpn")
        return await self._list({"bgpvpn_id": vpn.id}, caller)

    async def _list(self, filters: dict[str, str], caller: Caller) -> Response:
        intent = self.node.intent

        def things() -> Iterable[Object]:
            all_: Iterable[Object] = intent.tables[self.kind].rows.values()
            found = [access.shown(caller, thing) for thing in all_ if access.sees(caller, thing, intent)]
            for field, text in filters.items():
                resolved = self._resolved({field: text}, caller)[field]
                found = [thing for thing in found if _fits(getattr(thing, field), resolved)]
            return found

        return answer(await shares.shown(intent, things, lambda thing: self.shown(thing, caller)))

    async def show(self, request: Request) -> Response:
        caller = caller_of(request)
        return answer(self.shown(self.found(request.path_params["ref"], caller), caller))

    async def change(self, request: Request) -> Response:
        octets, caller = await body_of(request), caller_of(request)
        thing = self.found(request.path_params["ref"], caller)  # as it is now, not as it was before the body came
        fields = self._resolved(given(decode(octets, PATCH[self.kind])), caller)
        access.check_given(caller, self.kind, fields)
        write(self.node, [attrs.evolve(thing, **fields)], caller)
        return answer(self.shown(self.node.intent.tables[self.kind][thing.id], caller))

    async def remove(self, request: Request) -> Response:
        caller = caller_of(request)
        write(self.node, [Removal(self.kind, self.found(request.path_params["ref"], caller).id)], caller)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def shown(self, thing: Object, caller: Caller) -> Plain:
        """Return an object as answers to a caller have it."""
        kind, intent = self.kind, self.node.intent
        stamp = intent.stamps[kind, thing.id]
        plain = attrs.asdict(access.shown(caller, thing))
        if isinstance(thing, Peer):
            plain["password"] = None if thing.password is None else SHOWN_SECRET
            plain["tcp_ao"] = [{**key, "secret": SHOWN_SECRET} for key in plain["tcp_ao"]]
        if kind == "network":
            subnets = [
                each for each in intent.referring("network", thing.id, "subnet") if access.sees(caller, each, intent)
            ]
            plain["subnets"] = [{"id": each.id, "cidr": each.cidr, "gateway_ip": each.gateway_ip} for each in subnets]
        status = self.node.status_of(kind, thing.id)
        return {
            **plain,
            "status": {**status, "reason": access.told(caller, status["reason"])},
            "revision": stamp.revision,
            "created_at": _time(stamp.created_at),
            "updated_at": _time(stamp.updated_at),
        }

    def found(self, ref: str, caller: Caller, kind: Kind | None = None) -> Object:
        """Return the object of this id or unique name that is there for a caller."""
        kind = kind or self.kind
        thing = access.find(caller, kind, ref, self.node.intent)
        if thing is None:
            raise ApiError(HTTPStatus.NOT_FOUND, "path", ref, f"there is no {kind} {ref!r}")
        return thing

    def _resolved(self, fields: dict[str, Any], caller: Caller) -> dict[str, Any]:
        """Return the fields with ids where names were given; what is not found stays, to be refused with the rest."""
        resolved = {field: self._ids(field, value, caller) for field, value in fields.items()}
        secrets = {"password": [fields.get("password")]}
        secrets["tcp_ao"] = [key["secret"] for key in fields.get("tcp_ao", ()) if isinstance(key, dict)]
        for field, texts in secrets.items():
            if SHOWN_SECRET in texts:
                raise IntentError(field, SHOWN_SECRET, "*** is how a secret is shown; leave it out to keep it")
        return resolved

    def _ids(self, field: str, value: Any, caller: Caller) -> Any:
        """Return the value of a field with ids where it has names."""
        if field in LISTS_OF_REFERENCES and isinstance(value, list):
            return [self._id(field, LISTS_OF_REFERENCES[field], each, caller) for each in value]
        if kind := REFERENCES.get(field) or LISTS_OF_REFERENCES.get(field):
            return self._id(field, kind, value, caller)
        if self.kind == "association" and field == "routes":
            return [{**each, "bgpvpn_id": self._id(field, "bgpvpn", each["bgpvpn_id"], caller)} for each in value]
        return value

    def _id(self, field: str, kind: Kind, text: Any, caller: Caller) -> Any:
        try:
            thing = access.find(caller, kind, text, self.node.intent) if isinstance(text, str) else None
        except ConflictError as error:
            raise ConflictError(field, text, error.reason) from None
        return text if thing is None else thing.id


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
