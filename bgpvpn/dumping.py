"""Who the routes of a node are from, and a dump of all of them in MRT format."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from bgpvpn.node import NodeSettings
from speaker.decision import LOCAL
from speaker.engine import Engine
from speaker.mrt import IndexedPeer
from speaker.peer import Peer
from speaker.table_dump import Dumped, table_dump
from speaker.values import Family


def dump(
    settings: NodeSettings,
    engine: Engine,
    peers: Mapping[str, Peer],
    families: Iterable[str],
    *,
    pre_policy: bool,
    started_at: float,
    now: float,
    wall: float,
) -> Iterator[bytes]:
    """Yield MRT records of these families, of all if none is named; ValueError for a text that names none.

    `peers` are by address; `started_at` and `now` are of the clock that the peers know, `wall` is seconds since 1970.
    """
    wanted = [Family.parse(text) for text in families] or list(Family)

    def dumped(address: bytes, asn: int, router_id: bytes, since: float) -> Dumped:
        return Dumped(
            peer=IndexedPeer(address=address, asn=asn, router_id=router_id), since=int(wall - max(now - since, 0.0))
        )

    sources = {LOCAL: dumped(bytes(4), settings.local_as, settings.identity.router_id, started_at)}
    for address, peer in peers.items():
        asn = peer.settings.remote_as if peer.negotiated is None else peer.negotiated.remote_as
        packed = ipaddress.ip_address(address).packed
        sources[address] = dumped(packed, asn, engine.rib.origin(address).router_id, peer.since)
    return table_dump(engine, sources, wanted, pre_policy=pre_policy, wall=int(wall))
