"""A resource of Neutron's API: what each of them does alike (rim).

    GET    /v2.0/things        list        POST   /v2.0/things       create, one or (all or none) many
    GET    /v2.0/things/ID     show        PUT    /v2.0/things/ID    update
                                           DELETE /v2.0/things/ID    delete

A resource says how an object of ours is shown, and which wishes a request comes to; they are written in one go.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn import access
from bgpvpn.access import Caller
from bgpvpn.api import shares
from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.neutron import listing
from bgpvpn.api.neutron.attributes import Attribute, constant, fields_of, text, to_change, to_make
from bgpvpn.api.neutron.errors import BadRequest, NeutronError, NotFound
from bgpvpn.api.neutron.taken import Taken
from bgpvpn.api.requests import body_of, caller_of
from bgpvpn.api.writing import write
from bgpvpn.intent import Intent, Removal
from bgpvpn.objects import IntentError, Kind, Object, make

Wish = Object | Removal


@attrs.frozen
class View:
    """A request: whom it is from, and what it has come to so far."""

    node: Node
    caller: Caller
    parent: str = ""  # the id in front of a resource below another
    wishes: list[Wish] = attrs.field(factory=list)
    _taken: dict[str, Taken] = attrs.field(factory=dict)

    @property
    def intent(self) -> Intent:
        """What users want, before this request."""
        return self.node.intent

    def sees(self, kind: Kind, id_: str) -> Any:
        """Return an object that is there for the caller, else None."""
        thing = self.intent.tables[kind].get(id_)
        return thing if thing is not None and access.sees(self.caller, thing, self.intent) else None

    def found(self, kind: Kind, id_: str) -> Any:
        """Return an object that is there for the caller; the error is Neutron's for that kind."""
        thing = self.sees(kind, id_)
        if thing is None:
            raise missing(kind, id_)
        return thing

    def all(self, kind: Kind) -> list[Any]:
        """Return the objects of a kind that are there for the caller."""
        things = self.intent.tables[kind].rows.values()
        return [thing for thing in things if access.sees(self.caller, thing, self.intent)]

    def project(self, given: Mapping[str, Any], other: str | None = None) -> str:
        """Return the project of something new: as given, else that of its network or VPN, else of the caller."""
        own = self.caller.project_id if self.caller.role == "owner" else "default"
        return str(given.get("project_id", own if other is None else other))

    def taken(self, network_id: str) -> Taken:
        """Return what is taken in a network, which is looked through once a request."""
        if network_id not in self._taken:
            self._taken[network_id] = Taken(self.intent, network_id)
        return self._taken[network_id]

    def stamps(self, kind: Kind, id_: str) -> Plain:
        """Return what every object shows of its history and of what became of it."""
        stamp, status = self.intent.stamps[kind, id_], self.node.status_of(kind, id_)
        return {
            "created_at": time(stamp.created_at),
            "updated_at": time(stamp.updated_at),
            "revision_number": stamp.revision,
            "state": status["state"],
            "reason": access.told(self.caller, status["reason"]),
        }

    def status(self, kind: Kind, id_: str) -> str:
        """Return the status in Neutron's words."""
        state = str(self.node.status_of(kind, id_)["state"])
        return "BUILD" if state == "PENDING" else state


STAMPS = ("created_at", "updated_at", "revision_number", "state", "reason")
COMMON = ("id", "name", "tenant_id", "project_id", "description", "tags", *STAMPS)
"""Fields that most resources show."""

NAME = Attribute(text, "")
PROJECT = Attribute(text, put=False)
DESCRIPTION = Attribute(constant("", None))
TAGS = Attribute(constant([]))

MISSING: dict[Kind, tuple[str, str]] = {
    "network": ("NetworkNotFound", "Network {} could not be found."),
    "subnet": ("SubnetNotFound", "Subnet {} could not be found."),
    "port": ("PortNotFound", "Port {} could not be found."),
    "router": ("RouterNotFound", "Router {} could not be found"),
    "floating_ip": ("FloatingIPNotFound", "Floating IP {} could not be found"),
    "bgpvpn": ("BGPVPNNotFound", "BGPVPN {} could not be found"),
    "speaker": ("BgpSpeakerNotFound", "BGP speaker {} could not be found."),
    "peer": ("BgpPeerNotFound", "BGP peer {} could not be found."),
}


def missing(kind: Kind, id_: str) -> NotFound:
    """Return the error for an object that is not there."""
    name, words = MISSING[kind]
    return NotFound(name, words.format(id_))


def time(seconds: float) -> str:
    """Return a time as Neutron writes it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def new_id() -> str:
    """Return an id for something new."""
    return str(uuid.uuid4())


class Readable(ABC):
    """What can be listed and shown; most are made of the objects of one kind, and the rest override what differs."""

    kind: Kind
    name: str  # of one, in bodies
    plural: str  # in bodies and, unless `path` says otherwise, in the path
    path: str = ""  # below /v2.0
    shown: tuple[str, ...]  # all that is shown
    owners = True  # and not for operators only

    def all(self, view: View) -> Iterable[Any]:
        """Return what is listed."""
        return view.all(self.kind)

    def found(self, view: View, id_: str) -> Any:
        """Return the one with this id; NotFound."""
        return view.found(self.kind, id_)

    @abstractmethod
    def show(self, view: View, thing: Any) -> Plain:
        """Return one as answers have it."""

    # Handlers

    async def list(self, node: Node, request: Request) -> Response:
        view = self.view(node, request)

        def likely() -> Iterable[Any]:
            return listing.likely(self.all(view), request)

        rows = await shares.shown(node.intent, likely, lambda thing: self.show(view, thing))
        rows, links = listing.page(listing.filtered(rows, request, self.shown), request, self.shown)
        body: Plain = {self.plural: listing.chosen(rows, request)}
        return answer(body | ({f"{self.plural}_links": links} if links else {}))

    async def get(self, node: Node, request: Request) -> Response:
        view = self.view(node, request)
        (row,) = listing.chosen([self.show(view, self.found(view, request.path_params["id"]))], request)
        return answer({self.name: row})

    def view(self, node: Node, request: Request) -> View:
        """Return the request's view."""
        caller = caller_of(request)
        if caller.role != "operator" and not self.owners:
            message = f"rule:{request.method.lower()}_{self.name} is disallowed by policy: it is for operators"
            raise NeutronError(HTTPStatus.FORBIDDEN, "PolicyNotAuthorized", message)
        return View(node, caller, request.path_params.get("parent", ""))


class Resource(Readable):
    """One collection that can be written as well."""

    attributes: Mapping[str, Attribute]
    bulk = True

    @abstractmethod
    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        """Return the wishes that a POST comes to; the object itself is the first."""

    @abstractmethod
    def change(self, view: View, thing: Any, fields: dict[str, Any]) -> list[Wish]:
        """Return the wishes that a PUT comes to."""

    def remove(self, view: View, thing: Any) -> list[Wish]:
        """Return the wishes that a DELETE comes to."""
        return [Removal(self.kind, thing.id)]

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        """Return a better error than the usual one for what intent refuses; `thing` None: of something new."""
        return None

    # Handlers

    async def create(self, node: Node, request: Request) -> Response:
        octets = await body_of(request)
        view = self.view(node, request)
        given, several = fields_of(octets, self.name, self.plural, bulk=self.bulk)
        ids = []
        for each in given:
            fields = to_make(each, self.attributes, self.shown)
            try:
                wishes = self.make(view, fields)
            except IntentError as error:
                raise self.refusal(error, None) or error from None
            view.wishes.extend(wishes)
            ids.append(wishes[0].id)
        self.write(view, None)
        rows = [self.show(view, self.found(view, id_)) for id_ in ids]
        return answer({self.plural: rows} if several else {self.name: rows[0]}, HTTPStatus.CREATED)

    async def update(self, node: Node, request: Request) -> Response:
        octets = await body_of(request)
        view = self.view(node, request)
        thing = self.found(view, request.path_params["id"])  # as it is now, not as it was before the body came
        ((given,), _) = fields_of(octets, self.name, self.plural, bulk=False)
        fields = to_change(given, self.attributes, self.shown)
        access.check_given(view.caller, self.kind, fields)
        try:
            view.wishes.extend(self.change(view, thing, fields))
        except IntentError as error:
            raise self.refusal(error, thing) or error from None
        self.write(view, thing)
        return answer({self.name: self.show(view, self.found(view, request.path_params["id"]))})

    async def delete(self, node: Node, request: Request) -> Response:
        view = self.view(node, request)
        thing = self.found(view, request.path_params["id"])
        view.wishes.extend(self.remove(view, thing))
        self.write(view, thing)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def write(self, view: View, thing: Any) -> None:
        """Do all that the request has come to, or nothing."""
        try:
            write(view.node, view.wishes, view.caller)
        except access.ForbiddenError:
            raise
        except IntentError as error:
            raise self.refusal(error, thing) or error from None


def made(kind: Kind, **fields: Any) -> Object:
    """Return a new object; fields that are None keep their default."""
    return make(kind, {name: value for name, value in fields.items() if value is not None})


def pick(fields: Mapping[str, Any], **names: str) -> dict[str, Any]:
    """Return the fields that were given, under our names: ours="theirs"."""
    return {ours: fields[theirs] for ours, theirs in names.items() if theirs in fields}


def body_id(body: Mapping[str, Any], name: str) -> str:
    """Return the id that the body of an action has; BadRequest."""
    value = body.get(name)
    if not isinstance(value, str):
        raise BadRequest(f"{name} must be specified", "BadRequest")
    return value
