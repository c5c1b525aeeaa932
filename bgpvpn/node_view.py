"""The node as an object for the API: what it is, what it can do, and what it serves (rim, as it reads settings)."""

from __future__ import annotations

import bgpvpn
from bgpvpn.config import Config
from bgpvpn.intent import Intent
from bgpvpn.objects import TECHNIQUES, title
from bgpvpn.views import Plain


def node_view(config: Config, intent: Intent) -> Plain:
    """Return {"id", "host", "router_id", ...}; ranges are their first and last number."""
    node = config.node
    listen = config.bagpipe.listen
    return {
        "id": node.router_id,
        "host": node.host,
        "router_id": node.router_id,
        "local_as": node.local_as,
        "tunnel_ip": list(node.tunnel_ip),
        "gateway_mac": node.gateway_mac,
        "encapsulations": ["mpls-gre", "vxlan"],
        "techniques": [technique for several in TECHNIQUES.values() for technique in several],
        "label_range": _ends(config.labels.range),
        "vni_range": _ends(config.vni.range),
        "version": bgpvpn.__version__,
        "bagpipe": None if listen is None else f"{listen[0]}:{listen[1]}",
        "speakers": [title(speaker) for speaker in intent.speakers.rows.values()],
    }


def _ends(numbers: range) -> list[int]:
    return [numbers.start, numbers.stop - 1]
