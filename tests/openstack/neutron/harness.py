"""A real Neutron with the real bagpipe agent extension, as a process (see program.py), and what a test does with it.

with Neutron.running(folder, bagpipe_port=8082) as neutron:
    network = neutron.post("networks", name="red")
    port = neutron.plugged(neutron.post("ports", network_id=network["id"]))
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import attrs
import httpx

from tests.openstack.clients import OPENSTACK

PROGRAM = Path(__file__).with_name("program.py")
BAGPIPE = "networking_bgpvpn.neutron.services.service_drivers.bagpipe.bagpipe_v2.BaGPipeBGPVPNDriver"
HOST = "node1"
START_LIMIT_S = 120.0
LIMIT_S = 60.0
LAST_WORDS = 40

PATHS = {"bgpvpns": "bgpvpn/bgpvpns", "security_group_rules": "security-group-rules"}
"""Where a collection does not stand at its own name."""


class ProgramError(Exception):
    """The agent could not do what it was told, or said nothing in time."""


@attrs.frozen
class Plugged:
    """A port that the L2 agent has plugged, and what it was told of it."""

    id: str
    mac: str
    ips: tuple[str, ...]
    network_id: str
    vlan: int


Start = Callable[[Sequence[str], Mapping[str, str], IO[bytes]], "subprocess.Popen[str]"]
"""Starts a process of these words, with these variables beside others; what it says goes to the file."""


class Neutron:
    """The process, by `url` for clients and by lines for what its agent is to notice."""

    def __init__(self, folder: Path, process: subprocess.Popen[str], near: bool = True) -> None:
        self._folder = folder
        self._process = process
        self._near = near  # its URL can be reached from here
        self.url: str = self._answer(START_LIMIT_S)["url"]
        self.client = httpx.Client(base_url=self.url, timeout=LIMIT_S)

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        folder: Path,
        bagpipe_port: int,
        provider: str = f"BGPVPN:BaGPipe:{BAGPIPE}:default",
        start: Start | None = None,
        settings: Mapping[str, str] = {},
    ) -> Iterator[Self]:
        """One that answers. `start` starts its process somewhere else; `settings` are lines by section, beside ours."""
        file = folder / "neutron.conf"
        file.write_text(_settings(folder, bagpipe_port, provider, settings))
        variables = {"OS_NEUTRON_CONFIG_FILES": str(file), "OS_NEUTRON_CONFIG_DIR": str(folder)}
        words = [str(OPENSTACK / "bin/python"), "-W", "ignore", str(PROGRAM), _database(folder)]
        with (folder / "neutron.log").open("wb") as log:
            if start is None:
                environment = {**os.environ, **variables}
                pipe = subprocess.PIPE
                process = subprocess.Popen(words, env=environment, stdin=pipe, stdout=pipe, stderr=log, text=True)
            else:
                process = start(words, variables, log)
        try:
            yield cls(folder, process, start is None)
        except BaseException:
            last = (folder / "neutron.log").read_text(errors="replace").splitlines()[-LAST_WORDS:]
            print("Neutron's last words:", *last, sep="\n    ", file=sys.stderr)
            raise
        finally:
            process.kill()
            process.communicate()

    def _answer(self, within_s: float = LIMIT_S) -> Any:
        assert self._process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(within_s):
                raise ProgramError(f"Neutron's process says nothing for {within_s:g} s")
        line = self._process.stdout.readline()
        if not line:
            raise ProgramError(f"Neutron's process ended with {self._process.wait()}")
        answer = json.loads(line)
        if "error" in answer:
            raise ProgramError(answer["error"])
        return answer

    def tell(self, verb: str, what: object) -> Any:
        """Tell the agent something; return its answer."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({verb: what}) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def log(self) -> str:
        """All that it has logged."""
        return (self._folder / "neutron.log").read_text(errors="replace")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Have the server and the agent do nothing meanwhile."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def asked(self, what: str) -> int:
        """How often the agent has asked bagpipe-bgp for something: "ping", "attach_localport", "detach_localport"."""
        return len(re.findall(rf"bagpipe-bgp client request: [A-Z]+ {what} ", self.log()))

    def asked_in_vain(self) -> int:
        """How often the agent found no daemon."""
        return self.log().count("Failed to connect to bagpipe-bgp")

    def ask(self, method: str, *path: str, body: object = None) -> httpx.Response:
        """Ask for something below /v2.0, and return the answer whatever its status."""
        url = "/".join(["/v2.0", PATHS.get(path[0], path[0]), *path[1:]])
        given = {} if body is None else {"json": body}
        if self._near:
            return self.client.request(method, url, **given)
        told = self.tell("ask", [method, url, body])
        request = self.client.build_request(method, url, **given)
        return httpx.Response(told["status"], text=told["body"], request=request)

    def get(self, *path: str) -> Any:
        """Return what stands at a path."""
        [answer] = self.ask("GET", *path).raise_for_status().json().values()
        return answer

    def post(self, *path: str, **fields: object) -> Any:
        """Make an object, and return it."""
        [answer] = _done(self.ask("POST", *path, body={path[-1].removesuffix("s"): fields})).json().values()
        return answer

    def put(self, *path: str, **fields: object) -> Any:
        """Change an object, and return it."""
        [answer] = _done(self.ask("PUT", *path, body={path[-2].removesuffix("s"): fields})).json().values()
        return answer

    def delete(self, *path: str) -> None:
        """Remove an object."""
        _done(self.ask("DELETE", *path))

    def plug(self, port_id: str) -> Plugged:
        """Have the agent notice the interface of a port, which is bound to its host."""
        told = self.tell("plug", port_id)
        return Plugged(
            port_id,
            told["mac_address"],
            tuple(each["ip_address"] for each in told["fixed_ips"]),
            told["network_id"],
            told["vlan"],
        )

    def unplug(self, port_id: str) -> None:
        """Have the agent notice that the interface of a port is gone."""
        self.tell("unplug", port_id)

    def network(self, name: str, *cidrs: str) -> Any:
        """Make a network with subnets."""
        network = self.post("networks", name=name)
        for cidr in cidrs:
            self.post("subnets", network_id=network["id"], cidr=cidr, ip_version=6 if ":" in cidr else 4)
        return network

    def port(self, network: Any, name: str, *addresses: str) -> Plugged:
        """Make a port of a network on the agent's host, and plug it."""
        fixed = {"fixed_ips": [{"ip_address": each} for each in addresses]} if addresses else {}
        made = self.post(
            "ports",
            network_id=network["id"],
            name=name,
            device_owner="compute:nova",
            **{"binding:host_id": HOST},
            **fixed,
        )
        return self.plug(made["id"])


def _done(response: httpx.Response) -> httpx.Response:
    assert response.is_success, f"{response.request.method} {response.request.url}: {response.text}"
    return response


def _database(folder: Path) -> str:
    return f"sqlite:///{folder}/neutron.db"


def _settings(folder: Path, bagpipe_port: int, provider: str, more: Mapping[str, str]) -> str:
    plugins = "router", "bgpvpn", "neutron_dynamic_routing.services.bgp.bgp_plugin.BgpPlugin"
    sections = {
        "DEFAULT": f"""\
core_plugin = ml2
service_plugins = {",".join(plugins)}
auth_strategy = noauth
transport_url = fake://
api_paste_config = {OPENSTACK}/etc/neutron/api-paste.ini
state_path = {folder}/state
host = {HOST}
agent_down_time = 86400
filter_validation = false
notify_nova_on_port_status_changes = false
notify_nova_on_port_data_changes = false
""",
        "database": f"connection = {_database(folder)}\n",
        "oslo_concurrency": f"lock_path = {folder}/locks\n",
        "ml2": "type_drivers = vxlan\ntenant_network_types = vxlan\nmechanism_drivers = openvswitch\n",
        "ml2_type_vxlan": "vni_ranges = 1:1000\n",
        "service_providers": f"service_provider = {provider}\n",
        "SECURITYGROUP": "firewall_driver = openvswitch\n",
        "BAGPIPE": f"bagpipe_bgp_port = {bagpipe_port}\nping_interval = 2\n",
    }
    for name, lines in more.items():
        sections[name] = sections.get(name, "") + lines
    return "".join(f"[{name}]\n{lines}" for name, lines in sections.items())
