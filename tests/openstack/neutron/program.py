"""Neutron's server and a compute node's L2 agent in one process, without a message bus.

Real are the WSGI application with ML2 and its plugins, the server's RPC listeners, the agent extension and its client
of bagpipe-bgp; what they say to each other goes through oslo.messaging's transport within a process. Made up are the
bridges of Open vSwitch and the loop that notices interfaces there: a line of JSON on standard input plugs a port.
Where the settings name extensions of an L2 agent, it is the real neutron-openvswitch-agent instead, with a real Open
vSwitch; what it is to notice happens there, and nothing is said to it here.
It runs in the virtual environment of OpenStack's programs: program.py DATABASE, with OS_NEUTRON_CONFIG_FILES.

in                                          out
                                            {"url": "http://127.0.0.1:N"} once all is ready
{"plug": PORT} or {"unplug": PORT}          {"vlan": N, ...} what the L2 agent knows of it, or {"error": ...}
{"flows": BRIDGE}                           {"flows": [...]} those that the extension wants to be there
{"restart_ovs": true}                       {}
{"ask": [METHOD, PATH, BODY or null]}       {"status": N, "body": TEXT}, for who cannot reach the URL
"""

from __future__ import annotations

import functools
import itertools
import json
import logging
import os
import queue
import socketserver
import sys
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref import simple_server

import neutron  # type: ignore[import-not-found]  # noqa: F401  it chooses threads for oslo.service, so it comes first
import requests  # type: ignore[import-untyped]
import sqlalchemy  # type: ignore[import-not-found]
from networking_bagpipe.agent.bgpvpn import agent_extension  # type: ignore[import-not-found]
from networking_bgpvpn.neutron.db import head  # type: ignore[import-not-found]
from neutron import server  # type: ignore[import-not-found]
from neutron.agent import rpc as agent_rpc  # type: ignore[import-not-found]
from neutron.agent.common import ovs_lib  # type: ignore[import-not-found]
from neutron.api.rpc.callbacks import resources as rpc_resources  # type: ignore[import-not-found]
from neutron.conf.agent import agent_extensions_manager  # type: ignore[import-not-found]
from neutron.plugins.ml2.drivers.openvswitch.agent import vlanmanager  # type: ignore[import-not-found]
from neutron.server import api  # type: ignore[import-not-found]
from neutron_dynamic_routing.db import bgp_db, bgp_dragentscheduler_db  # type: ignore[import-not-found]  # noqa: F401
from neutron_lib import constants, context, rpc  # type: ignore[import-not-found]
from neutron_lib.agent import topics  # type: ignore[import-not-found]
from neutron_lib.callbacks import events, registry, resources  # type: ignore[import-not-found]
from neutron_lib.plugins import directory  # type: ignore[import-not-found]
from neutron_lib.plugins.ml2 import ovs_constants  # type: ignore[import-not-found]
from oslo_config import cfg  # type: ignore[import-not-found]
from oslo_messaging._drivers import impl_fake  # type: ignore[import-not-found]
from oslo_serialization import jsonutils  # type: ignore[import-not-found]

AGENT = "agent"
FIRST_VLAN = 31
LIMIT_S = 50.0


class Bridge:
    """A bridge of Open vSwitch that remembers its ports and flows and carries no packets."""

    @classmethod
    @functools.cache
    def named(cls, name: str) -> Bridge:
        """The bridge of this name; there is one."""
        return cls(name)

    def __init__(self, name: str) -> None:
        self.br_name = name
        self.ports: dict[str, int] = {}
        self.flows: list[dict[str, Any]] = []

    def bridge_exists(self, _name: str) -> bool:
        return True

    def set_secure_mode(self) -> None:
        """Nothing flows that no flow lets."""

    def use_at_least_protocol(self, _protocol: str) -> None:
        """Any OpenFlow."""

    def get_port_ofport(self, name: str) -> int:
        return self.ports.setdefault(name, len(self.ports) + 1)

    def add_patch_port(self, name: str, _peer: str) -> int:
        return self.get_port_ofport(name)

    def add_flow(self, **flow: Any) -> None:
        self.flows.append({name: str(value) for name, value in flow.items()})

    def delete_flows(self, strict: bool = False, **match: Any) -> None:
        wanted = {name: str(value) for name, value in match.items()}
        self.flows = [flow for flow in self.flows if not wanted.items() <= flow.items()]


class Agent:
    """What a compute node's L2 agent does for its extension when an interface comes or goes."""

    def __init__(self) -> None:
        self.context = context.get_admin_context()
        self.server = agent_rpc.PluginApi(topics.PLUGIN)
        self.vlans = vlanmanager.LocalVlanManager()
        self.free_vlans = itertools.count(FIRST_VLAN)
        state = {
            "binary": constants.AGENT_PROCESS_OVS,
            "host": cfg.CONF.host,
            "topic": constants.L2_AGENT_TOPIC,
            "configurations": {"tunnel_types": ["vxlan"], "tunneling_ip": "192.0.2.1", "bridge_mappings": {}},
            "resource_versions": rpc_resources.LOCAL_RESOURCE_VERSIONS,
            "agent_type": constants.AGENT_TYPE_OVS,
            "start_flag": True,
        }
        agent_rpc.PluginReportStateAPI(topics.REPORTS).report_state(self.context, state, use_call=True)
        connection = rpc.Connection()
        self.extension = agent_extension.BagpipeBgpvpnAgentExtension()
        self.extension.consume_api(self)
        self.extension.initialize(connection, ovs_constants.EXTENSION_DRIVER_TYPE)
        connection.consume_in_threads()

    def request_int_br(self) -> Bridge:
        return Bridge.named("br-int")

    def request_tun_br(self) -> Bridge:
        return Bridge.named("br-tun")

    def plug(self, port_id: str) -> Any:
        details = self.server.get_device_details(self.context, port_id, AGENT, cfg.CONF.host)
        network, segment = details["network_id"], details["segmentation_id"]
        try:
            mapping = self.vlans.get(network, segment)
        except vlanmanager.MappingNotFound:
            self.vlans.add(network, next(self.free_vlans), details["network_type"], None, segment)
            mapping = self.vlans.get(network, segment)
        self.extension.handle_port(self.context, details)
        self.server.update_device_up(self.context, port_id, AGENT, cfg.CONF.host)
        return {**details, "vlan": mapping.vlan}

    def unplug(self, port_id: str) -> Any:
        self.extension.delete_port(self.context, {"port_id": port_id})
        return {}

    def flows(self, bridge: str) -> Any:
        return {"flows": Bridge.named(bridge).flows}

    def restart_ovs(self, _: bool) -> Any:
        registry.publish(resources.AGENT, events.OVS_RESTARTED, self)
        return {}


def as_on_a_bus(send: Callable[..., Any]) -> Callable[..., Any]:
    """Have messages change as on their way over a bus: what the agent sends as a tuple is none for the server."""

    def sent(driver: Any, target: Any, ctxt: Any, message: Any, *more: Any, **options: Any) -> Any:
        return send(driver, target, ctxt, jsonutils.loads(jsonutils.dumps(message)), *more, **options)

    return sent


def real_agent() -> Any:
    """Start neutron-openvswitch-agent as its own main program does, and return it when it is about to look around."""
    from neutron.plugins.ml2.drivers.agent import capabilities  # type: ignore[import-not-found]
    from neutron.plugins.ml2.drivers.openvswitch.agent.openflow.native import main  # type: ignore[import-not-found]
    from os_ken.base import app_manager  # type: ignore[import-not-found]

    ready: queue.Queue[Any] = queue.Queue()
    capabilities.register(
        lambda _resource, _event, agent, payload=None: ready.put(agent),
        constants.AGENT_TYPE_OVS,
    )
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # for privsep-helper
    main.init_config()
    apps = app_manager.AppManager.get_instance()
    apps.load_apps([main.__name__.replace(".main", ".ovs_oskenapp")])
    apps.instantiate_apps(**apps.create_contexts())
    return ready.get()


def ask(url: str, request: tuple[str, str, Any]) -> Any:
    method, path, body = request
    answer = requests.request(method, url + path, json=body, timeout=LIMIT_S)
    return {"status": answer.status_code, "body": answer.text}


class Threads(socketserver.ThreadingMixIn, simple_server.WSGIServer):
    daemon_threads = True
    request_queue_size = 64


class Quiet(simple_server.WSGIRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Neutron logs requests."""

    def address_string(self) -> str:
        return str(self.client_address[0])


def main() -> None:
    database = sys.argv.pop(1)
    impl_fake.FakeDriver._send = as_on_a_bus(impl_fake.FakeDriver._send)
    answers = os.fdopen(os.dup(1), "w", buffering=1)  # whatever is printed by others goes to the log
    os.dup2(2, 1)
    head.get_metadata().create_all(sqlalchemy.create_engine(database))
    application = server.boot_server(api.api_server, prog="neutron-api")
    directory.get_plugin().start_rpc_listeners()
    verbs = {}
    agent_extensions_manager.register_agent_ext_manager_opts(cfg.CONF)
    if cfg.CONF.agent.extensions:
        real_agent()
    else:
        ovs_lib.OVSBridge = Bridge.named
        agent = Agent()
        verbs = {"plug": agent.plug, "unplug": agent.unplug, "flows": agent.flows, "restart_ovs": agent.restart_ovs}
    logging.getLogger("networking_bagpipe.agent.bagpipe_bgp_agent").setLevel(logging.DEBUG)  # what it asks for
    httpd = simple_server.make_server("127.0.0.1", 0, application, Threads, Quiet)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{httpd.server_port}"
    verbs["ask"] = functools.partial(ask, url)
    print(json.dumps({"url": url}), file=answers)
    for line in sys.stdin:
        [(verb, what)] = json.loads(line).items()
        try:
            answer = verbs[verb](what)
        except Exception as error:
            traceback.print_exc()
            answer = {"error": repr(error)}
        print(json.dumps(answer, default=str), file=answers)
    os._exit(0)  # threads of Neutron's do not end


if __name__ == "__main__":
    main()
