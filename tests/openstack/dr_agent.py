"""neutron-dynamic-routing's real agent class with our driver, without a message bus, as a process.

dr_agent.py OPTION=VALUE...: options of [BGP]. A line of JSON on standard input does something, and is answered by one:

    {"server": SPEAKERS}        what Neutron says from now on that the agent hosts; null: the bus is lost
    {"resync": true}            the agent looks for itself, as when it starts, or when it was told to
    {"notify": [NAME, PAYLOAD]} Neutron calls a method of the agent
    {"ask": [NAME, ARGUMENTS]}  call a method of the driver
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import neutron  # noqa: F401  it chooses threads for oslo.service, so it comes first
import oslo_messaging
from neutron.common import config as common_config
from neutron_dynamic_routing.services.bgp.agent import bgp_dragent
from neutron_dynamic_routing.services.bgp.agent import config as bgp_config
from oslo_config import cfg


class Server:
    """Neutron's side of the agent's calls."""

    def __init__(self, *_: Any) -> None:
        self.speakers: list[Any] | None = []

    def get_bgp_speakers(self, _context: Any) -> list[Any]:
        if self.speakers is None:
            raise oslo_messaging.MessagingTimeout("nobody answers on the bus")
        return self.speakers

    def get_bgp_speaker_info(self, context: Any, id_: str) -> Any:
        return next((each for each in self.get_bgp_speakers(context) if each["id"] == id_), {})

    def get_bgp_peer_info(self, context: Any, id_: str) -> Any:
        peers = [peer for speaker in self.get_bgp_speakers(context) for peer in speaker["peers"]]
        return next((each for each in peers if each["id"] == id_), {})


def main() -> None:
    """Do what is said until nothing more is."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    logging.basicConfig(level=logging.INFO)
    common_config.register_common_config_options()
    cfg.CONF([], project="neutron", default_config_files=[])
    cfg.CONF.register_opts(bgp_config.BGP_DRIVER_OPTS + bgp_config.BGP_PROTO_CONFIG_OPTS, "BGP")
    cfg.CONF.set_override("bgp_speaker_driver", "bgpvpn.openstack.dr_driver.NodeBgpDriver", "BGP")
    from bgpvpn.openstack import dr_driver

    cfg.CONF.register_opts(dr_driver.OPTIONS, "BGP")
    for text in sys.argv[1:]:
        name, _, value = text.partition("=")
        cfg.CONF.set_override(name, json.loads(value), "BGP")
    bgp_dragent.BgpDrPluginApi = Server
    agent = bgp_dragent.BgpDrAgent("node1")
    agent.init_host()
    print(json.dumps("ready"), file=answers)
    for line in sys.stdin:
        [(verb, what)] = json.loads(line).items()
        answer: Any = None
        match verb:
            case "server":
                agent.plugin_rpc.speakers = what
            case "resync":
                agent.schedule_full_resync("a test says so")
                agent.periodic_resync(agent.context)
            case "notify":
                getattr(agent, what[0])(agent.context, what[1])
            case "ask":
                try:
                    answer = getattr(agent.dr_driver_cls, what[0])(*what[1])
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
        print(json.dumps(answer), file=answers)
    os._exit(0)


if __name__ == "__main__":
    main()
