"""A service driver of networking-bgpvpn that keeps nodes as Neutron's database says (rim).

    [service_providers]
    service_provider = BGPVPN:bgpvpn:bgpvpn.openstack.bgpvpn_driver.NodeBGPVPNDriver:default

    [bgpvpn]
    nodes = compute1=http://192.0.2.1:8179,compute2=http://192.0.2.2:8179
    token_file = /etc/neutron/bgpvpn.token

The left side is the host that ports are bound to (binding:host_id), or * for one node that has the ports of all hosts.
A change in Neutron wakes the threads of `pushing`; no call of Neutron's API waits for a node, or fails because of one.
What became of an object is its status on the node, where its id has "neutron." in front.

Beside that the driver mends what its base classes and the service plugin do with routes control: see its methods.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from networking_bgpvpn.neutron.db import bgpvpn_db
from networking_bgpvpn.neutron.services.common import utils
from networking_bgpvpn.neutron.services.service_drivers import driver_api
from neutron_lib import constants, context, exceptions
from neutron_lib.api.definitions import bgpvpn_routes_control, bgpvpn_vni, external_net
from neutron_lib.callbacks import events, registry, resources
from neutron_lib.db import api as db_api
from neutron_lib.plugins import constants as plugin_constants
from neutron_lib.plugins import directory
from oslo_config import cfg
from oslo_log import log as logging

from bgpvpn.openstack.client import NodeApi
from bgpvpn.openstack.pushing import Pushing
from bgpvpn.openstack.translation import OWNER, Snapshot, wanted

LOG = logging.getLogger(__name__)

OPTIONS = [
    cfg.ListOpt("nodes", default=[], help="Nodes, HOST=URL or *=URL; URL: http://HOST:PORT, https:// or unix:/PATH."),
    cfg.StrOpt("token_file", default="", help="A file with the token that nodes ask for; none: no token."),
    cfg.IntOpt("sync_interval", default=60, min=1, help="Seconds after which a node is compared without a change."),
    cfg.IntOpt("timeout", default=10, min=1, help="Seconds that a node has for an answer."),
]

WATCHED = [
    (resource, event)
    for resource in (
        resources.NETWORK,
        resources.SUBNET,
        resources.PORT,
        resources.ROUTER,
        resources.ROUTER_INTERFACE,
    )
    for event in (events.AFTER_CREATE, events.AFTER_UPDATE, events.AFTER_DELETE)
]
TARGETS = ("route_targets", "import_targets", "export_targets", "route_distinguishers")
BY_PORTS_AND_TARGETS = ("ports", *TARGETS)
"""Filters that networking-bgpvpn's database answers wrongly or not at all."""


class NodeBGPVPNDriver(driver_api.BGPVPNDriverRC):
    """See the top of the file."""

    more_supported_extension_aliases = [bgpvpn_routes_control.ALIAS, bgpvpn_vni.ALIAS]

    def __init__(self, service_plugin: Any) -> None:
        super().__init__(service_plugin)
        cfg.CONF.register_opts(OPTIONS, "bgpvpn")
        options = cfg.CONF.bgpvpn
        token = Path(options.token_file).read_text().strip() if options.token_file else ""
        nodes = {}
        for text in options.nodes:
            host, equals, url = text.partition("=")
            if not host or not equals or host in nodes:
                raise ValueError(f"[bgpvpn] nodes takes HOST=URL, each host once, not {text!r}")
            nodes[host] = NodeApi(url, token, options.timeout)
        if not nodes:
            LOG.warning("[bgpvpn] nodes is empty: nobody is told of BGPVPNs")
        self._snapshots = _Snapshots(self.snapshot)
        self.pushing = Pushing(OWNER, nodes, self._wanted, options.sync_interval)
        for resource, event in WATCHED:
            registry.subscribe(self._on_change, resource, event)
        registry.subscribe(self._on_process, resources.PROCESS, events.AFTER_INIT)

    def changed(self) -> None:
        """Something that nodes are to know of is in the database."""
        self.pushing.soon()

    def _on_change(self, resource: Any, event: Any, trigger: Any, payload: Any = None) -> None:
        self.changed()

    def _on_process(self, resource: Any, event: Any, trigger: Any, payload: Any = None) -> None:
        self.pushing.start()

    def _wanted(self, host: str, since: float) -> dict[str, Any]:
        return wanted(host, self._snapshots.since(since))

    def snapshot(self) -> Snapshot:
        """Read what VPNs touch."""
        admin = context.get_admin_context()
        with db_api.CONTEXT_READER.using(admin):
            return _read(admin)

    # What is asked, and what is kept

    def get_bgpvpns(self, context: Any, filters: Any = None, fields: Any = None) -> Any:
        """As the base class, which finds none by ports, and by targets fails."""
        ours = {name: set(_flat(value)) for name, value in (filters or {}).items() if name in BY_PORTS_AND_TARGETS}
        ours = {name: values for name, values in ours.items() if values}
        rest = {name: value for name, value in (filters or {}).items() if name not in ours}
        found = super().get_bgpvpns(context, rest, None if ours else fields)
        if not ours:
            return found
        kept = [vpn for vpn in found if all(wanted & set(vpn[name]) for name, wanted in ours.items())]
        return [{name: vpn[name] for name in fields if name in vpn} if fields else vpn for vpn in kept]

    def create_net_assoc_precommit(self, context: Any, net_assoc: Any) -> None:
        """Refuse an external network."""
        super().create_net_assoc_precommit(context, net_assoc)
        if directory.get_plugin().get_network(context, net_assoc["network_id"]).get(external_net.EXTERNAL):
            raise _refusal(f"network {net_assoc['network_id']} is external, and cannot be in a BGPVPN")

    def create_router_assoc(self, context: Any, bgpvpn_id: str, router_association: Any) -> Any:
        """As the base class, which forgets advertise_extra_routes."""
        flag = router_association.get("advertise_extra_routes", True)
        with db_api.CONTEXT_WRITER.using(context):
            self._check_router(context, bgpvpn_id, router_association["router_id"])
            made = self.bgpvpn_db.create_router_assoc(context, bgpvpn_id, router_association)
            if flag != made.get("advertise_extra_routes", flag):
                change = {"advertise_extra_routes": flag}
                made = self.bgpvpn_db.update_router_assoc(context, made["id"], bgpvpn_id, change)
            self.create_router_assoc_precommit(context, made)
        self.create_router_assoc_postcommit(context, made)
        return made

    def _check_router(self, context: Any, bgpvpn_id: str, router_id: str) -> None:
        """Refuse a router any of whose networks is in an l3 BGPVPN; the service plugin looks at one of them."""
        owners = list(constants.ROUTER_INTERFACE_OWNERS)
        filters = {"device_id": [router_id], "device_owner": owners}
        networks = {port["network_id"] for port in directory.get_plugin().get_ports(context, filters)}
        for vpn in super().get_bgpvpns(context, {"networks": list(networks), "type": ["l3"]}) if networks else ():
            bound = ", ".join(sorted(networks & set(vpn["networks"])))
            raise _refusal(
                f"router {router_id} has an interface in network {bound}, which BGPVPN {vpn['id']} has already"
            )

    def create_port_assoc_precommit(self, context: Any, port_assoc: Any) -> None:
        """Refuse routes of a BGPVPN into itself."""
        super().create_port_assoc_precommit(context, port_assoc)
        _check_routes(port_assoc)

    def update_port_assoc(self, context: Any, assoc_id: str, bgpvpn_id: str, port_assoc: Any) -> Any:
        """As the base class, which deletes routes that are not given."""
        routes = self.get_port_assoc(context, assoc_id, bgpvpn_id)["routes"]
        if routes:
            port_assoc.setdefault("routes", routes)
        return super().update_port_assoc(context, assoc_id, bgpvpn_id, port_assoc)

    def update_port_assoc_precommit(self, context: Any, old_port_assoc: Any, port_assoc: Any) -> None:
        super().update_port_assoc_precommit(context, old_port_assoc, port_assoc)
        _check_routes(port_assoc)

    # What is told

    def create_bgpvpn_postcommit(self, context: Any, bgpvpn: Any) -> None:
        super().create_bgpvpn_postcommit(context, bgpvpn)
        self.changed()

    def update_bgpvpn_postcommit(self, context: Any, old_bgpvpn: Any, new_bgpvpn: Any) -> None:
        super().update_bgpvpn_postcommit(context, old_bgpvpn, new_bgpvpn)
        self.changed()

    def delete_bgpvpn_postcommit(self, context: Any, bgpvpn: Any) -> None:
        super().delete_bgpvpn_postcommit(context, bgpvpn)
        self.changed()

    def create_net_assoc_postcommit(self, context: Any, net_assoc: Any) -> None:
        super().create_net_assoc_postcommit(context, net_assoc)
        self.changed()

    def delete_net_assoc_postcommit(self, context: Any, net_assoc: Any) -> None:
        super().delete_net_assoc_postcommit(context, net_assoc)
        self.changed()

    def create_router_assoc_postcommit(self, context: Any, router_assoc: Any) -> None:
        super().create_router_assoc_postcommit(context, router_assoc)
        self.changed()

    def update_router_assoc_postcommit(self, context: Any, old_router_assoc: Any, router_assoc: Any) -> None:
        super().update_router_assoc_postcommit(context, old_router_assoc, router_assoc)
        self.changed()

    def delete_router_assoc_postcommit(self, context: Any, router_assoc: Any) -> None:
        super().delete_router_assoc_postcommit(context, router_assoc)
        self.changed()

    def create_port_assoc_postcommit(self, context: Any, port_assoc: Any) -> None:
        super().create_port_assoc_postcommit(context, port_assoc)
        self.changed()

    def update_port_assoc_postcommit(self, context: Any, old_port_assoc: Any, port_assoc: Any) -> None:
        super().update_port_assoc_postcommit(context, old_port_assoc, port_assoc)
        self.changed()

    def delete_port_assoc_postcommit(self, context: Any, port_assoc: Any) -> None:
        super().delete_port_assoc_postcommit(context, port_assoc)
        self.changed()


class _Snapshots:
    """The last snapshot, shared by nodes that are pushed to at the same time."""

    def __init__(self, take: Any) -> None:
        self._take = take
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._last: Snapshot | None = None

    def since(self, moment: float) -> Snapshot:
        """Return one whose reading began at a moment (monotonic), or later."""
        with self._lock:
            if self._last is None or self._at < moment:
                at = time.monotonic()
                self._last = self._take()
                self._at = at
            return self._last


def _check_routes(port_assoc: Any) -> None:
    for route in port_assoc.get("routes", ()):
        if route.get("bgpvpn_id") == port_assoc["bgpvpn_id"]:
            raise _refusal(f"routes of BGPVPN {port_assoc['bgpvpn_id']} would be led into itself")


def _flat(values: Any) -> Iterator[Any]:
    """Yield the values of a filter; Neutron makes each that may be a list one."""
    for value in values or ():
        yield from value if isinstance(value, list) else [value]


def _refusal(message: str) -> exceptions.BadRequest:
    return exceptions.BadRequest(resource="bgpvpn", msg=message)


def _read(admin: Any) -> Snapshot:
    session = admin.session
    core, l3 = directory.get_plugin(), directory.get_plugin(plugin_constants.L3)
    of_networks = [_row(each, "network_id") for each in session.query(bgpvpn_db.BGPVPNNetAssociation)]
    of_routers = [
        _row(each, "router_id", "advertise_extra_routes") for each in session.query(bgpvpn_db.BGPVPNRouterAssociation)
    ]
    of_ports = [
        {
            **_row(each, "port_id", "advertise_fixed_ips"),
            "routes": [bgpvpn_db.port_assoc_route_dict_from_db(route) for route in each.routes],
        }
        for each in session.query(bgpvpn_db.BGPVPNPortAssociation)
    ]
    router_ids = [each["router_id"] for each in of_routers]
    interfaces: dict[str, list[str]] = {}
    networks = {each["network_id"] for each in of_networks}
    if router_ids:
        filters = {"device_id": router_ids, "device_owner": list(constants.ROUTER_INTERFACE_OWNERS)}
        for port in core.get_ports(admin, filters):
            networks.add(port["network_id"])
            subnets = interfaces.setdefault(port["device_id"], [])
            subnets += [fixed["subnet_id"] for fixed in port["fixed_ips"] if fixed["subnet_id"] not in subnets]
    if of_ports:
        bound = core.get_ports(admin, {"id": [each["port_id"] for each in of_ports]})
        networks.update(port["network_id"] for port in bound)
    in_networks = {"network_id": sorted(networks)}
    return Snapshot(
        bgpvpns=[_vpn(each) for each in session.query(bgpvpn_db.BGPVPN)],
        network_associations=of_networks,
        router_associations=of_routers,
        port_associations=of_ports,
        networks=core.get_networks(admin, {"id": sorted(networks)}) if networks else [],
        subnets=core.get_subnets(admin, in_networks) if networks else [],
        ports=core.get_ports(admin, in_networks) if networks else [],
        routers=l3.get_routers(admin, {"id": router_ids}) if router_ids and l3 is not None else [],
        interfaces={id_: sorted(subnets) for id_, subnets in interfaces.items()},
    )


def _row(row: Any, *names: str) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "bgpvpn_id", *names)}


def _vpn(row: Any) -> dict[str, Any]:
    return {
        **{name: row[name] for name in ("id", "name", "project_id", "type", "vni", "local_pref")},
        **{name: utils.rtrd_str2list(row[name]) for name in TARGETS},
    }
