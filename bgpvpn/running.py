"""A running node (rim): the pure middle with its three doors, store, speaker and dataplane, in one event loop.

    API --write--> store, [intent] --+                                               +--> dataplane
                                     +--> Node.work_out --> leases to the store --> Reconciler
    Transport --received--> [rib] ---+                                               +--> announcing --> Transport.flush

`pump` is called whenever something came in, and does a share of work each time until everything is settled; between
two shares the loop reads and sends.  Nothing that was built from a lease leaves the node before the lease is on disk.

A start goes like this (RFC 4724 section 4.1):

    store read --> kernel read --> what is missing added --> sessions --> own routes told --> End-of-RIB sent
    --> End-of-RIB heard from all peers, or the deferral time over --> gate open: differences are written

Peers that come from a prefix cannot be counted: with such, over a kernel that was kept, and before End-of-RIB of a
reflector, it is always the deferral time.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import bgpvpn
from bgpvpn import access, sessions, speaker_view, statuses, views
from bgpvpn.access import OPERATOR, Caller
from bgpvpn.allocate import Leases
from bgpvpn.config import Config
from bgpvpn.dataplane.ovs import Ovs
from bgpvpn.dataplane.plugs import Plugs
from bgpvpn.dataplane.rows import Dataplane, RouteTable
from bgpvpn.dataplane.words import row_text
from bgpvpn.desired import Desired
from bgpvpn.dumping import dump
from bgpvpn.instance import NodeIdentity
from bgpvpn.intent import Change, Intent, Key, Removal, Stamp, Store, StoredLease, StoreError
from bgpvpn.kernel_view import kernel
from bgpvpn.metrics import metrics
from bgpvpn.monitoring import Monitoring
from bgpvpn.node import Node, NodeSettings
from bgpvpn.node_view import node_view
from bgpvpn.objects import Bgpvpn, Kind, Object, Policy, kind_of, title
from bgpvpn.peering import Peering
from bgpvpn.reconcile import Reconciler
from bgpvpn.statuses import ACTIVE
from bgpvpn.views import Plain
from speaker.adj_rib_in import AdjRibIn
from speaker.decision import LOCAL, local
from speaker.engine import Engine
from speaker.monitor import Identity
from speaker.refusal import Own
from speaker.sockets import canonical
from speaker.transport import Transport
from speaker.values import prefix_bytes
from speaker.wire.attribute import Interner

log = logging.getLogger(__name__)

ROUTES_A_TURN = 2000
"""Routes that one turn of the loop works out, and as many that it writes to the kernel."""

QUIET_S = 0.02
"""The node is settled when it had nothing to do for so long: what arrives in one go is one change."""

CHANGES_AT_ONCE = 100
"""A request with at most so many changes is carried out before it is answered, and not a turn of the loop later."""

STORE_RETRY_S = 1.0
ERROR_PAUSE_S = 5.0
"""How long nothing is worked out after an error of our own; sessions are served meanwhile."""

RD_INDEXES = range(1, 1 << 16)  # of a route distinguisher of type 1
BRIDGE_NUMBERS = range(1, 1 << 20)


class RunningNode:
    """One node; made and used inside a running event loop. It is what the API serves (`bgpvpn.api.boundary.Node`)."""

    def __init__(self, config: Config, store: Store, dataplane: Dataplane, ovs: Ovs | None = None) -> None:
        """Take over what the store keeps; StoreError when it cannot be read. Without `ovs` no port is plugged there."""
        self.config = config
        self.store = store
        self.dataplane = dataplane
        self.ovs = ovs
        self.intent = Intent()
        self.started_at = asyncio.get_running_loop().time()
        leases = Leases(
            {
                "label": config.labels.range,
                "vni": config.vni.range,
                "table": config.tables.range,
                "rd": RD_INDEXES,
                "bridge": BRIDGE_NUMBERS,
            }
        )
        self._take_over(leases)
        self._identity = store.identity()
        self.desired = Desired()
        self.reconciler = Reconciler(self.desired, dataplane)
        settings = settings_of(config)
        interner = Interner()
        self.node = Node(settings, self.intent, leases, self.reconciler.status, self.desired, interner)
        self.plugs = Plugs(self.node.segments, self.intent)
        identity = settings.identity
        addresses = [address for address in (identity.tunnel_v4, identity.tunnel_v6) if address is not None]
        own = Own(
            identity.router_id,
            frozenset({settings.local_as}),
            frozenset(addresses),
            cluster_id=ipaddress.ip_address(config.node.cluster_id or config.node.router_id).packed,
        )
        self.engine = Engine(self.node.rib, self.node.interest, own, interner)
        self.transport = Transport(
            [(address, config.bgp.port) for address in config.bgp.listen], pump=self._pump, busy=self._busy
        )
        self._restarting = False
        self.monitoring = Monitoring(
            config.stations, self.engine, lambda: self.transport.peers, _identity(config, identity.router_id)
        )
        self._loop = asyncio.get_running_loop()
        self.peering = Peering(
            config.node,
            self.intent,
            self.engine,
            self.transport,
            starting=lambda: not (self.engine.selected and self.reconciler.synced),
            # Without VPNs there is nothing of ours to lose: what we told is reflected, and forwarded by others.
            preserved=lambda: self._restarting or not len(self.intent.bgpvpns),
            time=self._loop.time,
        )
        self._leases = leases.table.reader()
        self._leases.take()  # what is loaded is on disk
        self._statuses = self.reconciler.status.reader()
        self._watchers: dict[Callable[[Plain], None], None] = {}
        self._told_states: dict[str, str] = {}  # peer address -> state of its session
        self._node_work = True  # the last step found something to do
        self._worked_at = self.started_at
        self._timer: asyncio.TimerHandle | None = None
        self._storing_failed_at: float | None = None
        self._withheld = False  # a new lease is not on disk
        self._dataplane_trouble = ""
        self._paused_until = 0.0
        self._interrupted = False  # an error of our own may have left something undone
        self._ended = False
        self._unseen: set[Key] = set()  # changes that no step has looked at yet

    def _take_over(self, leases: Leases) -> None:
        changes, stored = self.store.load()
        leases.load(stored)
        wishes: list[Object] = [*self.config.policies, *self.config.peers]
        configured = [Change(kind_of(each), each.id, each, Stamp(1, time.time(), time.time())) for each in wishes]
        refused = self.intent.load(configured, configured=True)
        refused += self.intent.load(changes)
        for change, error in refused:
            log.error("%s=%s intent=refused reason=%r", change.kind, change.id, str(error))

    # Running

    def start(self) -> None:
        """Read the kernel, listen, and start the sessions; OSError if an address cannot be had."""
        now = self._loop.time()
        with self._surviving(now):
            self.reconciler.step(now, 0, settled=False)  # only reads, while nothing is desired
        actual, unknown = self.reconciler.actual, self.reconciler.unknown_since is not None
        self._restarting = unknown or any(actual.rows.values()) or any(actual.routes.values())
        self._settle(now)
        self.transport.start()
        self.monitoring.start()
        fileno = getattr(self.dataplane, "fileno", None)
        if fileno is not None:
            self._loop.add_reader(fileno(), self._disturbed)
        self.transport.pump_soon()
        log.info(
            "node=%s local_as=%d state=started networks=%d ports=%d vpns=%d kernel=%s",
            self.config.node.router_id,
            self.config.node.local_as,
            len(self.intent.networks),
            len(self.intent.ports),
            len(self.intent.bgpvpns),
            "kept" if self._restarting else "empty",
        )

    def _settle(self, now: float) -> None:
        """Work out what the stored intent means, and add what of it is missing, before anybody is talked to."""
        done = 1
        while done:
            done = 0
            with self._surviving(now):
                done = self._step(now, settled=True)

    async def stop(self, *, graceful: bool = True) -> None:
        """End the sessions; what is in the kernel stays, and `graceful` lets the peers keep our routes.

        Nothing is worked out any more: that the sessions are gone means nothing to the kernel.
        """
        self._ended = True
        if self._timer is not None:
            self._timer.cancel()
        fileno = getattr(self.dataplane, "fileno", None)
        if fileno is not None:
            self._loop.remove_reader(fileno())
        await self.transport.stop(graceful=graceful)
        await self.monitoring.stop()
        if self.ovs is not None:
            await self.ovs.stop()

    async def drain(self) -> list[str]:
        """Withdraw everything and take everything out of the kernel; return what could not be removed."""
        await self.stop(graceful=False)
        left = drained(self.dataplane)
        return left + await self.ovs.clear() if self.ovs is not None else left

    # Working

    def _busy(self) -> bool:
        return self._node_work and not self._ended

    def _pump(self) -> None:
        """Do a share of work, and see to it that the next one comes (hot: once a turn of the loop)."""
        if self._ended:
            return
        now = self._loop.time()
        if now >= self._paused_until:
            with self._surviving(now):
                self.peering.sync()
                self.engine.tick(now)
                for report in self.engine.take_reports():
                    log.warning("%s", report)
                done = self._step(now)
                self._gate(now, done)
                if done:
                    self.transport.pump_soon()
                self._tell()
        self.monitoring.flush()
        self._arm(now)

    @contextlib.contextmanager
    def _surviving(self, now: float) -> Iterator[None]:
        """Let an error of our own end neither the daemon nor its sessions: the log tells it, and work pauses.

        A stage that was interrupted forgets the keys that it had taken. So from then on the node is degraded until it
        is started anew, and if the gate is closed it stays so: what is not wanted may be what was forgotten.
        """
        try:
            yield
        except Exception:
            log.exception("node=%s step=failed retry_s=%g", self.config.node.router_id, ERROR_PAUSE_S)
            self._interrupted = True
            self._paused_until = now + ERROR_PAUSE_S
            self._node_work = False  # else the transport would read nothing meanwhile

    def _step(self, now: float, settled: bool = False) -> int:
        """Run everything once; `settled`: nothing more is about to come that belongs to what came."""
        wall = time.time()
        self._unseen.clear()
        self.node.memberships.everything = self.engine.wants_all_targets
        done = self.engine.step(ROUTES_A_TURN)
        done += self.node.work_out(now, wall, ROUTES_A_TURN)
        if self.plugs.step() and self.ovs is not None:
            self.ovs.want(self.plugs.by_interface())
        self._node_work = bool(done)
        if done:
            self._worked_at = now
        self._withheld = not self._keep_leases(now)
        if self._withheld:
            return done
        quiet = not done and now - self._worked_at >= QUIET_S
        done += self.reconciler.step(now, ROUTES_A_TURN, settled or quiet)
        done += self.node.announcing.step()
        memberships = self.node.memberships
        if memberships.grown or memberships.shrunk:
            self.engine.targets_changed(memberships.grown, memberships.shrunk)
            memberships.grown = memberships.shrunk = False
        return done

    def _keep_leases(self, now: float) -> bool:
        """Write changed leases down; False: new ones are not on disk, and nothing may be built from them."""
        if not len(self._leases):
            return True
        table = self.node.leases.table
        kept: list[StoredLease] = []
        dropped: list[tuple[str, str]] = []
        for pool, purpose in self._leases.dirty:
            lease = table.get((pool, purpose))
            if lease is None:
                dropped.append((pool, purpose))
            else:
                kept.append((pool, purpose, lease.number, lease.released_at))
        if self._storing_failed_at is None or now - self._storing_failed_at >= STORE_RETRY_S:
            try:
                self.store.write(leases=kept, dropped_leases=dropped)
            except StoreError as error:
                if self._storing_failed_at is None:
                    log.error("store=refused reason=%r", str(error))
                self._storing_failed_at = now
            else:
                self._leases.take()
                if self._storing_failed_at is not None:
                    self._storing_failed_at = None
                    log.warning("store=writable")
                return True
        return all(released_at is not None for *_, released_at in kept)

    def _gate(self, now: float, done: int) -> None:
        """Tell the peers when all of ours is said, and open the gate when they have said all of theirs."""
        if self._interrupted:
            return
        expired = now - self.started_at >= self.config.bgp.deferral_s
        all_said = not done and not self._withheld and self.reconciler.in_order
        if not self.engine.released and (expired or all_said):
            self.engine.release()
            self.transport.pump_soon()
        if self.engine.selected and self.reconciler.synced:
            return
        peers = self.intent.peers.rows.values()
        wanted = [canonical(peer.address) for peer in peers if peer.admin_state_up and not peer.dynamic]
        # Who comes from a prefix cannot be named, so only time tells that all have come.
        unnamed = any(peer.admin_state_up and peer.dynamic for peer in peers)
        if not self.engine.selected and (expired or (not unnamed and self.engine.heard_all(wanted))):
            self.engine.select()
            self.transport.pump_soon()
        if not self.reconciler.synced and not self._node_work:
            synced = not (unnamed and self._restarting) and self.engine.synced(wanted)
            if synced or expired:
                reason = "all peers are in sync" if synced else "the deferral time is over"
                log.info("gate=open reason=%r after_s=%.1f", reason, now - self.started_at)
                self.reconciler.open_gate()
                self.transport.pump_soon()

    def _arm(self, now: float) -> None:
        """Have `pump` called when a timer of the node, the reconciler or a neighbour is due."""
        times = [self.engine.deadline()]
        if not self._withheld:
            times.append(self.reconciler.deadline())
        if self._worked_at + QUIET_S > now:
            times.append(self._worked_at + QUIET_S)
        if not (self.engine.selected and self.reconciler.synced) and not self._interrupted:
            times.append(self.started_at + self.config.bgp.deferral_s)
        if self._storing_failed_at is not None:
            times.append(self._storing_failed_at + STORE_RETRY_S)
        if now < self._paused_until:
            times = [self._paused_until]
        if self._timer is not None:
            self._timer.cancel()
        at = min((time_ for time_ in times if time_ is not None), default=None)
        self._timer = None if at is None else self._loop.call_at(max(at, now), self.transport.pump_soon)

    def _disturbed(self) -> None:
        scopes = self.dataplane.disturbed()
        if scopes:
            self.reconciler.disturbed(scopes, self._loop.time())
            self.transport.pump_soon()

    # What changed, for watchers and the log

    def subscribe(self, watcher: Callable[[Plain], None]) -> Callable[[], None]:
        """Tell a watcher about every change from now on; what is returned ends that."""
        self._watchers[watcher] = None
        return lambda: self._watchers.pop(watcher, None)

    def _tell(self) -> None:
        changed = self._statuses.take()
        states = {address: peer.state for address, peer in self.transport.peers.items()}
        if self._watchers:
            for kind, name in changed:
                status = self.reconciler.status.get((kind, name))
                state, reason = ("gone", "") if status is None else (status.state, status.reason)
                self._say({"type": "kernel", "object": f"{kind} {name}", "state": state, "reason": reason})
            for address, state in states.items():
                if self._told_states.get(address) != state:
                    self._say({"type": "session", "peer": address, "state": state})
        self._told_states = dict(states)
        trouble = self.reconciler.unknown_reason if self.reconciler.unknown_since is not None else ""
        if trouble != self._dataplane_trouble:
            self._dataplane_trouble = trouble
            if trouble:
                log.error("dataplane=unknown reason=%r", trouble)
            else:
                log.info("dataplane=known")

    def _say(self, event: Plain) -> None:
        for watcher in list(self._watchers):
            watcher(event)

    # What the API asks

    @property
    def identity(self) -> int:
        """Return a number that stays as long as what users wish is kept."""
        return self._identity

    def write(self, wishes: Sequence[Object | Removal], caller: Caller = OPERATOR) -> list[Change]:
        """Do all wishes or none: checked, then stored, then in the tables. IntentError or StoreError: none is done."""
        changes = access.plan(caller, wishes, self.intent, time.time())
        self.store.write(changes)
        self.intent.apply(changes)
        self._unseen.update((change.kind, change.id) for change in changes)
        for change in changes:
            thing = change.thing
            event: Plain = {"type": "removed" if thing is None else "changed", "kind": change.kind, "id": change.id}
            self._say(event if thing is None else event | {"name": title(thing), "revision": change.stamp.revision})
        now = self._loop.time()
        if len(changes) <= CHANGES_AT_ONCE and now >= self._paused_until and not self._ended:
            with self._surviving(now):  # so that the answer tells what came of it
                self.peering.sync()
                self._step(now)
        self.transport.pump_soon()
        return changes

    def status_of(self, kind: Kind, id_: str) -> Plain:
        """Return {"state", "reason", "observed_revision"} of an object."""
        revision = self.intent.stamps[kind, id_].revision
        if kind == "peer":
            state, reason = self.peering.verdict(self.intent.peers[id_])
        else:
            state, reason = statuses.verdict(self.node, kind, id_, self.peering.verdict, self._plug_reason)
        # A change that was just made is looked at in the next turn of the loop.
        observed = revision - 1 if (kind, id_) in self._unseen else revision
        return {"state": state, "reason": reason, "observed_revision": observed}

    def _plug_reason(self, port_id: str) -> str:
        plug = self.plugs.of_port.get(port_id)
        return "" if plug is None or self.ovs is None else self.ovs.reason(plug.interface)

    def status(self) -> Plain:
        """Return what the node says of itself."""
        reconciler = self.reconciler
        troubles = []
        for wish in self.intent.peers.rows.values():
            state, reason = self.peering.verdict(wish)
            if wish.admin_state_up and state == "ERROR":
                troubles.append(f"the peer {wish.address} is not as it is wanted: {reason}")
            elif wish.admin_state_up and state != ACTIVE[0]:
                troubles.append(f"the session with {wish.address} is not established")
        if self.transport.accept_paused:
            troubles.append("connections of peers wait: no file descriptor is free")
        if self._interrupted:
            troubles.append("an error of bgpvpnd, which the log tells, may have left something undone; start it anew")
        if reconciler.unknown_since is not None:
            troubles.append(f"the kernel's state is not known: {reconciler.unknown_reason}")
        if reconciler.refused.trials:
            troubles.append(f"the kernel has not taken {len(reconciler.refused.trials)} rows")
        if self._storing_failed_at is not None:
            troubles.append("the store does not take changes")
        if self.ovs is not None:
            troubles += self.ovs.troubles()
        return {
            "version": bgpvpn.__version__,
            "router_id": self.config.node.router_id,
            "local_as": self.config.node.local_as,
            "tunnel_ip": list(self.config.node.tunnel_ip),
            "uptime_s": round(self._loop.time() - self.started_at, 1),
            "synced": reconciler.synced,
            "in_order": reconciler.in_order and not self._node_work,
            "degraded": troubles,
            "monitoring": self.monitoring.states(),
        }

    def itself(self) -> Plain:
        """Return the node as an object."""
        return node_view(self.config, self.intent)

    def sessions(self) -> list[Plain]:
        """Return one entry for each peer."""
        now, peers = self._loop.time(), self.transport.peers
        return [
            sessions.session(wish, address, peers[address], self.engine.neighbours[address], self.node.rib, now)
            for address, wish in self.peering.neighbours()
        ]

    def routes(
        self,
        *,
        family: str | None,
        route_target: str | None,
        prefix: str | None,
        vpn: Bgpvpn | None,
        source: str | None,
        most: int,
        received: bool,
    ) -> list[Plain]:
        """Return the routes that fit all that is given, at most so many; LookupError if there is no such source."""
        own = [LOCAL, *map(local, self.intent.speakers)]  # of speakers too
        sources = None if source is None else own if source == LOCAL else self.peering.find(source)
        if sources == [] and not any(
            source in (wish.name, wish.id, wish.address) for wish in self.intent.peers.rows.values()
        ):
            raise LookupError(source)
        heard = self._heard()
        return views.routes(self.node, family, route_target, prefix, sources, most, vpn, heard=heard, received=received)

    def malformed(self, peer: str) -> list[Plain] | None:
        """Return the last messages that broke the protocol, of a peer by its address or name; None: there is none."""
        now = self._loop.time()
        return next((sessions.malformed(self.transport.peers[at], now) for at in self.peering.find(peer)), None)

    def try_policy(self, policy: Policy, wanted: Plain) -> list[Plain]:
        """Return what a policy would make of routes (`api.bodies.PolicyTest`); IntentError if that cannot be."""
        return self.peering.try_policy(policy, wanted)

    def instances(self) -> list[Plain]:
        """Return the segments of the node with their VRFs and EVIs."""
        return views.instances(self.node)

    def kernel(self) -> Plain:
        """Return the dataplane's objects, what was refused, what others put into our tables, and counters."""
        try:
            foreign = self.dataplane.foreign()
        except OSError as error:
            foreign = [f"cannot be read: {error}"]
        return kernel(self.reconciler, foreign, self.dataplane.messages())

    def explain_prefix(self, prefix: str) -> Plain:
        """Walk the tables for a prefix or an address; ValueError if it is none."""
        answer = views.explain_prefix(self.node, prefix, self._heard(), self._told())
        network = ipaddress.ip_network(answer["prefix"])
        for instance in answer["instances"]:
            if instance["candidates"] and not isinstance(instance["wanted"], str):
                at: RouteTable = (instance["table"], 4 if network.version == 4 else 6)
                status = self.reconciler.route_status(at, prefix_bytes(answer["prefix"]))
                instance["kernel"] = {"state": status.state, "reason": status.reason}
        return answer

    def explain_port(self, port_id: str) -> Plain:
        """Walk the tables for a port that is there."""
        return views.explain_port(self.node, port_id, self._told())

    def advertised(self, speaker_id: str) -> list[Plain]:
        """Return the routes of a speaker that is there, by destination (`speaker_view.advertised`)."""
        speaker = self.intent.speakers[speaker_id]
        told = {name: self.engine.neighbours[name].adj_rib_out for name in self.peering.of_speaker(speaker)}
        return speaker_view.advertised(self.node, speaker, told)

    def learned(self, speaker_id: str) -> list[Plain]:
        """Return what the peers of a speaker told, in its address family (`speaker_view.learned`)."""
        speaker = self.intent.speakers[speaker_id]
        heard = {name: self.engine.neighbours[name].adj_rib_in for name in self.peering.of_speaker(speaker)}
        return speaker_view.learned(self.node, speaker, heard)

    def _heard(self) -> dict[str, AdjRibIn]:
        return {name: each.adj_rib_in for name, each in self.engine.neighbours.items()}

    def _told(self) -> dict[str, Any]:
        return {name: each.adj_rib_out for name, each in self.engine.neighbours.items()}

    def mrt(self, families: Sequence[str], *, pre_policy: bool) -> Iterator[bytes]:
        """Yield the routes of these families, or of all, as MRT records."""
        times = {"started_at": self.started_at, "now": self._loop.time(), "wall": time.time()}
        settings = self.node.settings
        return dump(settings, self.engine, self.transport.peers, families, pre_policy=pre_policy, **times)

    def metrics(self) -> list[Plain]:
        """Return counters and gauges."""
        found = metrics(self.node, self.reconciler, self.sessions(), self.dataplane.messages())
        return found + self.monitoring.metrics()


def _identity(config: Config, router_id: bytes) -> Identity:
    """Return what monitoring stations know the node by."""
    name = config.node.host or config.node.router_id
    description = f"bgpvpnd {bgpvpn.__version__}"
    return Identity(name=name, description=description, asn=config.node.local_as, router_id=router_id)


def settings_of(config: Config) -> NodeSettings:
    """Return what the pure middle needs of the configuration."""
    node = config.node
    tunnels = {len(packed): packed for packed in (ipaddress.ip_address(text).packed for text in node.tunnel_ip)}
    underlay = [ipaddress.ip_network(text) for text in node.underlay_prefixes]
    return NodeSettings(
        identity=NodeIdentity(
            router_id=ipaddress.ip_address(node.router_id).packed,
            tunnel_v4=tunnels.get(4),
            tunnel_v6=tunnels.get(16),
            gateway_mac=bytes.fromhex(node.gateway_mac.replace(":", "")),
            vxlan_port=config.dataplane.vxlan_port,
        ),
        local_as=node.local_as,
        host=node.host,
        underlay_prefixes=tuple((network.network_address.packed, network.prefixlen) for network in underlay),
    )


def drained(dataplane: Dataplane) -> list[str]:
    """Take everything of ours out of the kernel; return what it did not let go, in words."""
    reconciler = Reconciler(Desired(), dataplane)
    reconciler.open_gate()
    for turn in range(1000):
        if not reconciler.step(float(turn), ROUTES_A_TURN, True) and reconciler.unknown_since is None:
            break
    left = [f"{row_text(row)}: {trial.refusal.reason}" for row, trial in reconciler.refused.trials.items()]
    return left + ([reconciler.unknown_reason] if reconciler.unknown_since is not None else [])
