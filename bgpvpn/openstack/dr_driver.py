"""A driver of neutron-dynamic-routing's agent that has the node beside it speak BGP (rim).

    [BGP]
    bgp_speaker_driver = bgpvpn.openstack.dr_driver.NodeBgpDriver
    bgp_router_id = 192.0.2.1                      # for n-d-r; the node has its own
    bgpvpn_node = unix:/run/bgpvpn/api.sock

The agent says what to do and the node is told what there shall be (`pushing`): objects whose ids begin with "ndr.".  A
call returns at once, and what is said twice is said once.  The node keeps it on disk, so that sessions do not depend on
the agent, and speaks as well as it does with any peer: graceful restart, several speakers, IPv4 and IPv6.

When the agent has lost the message bus, Neutron takes its speakers away from it; when the bus is back the agent
removes them, and adds them once they are scheduled anew.  So a removal that nobody told the agent of is not done at
once: what a speaker had is kept for `bgpvpn_hold` seconds after the last call about it, and what was said again
by then stays without a change.  The same holds for what the node has when the agent starts.

    add_bgp_speaker ---------> there <-------- add_bgp_speaker
                                 |                    |
                 by a resync     |     told to        |
         kept <------------------+-----------------> gone
           +----------------- bgpvpn_hold ------------^
"""

from __future__ import annotations

import dataclasses
import ipaddress
import json
import math
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from types import FrameType
from typing import Any

from neutron_dynamic_routing.services.bgp.agent.driver import base, exceptions, utils
from oslo_config import cfg
from oslo_log import log as logging

from bgpvpn.openstack.client import NodeApi
from bgpvpn.openstack.pushing import Body, Pushing

LOG = logging.getLogger(__name__)

OWNER = "ndr"
NODE = "node"
TELLS_OF_REMOVAL = "bgp_speaker_remove_end"
"""The agent's method that Neutron calls when somebody takes a speaker away from it."""

OPTIONS = [
    cfg.StrOpt(
        "bgpvpn_node", default="unix:/run/bgpvpn/api.sock", help="The node's API: unix:/PATH or http://HOST:PORT."
    ),
    cfg.StrOpt("bgpvpn_token_file", default="", help="A file with the token that the node asks for; none: no token."),
    cfg.IntOpt("bgpvpn_hold", default=300, min=0, help="Seconds for which what a resync removes is kept."),
    cfg.IntOpt("bgpvpn_sync_interval", default=30, min=1, help="Seconds after which the node is compared anyway."),
    cfg.ListOpt("bgpvpn_passive_peers", default=[], help="Addresses of peers that connect to the node."),
    cfg.IntOpt("bgpvpn_ttl", default=64, min=1, max=255, help="TTL towards peers; 1: only neighbours."),
    cfg.IntOpt("bgpvpn_restart_time", default=120, min=0, max=4095, help="Seconds of graceful restart; 0: none."),
]


@dataclasses.dataclass
class _Peer:
    address: str
    remote_as: int
    password: str | None


@dataclasses.dataclass
class _Speaker:
    """What the agent wants of one AS; Neutron's speakers for IPv4 and IPv6 may have the same."""

    count: int = 1
    peers: dict[str, _Peer] = dataclasses.field(default_factory=dict)
    routes: dict[str, str] = dataclasses.field(default_factory=dict)  # next hop by destination
    gone: set[str] = dataclasses.field(default_factory=set)  # ids of what was removed, which is not kept


class NodeBgpDriver(base.BgpDriverBase):
    """See the top of the file."""

    def __init__(self, conf: Any) -> None:
        cfg.CONF.register_opts(OPTIONS, "BGP")
        self._conf = conf or cfg.CONF.BGP
        token_file = self._conf.bgpvpn_token_file
        token = Path(token_file).read_text().strip() if token_file else ""
        self.api = NodeApi(self._conf.bgpvpn_node, token)
        self._lock = threading.Lock()
        self._speakers: dict[int, _Speaker] = {}
        self._kept: dict[int, float] = {}  # AS -> until when (monotonic) what the node has of it stays
        self._looked = False  # whether what the node had at the start is known
        self.pushing = Pushing(OWNER, {NODE: self.api}, self._wanted, self._conf.bgpvpn_sync_interval)
        self.pushing.start()

    # What the agent says

    def add_bgp_speaker(self, speaker_as: int) -> None:
        utils.validate_as_num("local_as", speaker_as)
        with self._lock:
            speaker = self._speakers.get(speaker_as)
            if speaker is None:
                self._speakers[speaker_as] = _Speaker()
            else:
                speaker.count += 1
            # The agent has heard from Neutron: what it does not say now, nobody wants.
            for each, until in self._kept.items():
                if until == math.inf:
                    self._kept[each] = self._later()
        LOG.info("speaker added: AS %d", speaker_as)
        self._said(speaker_as)

    def delete_bgp_speaker(self, speaker_as: int) -> None:
        told = _called_by(TELLS_OF_REMOVAL)
        with self._lock:
            speaker = self._speaker(speaker_as)
            speaker.count -= 1
            if speaker.count == 0:
                del self._speakers[speaker_as]
                if told:
                    self._kept.pop(speaker_as, None)
                else:
                    self._kept[speaker_as] = self._later()
        if speaker.count:
            LOG.info("speaker removed: AS %d, which %d others have", speaker_as, speaker.count)
        elif told:
            LOG.info("speaker removed: AS %d", speaker_as)
        else:
            LOG.warning("speaker removed by a resync: AS %d, kept for %d s", speaker_as, self._conf.bgpvpn_hold)
        self.pushing.soon()

    def add_bgp_peer(
        self, speaker_as: int, peer_ip: str, peer_as: int | str, auth_type: str = "none", password: str | None = None
    ) -> None:
        utils.validate_as_num("remote_as", int(peer_as))
        utils.validate_ip_addr(peer_ip)
        utils.validate_auth(auth_type, password if auth_type != "none" else None)
        secret = password if auth_type != "none" else None
        with self._lock:
            self._speaker(speaker_as).peers[peer_ip] = _Peer(peer_ip, int(peer_as), secret)
        self._said(speaker_as)

    def delete_bgp_peer(self, speaker_as: int, peer_ip: str) -> None:
        utils.validate_ip_addr(peer_ip)
        with self._lock:
            self._speaker(speaker_as).peers.pop(peer_ip, None)
            self._speaker(speaker_as).gone.add(_peer_id(speaker_as, peer_ip))
        self._said(speaker_as)

    def advertise_route(self, speaker_as: int, cidr: str, nexthop: str) -> None:
        destination = _prefix(cidr)
        utils.validate_ip_addr(nexthop)
        with self._lock:
            self._speaker(speaker_as).routes[destination] = nexthop
        self._said(speaker_as)

    def withdraw_route(self, speaker_as: int, cidr: str, nexthop: str | None = None) -> None:
        destination = _prefix(cidr)
        with self._lock:
            speaker = self._speaker(speaker_as)
            if nexthop is None or speaker.routes.get(destination, nexthop) == nexthop:
                speaker.routes.pop(destination, None)
                speaker.gone.add(_route_id(speaker_as, destination))
        self._said(speaker_as)

    def get_bgp_speaker_statistics(self, speaker_as: int) -> str:
        with self._lock:
            addresses = set(self._speaker(speaker_as).peers)
        return json.dumps([each for each in self.api.ask("GET", "/v1/sessions") if each["address"] in addresses])

    def get_bgp_peer_statistics(self, speaker_as: int, peer_ip: str, peer_as: int | None = None) -> str:
        with self._lock:
            peer = self._speaker(speaker_as).peers.get(peer_ip)
        sessions = [each for each in self.api.ask("GET", "/v1/sessions") if each["address"] == peer_ip]
        if peer is None or not sessions:
            raise exceptions.BgpPeerNotAdded(peer_ip=peer_ip, remote_as=peer_as, speaker_as=speaker_as)
        return json.dumps(sessions[0])

    def _speaker(self, speaker_as: int) -> _Speaker:
        speaker = self._speakers.get(speaker_as)
        if speaker is None:
            raise exceptions.BgpSpeakerNotAdded(local_as=speaker_as, rtid=self._conf.bgp_router_id)
        return speaker

    def _said(self, speaker_as: int) -> None:
        """Something was said of a speaker; if more of it is kept, it is kept until no more is said."""
        with self._lock:
            if speaker_as in self._kept:
                self._kept[speaker_as] = self._later()
        self.pushing.soon()

    def _later(self) -> float:
        return time.monotonic() + float(self._conf.bgpvpn_hold)

    # What the node shall have

    def _wanted(self, _: str, now: float) -> Body:
        """Return what is wanted as `PUT /v1/intent` takes it; it runs in the thread that pushes."""
        there = None if self._looked and not self._kept else self._there()
        with self._lock:
            if there is not None and not self._looked:
                self._looked = True
                for number in {_as_of(id_) for ids in there.values() for id_ in ids}:
                    self._kept[number] = self._later() if self._speakers else math.inf
            for number in [number for number, until in self._kept.items() if until <= now]:
                del self._kept[number]
                LOG.info("what was not said again of AS %d goes now", number)
            gone = {id_ for speaker in self._speakers.values() for id_ in speaker.gone}
            kept = {
                kind: [id_ for id_ in ids if _as_of(id_) in self._kept and id_ not in gone]
                for kind, ids in (there or {}).items()
            }
            return self._body(kept)

    def _there(self) -> dict[str, list[str]]:
        """Return the ids that the node has of ours."""
        kinds = ("speakers", "peers", "advertisements")
        listed = {kind: [each["id"] for each in self.api.ask("GET", f"/v1/{kind}")] for kind in kinds}
        return {kind: [id_ for id_ in ids if id_.startswith(f"{OWNER}.")] for kind, ids in listed.items()}

    def _body(self, kept: dict[str, list[str]]) -> Body:
        speakers: list[dict[str, Any]] = []
        peers: list[dict[str, Any]] = []
        advertisements: list[dict[str, Any]] = []
        for number, speaker in self._speakers.items():
            own = [_peer_id(number, address) for address in speaker.peers]
            still = [id_ for id_ in kept.get("peers", ()) if _as_of(id_) == number and id_ not in own]
            for version in (4, 6):
                speaker_id = _named(_speaker_id(number, version))
                speakers.append({**speaker_id, "local_as": number, "ip_version": version, "peers": [*own, *still]})
            peers += [self._peer(number, each) for each in speaker.peers.values()]
            for destination, next_hop in speaker.routes.items():
                id_ = _route_id(number, destination)
                of = _speaker_id(number, 6 if ":" in destination else 4)
                fields = {"speaker_id": of, "destination": destination, "next_hop": next_hop}
                advertisements.append({"id": id_, **fields})
        return {
            "speakers": speakers,
            "peers": peers,
            "advertisements": advertisements,
            "keep": sorted(set(_all(kept.values())) - {each["id"] for each in (*speakers, *peers, *advertisements)}),
        }

    def _peer(self, number: int, peer: _Peer) -> dict[str, Any]:
        return {
            **_named(_peer_id(number, peer.address)),
            "address": peer.address,
            "remote_as": peer.remote_as,
            "local_as": number,
            "families": ["ipv4", "ipv6"],
            "password": peer.password,
            "passive": peer.address in self._conf.bgpvpn_passive_peers,
            "multihop_ttl": self._conf.bgpvpn_ttl,
            "restart_time_s": self._conf.bgpvpn_restart_time,
        }


def _called_by(name: str) -> bool:
    """Tell whether a function of this name is among those that led here.

    The agent calls `delete_bgp_speaker` alike when Neutron tells it to remove one and when a resync finds it gone.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == name:
            return True
        frame = frame.f_back
    return False


def _prefix(cidr: str) -> str:
    try:
        return str(ipaddress.ip_network(cidr, strict=False))
    except ValueError:
        raise exceptions.InvalidParamType(param=cidr, param_type="ip-network") from None


def _named(id_: str) -> dict[str, str]:
    return {"id": id_, "name": id_}


def _speaker_id(number: int, version: int) -> str:
    return f"{OWNER}.{number}.ipv{version}"


def _peer_id(number: int, address: str) -> str:
    return f"{OWNER}.{number}.{address}"


def _route_id(number: int, destination: str) -> str:
    return f"{OWNER}.{number}.{destination.replace('/', '-')}"


def _as_of(id_: str) -> int:
    """Return the AS that an id of ours is of; 0: nobody's, so that it goes."""
    number = id_.split(".")[1]
    return int(number) if number.isdigit() else 0


def _all(lists: Iterable[Iterable[str]]) -> list[str]:
    return [each for one in lists for each in one]
