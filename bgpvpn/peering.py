"""From wishes for peers and policies to the speaker's peers (rim): what is configured of each, and what became of it.

    [intent.peers] -----sync--> Settings, Endpoint --> Transport.add_peer, change_peer, remove_peer, add_range ...
                          |
    [intent.policies] ----+---> Terms -------------> Neighbour.change: no session ends
    [intent.speakers] ----+

A speaker says which own routes its peers hear, and the AS that they know us by unless they say one themselves.  An
external peer without an export policy hears what its speakers say and nothing else: that it was put into them is what
RFC 8212 asks for.

A policy is compiled once for all neighbours that it treats the same, so that they have the same Terms.  A wish whose
address is a prefix stands for all neighbours that connect from there; they come and go with their sessions.
"""

from __future__ import annotations

import ipaddress
import logging
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

import attrs

from bgpvpn import rules, sessions, trial, views
from bgpvpn.advertising import FAMILY_OF
from bgpvpn.config import NodeConfig
from bgpvpn.intent import Intent
from bgpvpn.objects import IntentError, Peer, Policy, Speaker
from bgpvpn.policies import BUILT_IN
from bgpvpn.statuses import Verdict
from bgpvpn.views import Plain
from speaker import policy
from speaker.decision import LOCAL, is_own, local
from speaker.engine import Engine
from speaker.outward import UNICAST
from speaker.peer import Peer as Neighbour
from speaker.session import Settings
from speaker.signatures import AoKey
from speaker.sockets import Endpoint, canonical
from speaker.terms import Decide, PrefixLimit, Terms
from speaker.transport import Transport
from speaker.values import Family, ValueTextError

log = logging.getLogger(__name__)

DEFAULT_LIMIT = PrefixLimit(most=1_000_000)
"""Of a family that a peer's limits do not speak of: more than any PE needs, and less than takes the node down."""

TREATMENT = ("import_policy", "export_policy", "route_reflector_client", "prefix_limits", "paths_out")
"""Fields of a peer that change without a session ending."""


class Peering:
    """The peers of a node.

    `starting` tells whether it waits for what its peers know, so that no peer may wait for it (the R bit of RFC 4724);
    `preserved` whether what an earlier life of it told is still forwarded (the F bits).
    """

    def __init__(
        self,
        node: NodeConfig,
        intent: Intent,
        engine: Engine,
        transport: Transport,
        *,
        starting: Callable[[], bool],
        preserved: Callable[[], bool],
        time: Callable[[], float],
    ) -> None:
        self.impossible: dict[str, str] = {}  # id -> why there cannot be such a peer
        self._node = node
        self._intent = intent
        self._engine = engine
        self._transport = transport
        self._starting = starting
        self._preserved = preserved
        self._time = time
        self._dirty = intent.peers.reader()
        self._dirty_policies = intent.policies.reader()
        self._dirty_speakers = intent.speakers.reader()
        self._wish_of: dict[str, str] = {}  # address of a neighbour -> id of the wish that it is there for
        self._ranges: dict[str, tuple[Peer, Settings]] = {}  # id -> the wish by which its range was made
        self._read: dict[str, tuple[Policy, policy.Policy]] = {}  # by name: as it is wished, and what that says
        self._compiled: WeakValueDictionary[tuple[tuple[Family, policy.Policy], ...], Decide] = WeakValueDictionary()

    def sync(self) -> None:
        """Make the speaker's peers those of the intent."""
        dirty = self._dirty.take()
        policies = self._dirty_policies.take()
        speakers = self._dirty_speakers.take()
        if not dirty and not policies and not speakers:
            return
        for name in policies:
            self._read.pop(name, None)
        peers = self._intent.peers
        for id_, before in speakers.items():
            for speaker in filter(None, (before, self._intent.speakers.get(id_))):
                for peer in filter(None, map(peers.get, speaker.peers)):
                    dirty.setdefault(peer.id, peer)
        for id_, seen in dirty.items():
            wish = peers.get(id_)
            if seen is not None and (wish is None or wish.address != seen.address):
                self._remove(seen)
        for wish in filter(None, map(peers.get, dirty)):
            self.impossible.pop(wish.id, None)
            try:
                if wish.dynamic:
                    self._set_range(wish)
                else:
                    self._set(wish)
            except (OSError, ValueError) as error:
                reason = str(error.strerror if isinstance(error, OSError) else error)
                self.impossible[wish.id] = reason
                log.error("peer=%s session=impossible reason=%r", wish.address, reason)
        for wish in peers.rows.values():
            if wish.id not in dirty and any(name in policies for _, name in wish.policies()):
                self._treat(wish)
        self._engine.own.asns = frozenset({self._node.local_as, *map(self._local_as, peers.rows.values())})

    def addresses(self, wish: Peer) -> list[str]:
        """Return where the neighbours are that are there for a wish: one, or those of a prefix."""
        if not wish.dynamic:
            return [canonical(wish.address)]
        return [address for address, id_ in self._wish_of.items() if id_ == wish.id]

    def of_speaker(self, speaker: Speaker) -> list[str]:
        """Return the addresses of the neighbours that are there for a speaker's peers."""
        return [
            address
            for wish in filter(None, map(self._intent.peers.get, speaker.peers))
            for address in self.addresses(wish)
            if self._wish_of.get(address) == wish.id
        ]

    def neighbours(self) -> Iterator[tuple[str, Peer]]:
        """Yield the address of each neighbour that is there, and the wish for it."""
        for wish in self._intent.peers.rows.values():
            for address in self.addresses(wish):
                if address in self._wish_of:
                    yield address, wish

    def find(self, text: str) -> list[str]:
        """Return the addresses of the neighbours of this name or address."""
        named = [address for address, wish in self.neighbours() if text in (wish.name, wish.id, wish.address)]
        if named:
            return named
        try:
            return [address] if (address := canonical(text)) in self._wish_of else []
        except ValueError:
            return []

    def try_policy(self, wanted: Policy, on: Mapping[str, Any]) -> list[Plain]:
        """Return what a policy would make of a route, or of those of a peer (`api.bodies.PolicyTest`); IntentError."""
        said = wanted.read()
        if (on["peer"] is None) == (on["route"] is None):
            raise IntentError("peer", on["peer"], "exactly one of peer and route is wanted")
        if on["route"] is not None:
            return [trial.of_route(said, on["route"], on["family"], self._node.local_as)]
        found = self.find(on["peer"])
        if len(found) != 1:
            raise IntentError("peer", on["peer"], f"{len(found)} neighbours are {on['peer']!r}; one is wanted")
        (address,) = found
        wish = self._intent.peers[self._wish_of[address]]
        try:
            family = None if on["family"] is None else Family.parse(on["family"])
            rows = self._rows(address, wish, family, on["direction"])
            facts = self.facts(address, wish)
            return trial.of_rows(said, rows, facts, prefix=on["prefix"], most=on["limit"])
        except ValueError as error:
            field = "family" if isinstance(error, ValueTextError) else "prefix"
            raise IntentError(field, on[field], str(error)) from None

    def _rows(self, address: str, wish: Peer, family: Family | None, direction: str) -> Iterable[views.Row]:
        """Return the routes of a neighbour as they came, or those that it could be told, before the export policy."""
        heard = {name: each.adj_rib_in for name, each in self._engine.neighbours.items()}
        if direction == "in":
            return views.as_they_came({address: heard[address]}, family)
        families = [Family.parse(text) for text in wish.families]
        return (
            row
            for row in views.in_rib(self._engine.rib, heard)
            if family in (None, row.family) and row.family in families and row.source != address
            if row.source == LOCAL
            or row.source in self._engine.neighbours[address].terms.hears
            or (self._engine.groups.reflecting and not is_own(row.source))
        )

    def verdict(self, wish: Peer) -> Verdict:
        """Return the status of a peer as a wish."""
        if wish.id in self.impossible:
            return "ERROR", self.impossible[wish.id]
        if wish.dynamic:
            state, reason = sessions.verdict_of_range(wish, len(self.addresses(wish)))
        else:
            state, reason = sessions.verdict(wish, self._transport.peers.get(canonical(wish.address)))
        spoken = {f"ipv{speaker.ip_version}" for speaker in self._speakers(wish)}
        unsaid = sessions.without_policy(wish, self._local_as(wish), spoken) if state != "DOWN" else ""
        return state, "; ".join(filter(None, (reason, unsaid)))

    # The speaker's peers

    def _set(self, wish: Peer) -> None:
        """Add a peer or change it; OSError or ValueError if it cannot be so."""
        address, settings, endpoint = canonical(wish.address), self._settings(wish), _endpoint(wish)
        if self._wish_of.get(address) == wish.id:
            self._treat(wish)
            if not wish.admin_state_up:
                self._transport.disable_peer(address, "administratively down")
            self._transport.change_peer(endpoint, settings)
            if wish.admin_state_up:
                self._transport.enable_peer(address)
            return
        if address in self._wish_of:  # a neighbour of a range makes way for what is configured by itself
            self._transport.remove_peer(address)
        peer = self._made(wish, address, settings)
        try:
            self._transport.add_peer(peer, endpoint, enabled=wish.admin_state_up)
        except BaseException:
            self._ended(address)
            raise

    def _made(self, wish: Peer, address: str, settings: Settings) -> Neighbour:
        """Make a neighbour, and what reads and writes its routes."""
        starting, preserved = self._starting(), self._preserved()
        # What speakers say leads past this node.
        forwarding = [family for family in settings.families if preserved or family in UNICAST]
        peer = Neighbour(
            wish.name if wish.name and not wish.dynamic else address,
            settings,
            self._engine.add(address),
            self._engine.interner,
            random.random,
            restarting=starting,
            forwarding=frozenset(forwarding) if starting else frozenset(),
        )
        self._wish_of[address] = wish.id
        self._treat(wish, address)
        return peer

    def _ended(self, address: str) -> None:
        self._wish_of.pop(address, None)
        self._engine.remove(address)

    def _remove(self, wish: Peer) -> None:
        self.impossible.pop(wish.id, None)
        if self._ranges.pop(wish.id, None) is not None:
            self._transport.remove_range(wish.address)
        address = "" if wish.dynamic else canonical(wish.address)
        if self._wish_of.get(address) == wish.id:
            self._transport.remove_peer(address)
            self._ended(address)

    def _set_range(self, wish: Peer) -> None:
        """Let peers in a prefix connect, or change how; OSError or ValueError if it cannot be so."""
        settings, endpoint = self._settings(wish), _endpoint(wish, str(ipaddress.ip_network(wish.address)[0]))
        seen = self._ranges.get(wish.id)
        treatment = {name: getattr(wish, name) for name in TREATMENT}
        if seen is not None and seen[1] == settings and attrs.evolve(seen[0], **treatment) == wish:
            self._treat(wish)
            return
        self._remove(wish)
        if wish.admin_state_up:
            self._transport.add_range(
                wish.address,
                partial(self._joined, wish.id, settings),
                limit=wish.dynamic_limit,
                ended=self._ended,
                linger_s=wish.restart_time_s + wish.long_lived_s,
                password=endpoint.password,
                ao_keys=endpoint.ao_keys,
            )
            self._ranges[wish.id] = (wish, settings)

    def _joined(self, id_: str, settings: Settings, address: str) -> tuple[Neighbour, Endpoint]:
        """Make the neighbour that connects from an address in a prefix."""
        wish = self._intent.peers[id_]
        return self._made(wish, address, settings), _endpoint(wish, address)

    def _speakers(self, wish: Peer) -> list[Speaker]:
        """Return the speakers that a peer is in; they have one AS, or the peer has its own."""
        return list(self._intent.referring("peer", wish.id, "speaker"))

    def _local_as(self, wish: Peer) -> int:
        ours = next((speaker.local_as for speaker in self._speakers(wish)), self._node.local_as)
        return wish.local_as or ours

    def _settings(self, wish: Peer) -> Settings:
        settings = Settings(
            local_as=self._local_as(wish),
            remote_as=wish.remote_as,
            router_id=ipaddress.ip_address(self._node.router_id).packed,
            families=tuple(Family.parse(text) for text in wish.families),
            hold_time_s=wish.hold_time_s,
            restart_time_s=wish.restart_time_s,
            long_lived_s=wish.long_lived_s,
            passive=wish.passive or wish.dynamic,
            host_name=self._node.host,
            role=wish.role,
            strict_role=wish.strict_role,
            add_path_receive=frozenset(map(Family.parse, wish.add_path_receive)),
            add_path_send=frozenset(map(Family.parse, wish.add_path_send)),
        )
        if wish.route_reflector_client and not settings.ibgp:
            raise ValueError("only a peer of our own AS can be a client of a route reflector (RFC 4456 section 5)")
        return settings

    # How their routes are treated

    def _treat(self, wish: Peer, *addresses: str) -> None:
        """Hand their terms to the neighbours of a wish, where they are not those that they have."""
        for address in addresses or self.addresses(wish):
            neighbour = self._engine.neighbours.get(address)
            if neighbour is not None and self._wish_of.get(address) == wish.id:
                terms = self._terms(address, wish)
                if terms != neighbour.terms:
                    self._engine.change(address, terms, self._time())

    def _terms(self, address: str, wish: Peer) -> Terms:
        limits = wish.prefix_limits
        other = limits.get(rules.EVERY_FAMILY, DEFAULT_LIMIT)
        speakers = self._speakers(wish)
        unsaid = self._unsaid(wish) & {FAMILY_OF[speaker.ip_version] for speaker in speakers}
        return Terms(
            importing=self._decide(address, wish, wish.import_policy),
            exporting=self._decide(address, wish, wish.export_policy, unsaid),
            client=wish.route_reflector_client,
            limits={family: limits.get(family.text, other) for family in map(Family.parse, wish.families)},
            paths_out=wish.paths_out if wish.add_path_send else 1,
            hears=frozenset(local(speaker.id) for speaker in speakers),
            own_only=unsaid,
        )

    def _unsaid(self, wish: Peer) -> frozenset[Family]:
        """Return the families of which an external peer has no export policy (RFC 8212)."""
        policy = wish.export_policy
        if wish.remote_as == self._local_as(wish) or isinstance(policy, str):
            return frozenset()
        return frozenset(Family.parse(text) for text in wish.families if text not in (policy or {}))

    def facts(self, address: str, wish: Peer) -> policy.Facts:
        """Return what a policy may ask of a neighbour."""
        return policy.Facts(address=address, remote_as=wish.remote_as, local_as=self._local_as(wish))

    def policy(self, name: str) -> policy.Policy:
        """Return what a policy says; KeyError if there is none."""
        if name in BUILT_IN:
            return policy.ACCEPT if name == "accept" else policy.REJECT
        wish = self._intent.policies[name]
        kept = self._read.get(name)
        if kept is None or kept[0] is not wish:
            kept = self._read[name] = (wish, wish.read())
        return kept[1]

    def _decide(
        self,
        address: str,
        wish: Peer,
        wanted: str | Mapping[str, str] | None,
        accepted: frozenset[Family] = frozenset(),
    ) -> Decide:
        """Return the decision of the policies that a neighbour has in one direction, by family.

        `accepted`: families of which an external peer hears without a policy, too.
        A policy that is not given by family is about destinations, and lets memberships (RFC 4684) through; "reject"
        does not.
        """
        facts = self.facts(address, wish)
        by_name: dict[str, policy.Policy] = {}
        by_family: dict[Family, policy.Policy] = {}
        for family in sorted(map(Family.parse, wish.families)):
            name = wanted.get(family.text) if isinstance(wanted, Mapping) else wanted
            if name is None:
                internal = facts.remote_as == facts.local_as
                name = "accept" if internal or family in accepted else "reject"  # RFC 8212 section 3
            elif family is Family.RTC and not isinstance(wanted, Mapping) and name != "reject":
                name = "accept"
            if name not in by_name:
                by_name[name] = policy.specialised(self.policy(name), facts)
            by_family[family] = by_name[name]
        key = tuple(by_family.items())
        found = self._compiled.get(key)
        if found is None:
            found = self._compiled[key] = policy.compiled(by_family, self._engine.interner)
        return found


def _endpoint(wish: Peer, address: str = "") -> Endpoint:
    return Endpoint(
        address=address or wish.address,
        port=wish.port,
        source=wish.local_address,
        password=None if wish.password is None else wish.password.encode(),
        ao_keys=tuple(
            AoKey(each.send_id, each.receive_id, each.secret.encode(), each.algorithm) for each in wish.tcp_ao
        ),
        ttl=wish.multihop_ttl,
        ttl_security_hops=wish.ttl_security_hops,
    )
