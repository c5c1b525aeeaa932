"""BGP speakers and peers as neutron-dynamic-routing has them, and this node as its one agent (rim).

A peer of no speaker is kept, but administratively down. What brings it up is a speaker that gets it: in the same write
it learns the speaker's address family, and a peer in another AS whose routes no policy lets in is given `accept` for
them. None is needed for what it is told: without one that is the speaker's own routes, and nothing of other peers
(RFC 8212). A peer that does more, with families of VPNs, keeps doing that.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

import attrs
from starlette.requests import Request
from starlette.responses import Response

from bgpvpn.api.answers import answer
from bgpvpn.api.boundary import Node, Plain
from bgpvpn.api.neutron import listing
from bgpvpn.api.neutron.attributes import (
    REQUIRED,
    Attribute,
    action_of,
    address,
    choice,
    flag,
    optional,
    text,
    whole,
)
from bgpvpn.api.neutron.errors import BadRequest, Conflict, NeutronError, NotFound, invalid
from bgpvpn.api.neutron.resource import (
    NAME,
    PROJECT,
    STAMPS,
    Readable,
    Resource,
    View,
    Wish,
    body_id,
    made,
    new_id,
    pick,
    time,
)
from bgpvpn.api.requests import body_of
from bgpvpn.intent import Removal
from bgpvpn.objects import ConflictError, IntentError, Peer, Speaker

AS_NUMBER = whole(1, (1 << 32) - 1)
UNICAST = {4: "ipv4", 6: "ipv6"}


def _speakers_of(view: View, peer_id: str) -> list[Speaker]:
    return list(view.intent.referring("peer", peer_id, "speaker"))


def _joined(view: View, peer: Peer, speaker: Speaker) -> Peer:
    """Return a peer as it must be for a speaker."""
    family = UNICAST[speaker.ip_version]
    idle = not peer.admin_state_up and not _speakers_of(view, peer.id) and set(peer.families) <= set(UNICAST.values())
    evolved = attrs.evolve(
        peer,
        families=(family,) if idle else tuple(dict.fromkeys((*peer.families, family))),
        admin_state_up=True,
    )
    if evolved.remote_as != speaker.local_as and evolved.import_policy is None:
        evolved = attrs.evolve(evolved, import_policy="accept")
    return evolved


def _left(view: View, peer: Peer, speaker: Speaker) -> Peer:
    """Return a peer as it is when a speaker has it no more: down, unless something else wants it."""
    others = [each for each in _speakers_of(view, peer.id) if each.id != speaker.id]
    wanted = {UNICAST[each.ip_version] for each in others}
    left = tuple(family for family in peer.families if family in wanted or family not in UNICAST.values())
    return attrs.evolve(peer, families=left) if left else attrs.evolve(peer, admin_state_up=False)


class Speakers(Resource):
    """Speakers, and what is done to them."""

    kind = "speaker"
    name, plural = "bgp_speaker", "bgp_speakers"
    path = "bgp-speakers"
    bulk = False
    owners = False
    attributes = {
        "name": NAME,
        "project_id": PROJECT,
        "local_as": Attribute(AS_NUMBER, REQUIRED, put=False),
        "ip_version": Attribute(whole(4, 6), REQUIRED, put=False),
        "advertise_floating_ip_host_routes": Attribute(flag),
        "advertise_tenant_networks": Attribute(flag),
        "advertise_fixed_ip_host_routes": Attribute(flag),
    }
    shown = ("id", "tenant_id", *attributes, "networks", "peers", *STAMPS)

    def show(self, view: View, thing: Speaker) -> Plain:
        plain = attrs.asdict(thing)
        return {
            **{name: plain[name] for name in ("id", *self.attributes, "networks", "peers")},
            "tenant_id": thing.project_id,
            **view.stamps("speaker", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        return [made("speaker", id=new_id(), **{**fields, "project_id": view.project(fields)})]

    def change(self, view: View, thing: Speaker, fields: dict[str, Any]) -> list[Wish]:
        return [attrs.evolve(thing, **fields)]

    def remove(self, view: View, thing: Speaker) -> list[Wish]:
        peers = [view.intent.peers[id_] for id_ in thing.peers]
        return [Removal("speaker", thing.id), *(_left(view, peer, thing) for peer in peers)]

    # What is done to a speaker beside the usual

    async def add_peer(self, node: Node, request: Request) -> Response:
        """Tell the speaker's routes to a peer, which is brought up for it."""
        view, speaker, id_ = await self._action(node, request, "bgp_peer_id")
        peer = view.found("peer", id_)
        for other in speaker.peers:
            if other == peer.id or view.intent.peers[other].address == peer.address:
                message = f"BGP Speaker {speaker.id} is already configured to peer with a BGP Peer at {peer.address}, "
                raise Conflict("DuplicateBgpPeerIpException", f"{message}it cannot peer with BGP Peer {peer.id}.")
        joined = attrs.evolve(speaker, peers=(*speaker.peers, peer.id))
        view.wishes.extend([_joined(view, peer, speaker), joined])
        self.write(view, speaker)
        return answer({"bgp_peer_id": peer.id})

    async def remove_peer(self, node: Node, request: Request) -> Response:
        """Tell a peer nothing more of the speaker's."""
        view, speaker, id_ = await self._action(node, request, "bgp_peer_id")
        if id_ not in speaker.peers:
            message = f"BGP peer {id_} is not associated with BGP speaker {speaker.id}."
            raise NotFound("BgpSpeakerPeerNotAssociated", message)
        left = attrs.evolve(speaker, peers=tuple(each for each in speaker.peers if each != id_))
        view.wishes.extend([left, _left(view, view.intent.peers[id_], speaker)])
        self.write(view, speaker)
        return answer({"bgp_peer_id": id_})

    async def add_network(self, node: Node, request: Request) -> Response:
        """Have the routers that lead to an external network count."""
        view, speaker, id_ = await self._action(node, request, "network_id")
        network = view.found("network", id_)
        if network.id in speaker.networks:
            message = f"Network {network.id} is already bound to BgpSpeaker {speaker.id}."
            raise Conflict("BgpSpeakerNetworkBindingError", message)
        view.wishes.append(attrs.evolve(speaker, networks=(*speaker.networks, network.id)))
        self.write(view, speaker)
        return answer({"network_id": network.id})

    async def remove_network(self, node: Node, request: Request) -> Response:
        """Have them count no more."""
        view, speaker, id_ = await self._action(node, request, "network_id")
        if id_ not in speaker.networks:
            message = f"Network {id_} is not associated with BGP speaker {speaker.id}."
            raise NotFound("BgpSpeakerNetworkNotAssociated", message)
        view.wishes.append(attrs.evolve(speaker, networks=tuple(each for each in speaker.networks if each != id_)))
        self.write(view, speaker)
        return answer({"network_id": id_})

    async def advertised(self, node: Node, request: Request) -> Response:
        """Show the routes that the speaker tells its peers."""
        view = self.view(node, request)
        speaker = self.found(view, request.path_params["id"])
        rows = view.node.advertised(speaker.id)
        return answer(
            {"advertised_routes": [pick(row, destination="destination", next_hop="next_hop") for row in rows]}
        )

    async def agents(self, node: Node, request: Request) -> Response:
        """Show who speaks for the speaker: this node."""
        view = self.view(node, request)
        self.found(view, request.path_params["id"])
        return answer({"agents": [agent(view)]})

    async def _action(self, node: Node, request: Request, name: str) -> tuple[View, Speaker, str]:
        body = action_of(await body_of(request))
        view = self.view(node, request)
        return view, view.found("speaker", request.path_params["id"]), body_id(body, name)

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        if error.field == "networks":
            return BadRequest(f"Bad bgp-speaker request: {error.reason}.", "BadRequest")
        return None


class Peers(Resource):
    """BGP peers."""

    kind = "peer"
    name, plural = "bgp_peer", "bgp_peers"
    path = "bgp-peers"
    bulk = False
    owners = False
    attributes = {
        "name": NAME,
        "project_id": PROJECT,  # ours are of none
        "peer_ip": Attribute(address, REQUIRED, put=False),
        "remote_as": Attribute(AS_NUMBER, REQUIRED, put=False),
        "auth_type": Attribute(choice("none", "md5"), REQUIRED, put=False),
        "password": Attribute(optional(text)),
    }
    shown = (
        "id",
        "name",
        "tenant_id",
        "project_id",
        "peer_ip",
        "remote_as",
        "auth_type",
        "families",
        "admin_state_up",
        *STAMPS,
    )

    def show(self, view: View, thing: Peer) -> Plain:
        return {
            "id": thing.id,
            "name": thing.name,
            "tenant_id": "default",
            "project_id": "default",
            "peer_ip": thing.address,
            "remote_as": thing.remote_as,
            "auth_type": "none" if thing.password is None else "md5",
            "families": thing.families,
            "admin_state_up": thing.admin_state_up,
            **view.stamps("peer", thing.id),
        }

    def make(self, view: View, fields: dict[str, Any]) -> list[Wish]:
        password = fields.get("password")
        if fields["auth_type"] == "md5" and not password:
            message = "A password must be supplied when using auth_type md5."
            raise BadRequest(message, "InvalidBgpPeerMd5Authentication")
        if fields["auth_type"] == "none" and password:
            raise invalid("password", "auth_type is none, which takes no password")
        family = UNICAST[6 if ":" in fields["peer_ip"] else 4]
        own = pick(fields, name="name", address="peer_ip", remote_as="remote_as")
        return [made("peer", id=new_id(), families=(family,), admin_state_up=False, password=password or None, **own)]

    def change(self, view: View, thing: Peer, fields: dict[str, Any]) -> list[Wish]:
        own = pick(fields, name="name")
        if fields.get("password") is not None:  # clients send None when they mean nothing by it
            if thing.password is None:
                raise NotFound("BgpPeerNotAuthenticated", f"BGP peer {thing.id} not authenticated.")
            own["password"] = fields["password"]
        return [attrs.evolve(thing, **own)]

    def refusal(self, error: IntentError, thing: Any) -> NeutronError | None:
        if isinstance(error, ConflictError) and error.field == "address":
            return Conflict("DuplicateBgpPeerIpException", f"There is a BGP peer at {error.value} already.")
        return None


# This node, as an agent

AGENT_TYPE = "BGP dynamic routing agent"
_NAMESPACE = uuid.UUID("9c1d4a0e-5d0b-4d55-9f3c-2f6f4c0b1d77")
_AGENT_FIELDS = (
    "id",
    "agent_type",
    "binary",
    "topic",
    "host",
    "availability_zone",
    "admin_state_up",
    "alive",
    "configurations",
    "description",
    "created_at",
    "started_at",
    "heartbeat_timestamp",
    "resources_synced",
)


def agent(view: View) -> Plain:
    """Return the node as an agent."""
    node, said, now = view.node.itself(), view.node.status(), datetime.now(UTC).timestamp()
    router_id, started = node["router_id"], time(now - said["uptime_s"])
    speakers, peers = len(view.intent.speakers), len(view.intent.peers)
    return {
        "id": str(uuid.uuid5(_NAMESPACE, router_id)),
        "agent_type": AGENT_TYPE,
        "binary": "bgpvpnd",
        "topic": "bgp_dragent",
        "host": node["host"] or router_id,
        "availability_zone": None,
        "admin_state_up": True,
        "alive": True,
        "configurations": {"bgp_router_id": router_id, "advertise_routes": speakers, "bgp_peers": peers},
        "description": "",
        "created_at": started,
        "started_at": started,
        "heartbeat_timestamp": time(now),
        "resources_synced": bool(said["synced"]),
    }


class Agents(Readable):
    """The one agent: it speaks for every speaker, from the moment that there is one."""

    name, plural = "agent", "agents"
    owners = False
    shown = _AGENT_FIELDS

    def all(self, view: View) -> Iterable[Plain]:
        return [agent(view)]

    def found(self, view: View, id_: str) -> Plain:
        row = agent(view)
        if row["id"] != id_:
            raise NotFound("AgentNotFound", f"Agent {id_} could not be found.")
        return row

    def show(self, view: View, thing: Plain) -> Plain:
        return thing

    async def speakers(self, node: Node, request: Request) -> Response:
        """Show the speakers that it speaks for."""
        view = self.view(node, request)
        self.found(view, request.path_params["id"])
        shown = Speakers()
        rows = [shown.show(view, speaker) for speaker in view.all("speaker")]
        return answer({"bgp_speakers": listing.chosen(rows, request)})

    async def add_speaker(self, node: Node, request: Request) -> Response:
        """Have it speak for a speaker, which it does already."""
        body = action_of(await body_of(request))
        view = self.view(node, request)
        self.found(view, request.path_params["id"])
        view.found("speaker", body_id(body, "bgp_speaker_id"))
        return answer(None, HTTPStatus.CREATED)

    async def remove_speaker(self, node: Node, request: Request) -> Response:
        """Refuse: who shall not speak for a speaker has none."""
        view = self.view(node, request)
        self.found(view, request.path_params["id"])
        speaker = view.found("speaker", request.path_params["speaker"])
        message = f"Failed rescheduling {speaker.id}: this node is the only agent; remove its peers, or the speaker."
        raise Conflict("BgpSpeakerRescheduleError", message)
