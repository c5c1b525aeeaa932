"""The lab of lab/features as its tests see it: what each end shows, and the peers of ours as they are at first."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from cli.api import Api
from lab.runner import Lab, eventually

FILE = Path(__file__).resolve().parent.parent.parent / "lab/features/features.clab.yml"

WITHIN_S = 30.0
BOTH = ["ipv4", "ipv6"]
SHARED = "203.0.113.0/24"
"""What all clients say: BIRD twice, GoBGP with local preference 200."""

CLIENT = {
    "remote_as": 64512,
    "local_address": "192.0.2.100",
    "families": BOTH,
    "route_reflector_client": True,
    "add_path_receive": ["ipv4"],
    "add_path_send": ["ipv4"],
    "paths_out": 8,
    "restart_time_s": 4,
    "long_lived_s": 3600,
}
OUTSIDE = {"families": ["ipv4"], "import_policy": "accept", "export_policy": "accept"}
PEERS: dict[str, dict[str, Any]] = {
    "frr": {"address": "192.0.2.1", **CLIENT},
    "gobgp": {"address": "192.0.2.2", **CLIENT},
    "bird": {"address": "192.0.2.3", **CLIENT},
    "exabgp": {"address": "192.0.2.4", **CLIENT},
    "frr-out": {"address": "10.0.5.1", "remote_as": 64601, **OUTSIDE, "ttl_security_hops": 1, "role": "provider"},
    "gobgp-out": {"address": "10.0.6.1", "remote_as": 64602, **OUTSIDE, "families": BOTH, "ttl_security_hops": 1},
    "bird-out": {"address": "10.0.3.1", "remote_as": 64603, **OUTSIDE, "ttl_security_hops": 1, "role": "customer"},
    "frr-out6": {
        "address": "fd00:0:0:5::1",
        "remote_as": 64601,
        **OUTSIDE,
        "families": BOTH,
        "local_address": "fd00:0:0:5::2",
    },
    "bird-out6": {
        "address": "fd00:0:0:3::1",
        "remote_as": 64603,
        **OUTSIDE,
        "families": BOTH,
        "local_address": "fd00:0:0:3::2",
    },
}
"""By name: what is made of each through the API. FRR outside is our customer, BIRD outside our provider.

FRR that takes IPv6 next hops sends router advertisements, and the kernel takes an address from them: hence
local_address.
"""

DEFAULTS = {"prefix_limits": 1_000_000, "strict_role": False, "admin_state_up": True}
"""Of fields that a peer has anyway; of others it is null."""

CLIENTS = ("frr", "gobgp", "bird", "exabgp")
OWN = {
    "frr": "198.51.100.0/26",
    "gobgp": "198.51.100.64/26",
    "bird": "198.51.100.128/26",
    "exabgp": "198.51.100.192/26",
    "frr-out": "100.64.5.0/24",
    "gobgp-out": "100.64.6.0/24",
    "bird-out": "100.64.3.0/24",
}
"""The IPv4 route that each peer alone says."""
OWN6 = {
    "frr": "2001:db8:100::/48",
    "gobgp": "2001:db8:200::/48",
    "bird": "2001:db8:300::/48",
    "exabgp": "2001:db8:400::/48",
    "frr-out6": "2001:db8:500::/48",
    "gobgp-out": "2001:db8:600::/48",
    "bird-out6": "2001:db8:3000::/48",
}
"""The IPv6 route that each peer alone says."""


class Features:
    """The lab, up."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.api = Api(str(lab.folder / "ours/run/bgpvpn/api.sock"))

    # Ours

    def make_peers(self, *names: str) -> None:
        """Make peers as they are at first."""
        for name in names or PEERS:
            self.api.post({"name": name, **PEERS[name]}, "peers")

    def session(self, name: str) -> Any:
        """What `bgpvpn show sessions` says of a peer, by name or address."""
        address = PEERS[name]["address"] if name in PEERS else name
        return next(each for each in self.api.get("sessions") if each["address"] == address)

    def established(self, *names: str) -> None:
        """Wait until peers, or all, have sessions with all that they have to say."""
        for name in names or PEERS:
            self.soon(lambda name=name: self.session(name)["synced"], f"{name} is established")

    def routes(self, prefix: str, source: str | None = None) -> list[Any]:
        """What `bgpvpn show routes` says of a prefix, and of it from a peer."""
        address = None if source is None else PEERS[source]["address"]
        found = self.api.get("routes", prefix=prefix)
        return [route for route in found if address in (None, route["source"])]

    @contextmanager
    def changed(self, name: str, **fields: Any) -> Iterator[None]:
        """Change a peer of ours, and change it back."""
        before = {field: PEERS[name].get(field, DEFAULTS.get(field)) for field in fields}
        self.api.patch(fields, "peers", name)
        try:
            yield
        finally:
            self.api.patch(before, "peers", name)

    def flaps_nothing(self, *names: str) -> Callable[[], bool]:
        """Return a question: whether the sessions of now are those of then."""
        before = {name: self.session(name)["established"] for name in names or PEERS}
        return lambda: before == {name: self.session(name)["established"] for name in before}

    # Theirs

    def vtysh(self, node: str, *lines: str) -> str:
        return self.lab.run(node, "vtysh", *(word for line in lines for word in ("-c", line)))

    def configure(self, node: str, *lines: str) -> None:
        """Change the configuration of an FRR, in `router bgp`."""
        local_as = 64601 if node == "frr-out" else 64512
        self.vtysh(node, "configure terminal", f"router bgp {local_as}", *lines)

    def frr_neighbour(self, node: str, address: str = "192.0.2.100") -> Any:
        return json.loads(self.vtysh(node, f"show bgp neighbors {address} json"))[address]

    def frr_paths(self, node: str, prefix: str) -> list[Any]:
        family = "ipv6" if ":" in prefix else "ipv4"
        return list(json.loads(self.vtysh(node, f"show bgp {family} unicast {prefix} json")).get("paths", []))

    def gobgp(self, node: str, *words: str) -> Any:
        """What `gobgp -j` answers."""
        return json.loads(self.lab.run(node, "gobgp", "-j", *words) or "null")

    def gobgp_paths(self, node: str, prefix: str) -> list[Any]:
        """The paths to a prefix that came from us."""
        family = "ipv6" if ":" in prefix else "ipv4"
        found = self.gobgp(node, "global", "rib", "-a", family) or {}
        return [path for path in found.get(prefix, []) if path.get("neighbor-ip") in ("192.0.2.100", "10.0.6.2")]

    def birdc(self, *words: str) -> str:
        return self.lab.run("bird", "birdc", "-s", "/run/bird/bird.ctl", *words)

    def bird_paths(self, prefix: str, protocol: str = "inside") -> list[str]:
        """The paths to a prefix that came in by a session of BIRD, each in its words."""
        six = "6" if ":" in prefix else "4"
        table = f"{'master' if protocol == 'inside' else 'out'}{six}"
        text = self.birdc("show", "route", "table", table, "protocol", protocol, "all")
        found, here = [], ""
        for line in text.splitlines():
            if re.match(r"\S*\s+(unicast|unreachable|blackhole)", line):
                here = line.split()[0] if not line.startswith(" ") else here
                if here == prefix:
                    found.append(line)
            elif found and here == prefix:
                found[-1] += f"\n{line}"
        return found

    def heard(self) -> list[Any]:
        """What ExaBGP heard since its start."""
        text = (self.lab.folder / "exabgp/run/exabgp/heard").read_text()
        return [json.loads(line) for line in text.splitlines() if line.endswith("}")]

    def say(self, *commands: str) -> None:
        """Tell ExaBGP what to announce."""
        with open(self.lab.folder / "exabgp/run/exabgp/said", "a") as said:
            said.writelines(f"{command}\n" for command in commands)

    # Waiting

    def soon(self, fact: Callable[[], Any], what: str, within_s: float = WITHIN_S) -> Any:
        """Wait for a fact and return it."""
        return eventually(fact, within_s, what)

    def reaches(self, prefix: str, **at: Callable[[str], Any]) -> None:
        """Wait until a prefix is at those who are asked."""
        for name, ask in at.items():
            self.soon(partial(ask, prefix), f"{name} has {prefix}")
