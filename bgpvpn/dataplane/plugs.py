"""What Open vSwitch shall have for our ports: for each interface an internal port, and the bridge's port that it meets.

The stage [endpoints], [segments] and [intent.ports] -> plugs: an interface that is attached to a segment and has an
OvsPlug is wanted; stations behind one interface have one plug.
"""

from __future__ import annotations

import attrs

from bgpvpn.intent import Intent
from bgpvpn.objects import OvsPlug
from bgpvpn.segment import Segments


@attrs.frozen
class Plug:
    """An interface of ours that is an internal port of a bridge, and what passes there."""

    interface: str
    at: OvsPlug
    switched: bool = False  # in an l2 VPN: frames are others' too, and pass as they are
    fallback_mac: str | None = None
    mtu: int | None = None


class Plugs:
    """Which plugs there are, by port and by interface."""

    def __init__(self, segments: Segments, intent: Intent) -> None:
        self._intent = intent
        self._endpoints = segments.endpoints.reader()
        self._segments = segments.segments.reader()
        self._ports = intent.ports.reader()
        self._networks = intent.networks.reader()
        self.of_port: dict[str, Plug] = {}

    def step(self) -> bool:
        """Bring the plugs up to the tables; tell whether one has changed."""
        dirty = {**self._endpoints.take(), **self._ports.take()}
        segments, networks = self._segments.take(), self._networks.take()
        if segments or networks:
            dirty.update(dict.fromkeys(self.of_port))
        changed = False
        for port_id in dirty:
            plug = self._plug(port_id)
            if plug != self.of_port.get(port_id):
                changed = True
                self.of_port.pop(port_id, None)
                if plug is not None:
                    self.of_port[port_id] = plug
        return changed

    def by_interface(self) -> dict[str, Plug]:
        """Return what is wanted, by the name of the interface."""
        return {plug.interface: plug for plug in self.of_port.values()}

    def _plug(self, port_id: str) -> Plug | None:
        port, endpoint = self._intent.ports.get(port_id), self._endpoints.table.get(port_id)
        if port is None or port.ovs is None or endpoint is None:
            return None
        segment = self._segments.table.get(endpoint.segment)
        network = self._intent.networks.get(port.network_id or "")
        return Plug(
            interface=port.interface,
            at=port.ovs,
            switched=segment is not None and bool(segment.of_type("l2")),
            fallback_mac=None if network is None else network.fallback_mac,
            mtu=None if network is None else network.mtu,
        )
