"""What tests of the API of bagpipe-bgp share: a request, the settings of a node, an event loop."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bgpvpn.config import Config

MAC = "fa:16:3e:11:22:33"
ATTACH: dict[str, Any] = {
    "vpn_type": "ipvpn",
    "vpn_instance_id": "blue",
    "mac_address": MAC,
    "ip_address": "10.0.0.5",
    "gateway_ip": "10.0.0.1",
    "local_port": {"linuxif": "tap1"},
    "import_rt": ["64512:1"],
    "export_rt": ["64512:1"],
}
EVPN = ATTACH | {
    "vpn_type": "evpn",
    "vpn_instance_id": "green",
    "local_port": "tap2",
    "vni": 1042,
    "import_rt": ["64512:2"],
}
CONFIG = Config.parse(
    '[node]\nrouter_id = "192.0.2.1"\nlocal_as = 64512\ntunnel_ip = "192.0.2.1"\n[bgp]\nlisten = []\n'
    '[bagpipe]\nlisten = "127.0.0.1:8082"\n',
    Path("bgpvpn.toml"),
)


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test in an event loop of its own."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 60))

    return run
