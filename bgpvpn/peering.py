"""From wishes for peers to the speaker's peers (rim): what is configured of each, and what became of it.

[intent.peers] --sync--> Transport.add_peer, change_peer, remove_peer
                   |
                   +---> Engine.add, remove
"""

from __future__ import annotations

import ipaddress
import logging
import random
from collections.abc import Callable

from bgpvpn import sessions
from bgpvpn.config import NodeConfig
from bgpvpn.intent import Intent
from bgpvpn.objects import Peer
from bgpvpn.statuses import Verdict
from speaker.engine import Engine
from speaker.peer import Peer as Neighbour
from speaker.session import Settings
from speaker.sockets import Endpoint, canonical
from speaker.transport import Transport
from speaker.values import Family

log = logging.getLogger(__name__)


class Peering:
    """The peers of a node; `restarting` tells whether the kernel still forwards for an earlier life of it."""

    def __init__(
        self, node: NodeConfig, intent: Intent, engine: Engine, transport: Transport, restarting: Callable[[], bool]
    ) -> None:
        self.impossible: dict[str, str] = {}  # peer address -> why there cannot be such a peer
        self._node = node
        self._intent = intent
        self._engine = engine
        self._transport = transport
        self._restarting = restarting
        self._dirty = intent.peers.reader()

    def sync(self) -> None:
        """Make the speaker's peers those of the intent."""
        dirty = self._dirty.take()
        if not dirty:
            return
        peers = self._intent.peers
        for id_, seen in dirty.items():
            wish = peers.get(id_)
            if seen is not None and (wish is None or wish.address != seen.address):
                self._remove(canonical(seen.address))
        for wish in filter(None, map(peers.get, dirty)):
            address = canonical(wish.address)
            self.impossible.pop(address, None)
            try:
                self._set(address, wish)
            except (OSError, ValueError) as error:
                reason = str(error.strerror if isinstance(error, OSError) else error)
                self.impossible[address] = reason
                log.error("peer=%s session=impossible reason=%r", wish.address, reason)
        self._engine.own.asns = frozenset(
            {self._node.local_as, *(each.local_as for each in peers.rows.values() if each.local_as)}
        )

    def verdict(self, wish: Peer) -> Verdict:
        """Return the status of a peer as a wish."""
        address = canonical(wish.address)
        if address in self.impossible:
            return "ERROR", self.impossible[address]
        return sessions.verdict(wish, self._transport.peers.get(address))

    def _set(self, address: str, wish: Peer) -> None:
        """Add a peer or change it; OSError or ValueError if it cannot be so."""
        settings, endpoint = self._settings(wish), _endpoint(wish)
        if address in self._transport.peers:
            if not wish.admin_state_up:
                self._transport.disable_peer(address, "administratively down")
            self._transport.change_peer(endpoint, settings)
            if wish.admin_state_up:
                self._transport.enable_peer(address)
            return
        restarting = self._restarting()
        peer = Neighbour(
            wish.name or wish.address,
            settings,
            self._engine.add(address),
            self._engine.interner,
            random.random,
            restarting=restarting,
            forwarding=frozenset(settings.families) if restarting else frozenset(),
        )
        try:
            self._transport.add_peer(peer, endpoint, enabled=wish.admin_state_up)
        except BaseException:
            self._engine.remove(address)
            raise

    def _remove(self, address: str) -> None:
        self.impossible.pop(address, None)
        if address in self._transport.peers:
            self._transport.remove_peer(address)
            self._engine.remove(address)

    def _settings(self, wish: Peer) -> Settings:
        return Settings(
            local_as=wish.local_as or self._node.local_as,
            remote_as=wish.remote_as,
            router_id=ipaddress.ip_address(self._node.router_id).packed,
            families=tuple(Family.parse(text) for text in wish.families),
            hold_time_s=wish.hold_time_s,
            restart_time_s=wish.restart_time_s,
            passive=wish.passive,
            host_name=self._node.host,
        )


def _endpoint(wish: Peer) -> Endpoint:
    return Endpoint(
        address=wish.address,
        port=wish.port,
        source=wish.local_address,
        password=None if wish.password is None else wish.password.encode(),
        ttl=wish.multihop_ttl,
        ttl_security_hops=wish.ttl_security_hops,
    )
