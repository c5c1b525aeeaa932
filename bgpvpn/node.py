"""Start here: all tables of a node, who writes and who reads each, and the stages between them.

    table                written by                         read by
    intent.*             RunningNode.write                  Segments, Advertising
    rib (of speakers)    Advertising                        AdjRibOut of their peers
    segments, endpoints  Segments                           Instances
    leases.table         Instances                          the store (before anything leaves the node)
    rib (per source)     AdjRibIn, Announcing, Memberships  Importing, AdjRibOut
    originated           Instances                          Announcing
    interest.targets     Instances                          Memberships, as RT membership routes (RFC 4684)
    desired.*            Instances, Tunnels                 the reconciler
    status               the reconciler                     Instances, Announcing, views

What a VRF or an EVI writes counts as written by Instances.

`step` runs the stages, upstream ones first, with a share of work; it is synchronous, knows no clock but its arguments,
and gives the same end for every order of inputs.
"""

from __future__ import annotations

import attrs

from bgpvpn.advertising import Advertising
from bgpvpn.allocate import Leases
from bgpvpn.announcing import Announcing
from bgpvpn.desired import Desired, ObjectKey, Status, Tunnel
from bgpvpn.instance import Importing, Instance, NodeIdentity, OriginatedTable, Vias
from bgpvpn.instances import Instances
from bgpvpn.intent import Intent
from bgpvpn.segment import Segments
from speaker.decision import LOCAL
from speaker.path import Path
from speaker.rib import Interest, Rib
from speaker.table import Table
from speaker.values import Family
from speaker.wire.attribute import Interner, make

TUNNEL_SWEEP_S = 60.0

DEFAULT_MEMBERSHIP = b"\0"
"""The NLRI key of the RT membership route for every target: no octets, 0 bits (RFC 4684 section 4)."""


@attrs.frozen
class NodeSettings:
    """What is fixed while the node runs."""

    identity: NodeIdentity
    local_as: int
    underlay_prefixes: tuple[tuple[bytes, int], ...] = ()  # where PEs may be: (address, prefix length); empty: anywhere
    host: str = ""  # the node's name: ports of other hosts are not here


class Memberships:
    """The stage [interest.targets] -> RT membership routes of our own (RFC 4684 section 4).

    A route reflector wants what its clients want, and cannot know it of those that do not speak of memberships: then
    `everything` is set, and the default route alone stands for all targets (RFC 4684 section 4).
    """

    def __init__(self, interest: Interest, rib: Rib, settings: NodeSettings, interner: Interner) -> None:
        self._reader = interest.targets.reader()
        self._table = rib.table(Family.RTC, LOCAL)
        self._origin = settings.local_as.to_bytes(4, "big")
        self._path = make(interner, next_hop=settings.identity.tunnel).path(b"")
        self.everything = False
        self.grown = False  # targets were added since somebody looked
        self.shrunk = False

    def step(self) -> int:
        """Bring the routes up to the targets; return how many changed."""
        dirty = self._reader.take()
        targets = self._reader.table
        for target, seen in dirty.items():
            self.grown |= seen is None and target in targets
            self.shrunk |= seen is not None and target not in targets
            if self.everything:
                continue
            if target in targets:
                self._table.put(self._key(target), self._path)
            else:
                self._table.discard(self._key(target))
        if self.everything is not (DEFAULT_MEMBERSHIP in self._table):
            keys = [DEFAULT_MEMBERSHIP] if self.everything else map(self._key, targets)
            self._table.sync(dict.fromkeys(keys, self._path))
        return len(dirty)

    def _key(self, target: bytes) -> bytes:
        return self._origin + target + b"\x60"


class Tunnels:
    """The stage from next hops to tunnels: one for each PE that a kept route leads to, and one to receive from all."""

    def __init__(self, settings: NodeSettings, instances: Instances, vias: Vias, rib: Rib, desired: Desired) -> None:
        self.identity = settings.identity
        self.instances = instances
        self.vias = vias
        self.rib = rib
        self.desired = desired
        self._swept = 0.0
        self._made: set[ObjectKey] = set()

    def step(self, now: float) -> int:
        """Add what is missing; once a minute, take away what nothing leads to any more."""
        pes = self.vias.take_new_pes()
        wanted = [tunnel for pe in pes if (tunnel := self._tunnel(pe)) is not None]
        if self.instances.vrfs:
            for local in (self.identity.tunnel_v4, self.identity.tunnel_v6):
                if local is not None:
                    wanted.append(Tunnel(local, bytes(len(local))))
        for tunnel in wanted:
            self._made.add(tunnel.key)
            self.desired.objects.put(tunnel.key, tunnel)
        due = now - self._swept >= TUNNEL_SWEEP_S or (self._made and not self.instances.vrfs)
        if due and not len(self.instances.importing):  # which reads what old paths meant
            self._swept = now
            self._sweep()
        return len(pes)

    def _tunnel(self, pe: bytes) -> Tunnel | None:
        local = self.identity.tunnel_v4 if len(pe) == 4 else self.identity.tunnel_v6
        return None if local is None else Tunnel(local, pe)

    def _sweep(self) -> None:
        used = {id(via): via for table in self.desired.routes.values() for via in table.rows.values()}
        paths = {path for table in self.rib.tables.values() for path in table.rows.values()}
        paths.update(self.instances.paths())
        kept = {("tunnel", pe.hex()) for pe in self.vias.keep(used.values(), paths)}
        for half in self.instances.prefixes.values():
            half.keep(paths, used.values())
        if self.instances.vrfs:
            kept |= {("tunnel", bytes(4).hex()), ("tunnel", bytes(16).hex())}
        else:
            kept = set()
        for key in self._made - kept:
            self.desired.objects.discard(key)
        self._made &= kept


class Node:
    """The pure middle: from intent and heard routes to desired state and told routes."""

    def __init__(
        self,
        settings: NodeSettings,
        intent: Intent,
        leases: Leases,
        status: Table[ObjectKey, Status],
        desired: Desired,
        interner: Interner,
    ) -> None:
        self.settings = settings
        self.intent = intent
        self.leases = leases
        self.status = status
        self.desired = desired
        self.interner = interner
        self.rib = Rib()
        self.interest = Interest()
        self.vias = Vias()
        self.originated: OriginatedTable = Table()
        self.segments = Segments(intent, settings.host)
        self.importing = Importing(self.rib, self.interest, self._owner)
        self.instances = Instances(
            segments=self.segments.segments,
            endpoints=self.segments.endpoints,
            status=status,
            leases=leases,
            rib=self.rib,
            interest=self.interest,
            importing=self.importing,
            desired=desired,
            originated=self.originated,
            identity=settings.identity,
            interner=interner,
            vias=self.vias,
            usable=self.refusal,
        )
        self.announcing = Announcing(self.originated, status, self.rib)
        self.advertising = Advertising(intent, self.rib, interner, settings.host)
        self.memberships = Memberships(self.interest, self.rib, settings, interner)
        self.tunnels = Tunnels(settings, self.instances, self.vias, self.rib, desired)

    def step(self, now: float, wall: float, most: int = 2000) -> int:
        """Run every stage once, with at most about `most` routes each; 0 when the node is settled."""
        return self.work_out(now, wall, most) + self.announcing.step()

    def work_out(self, now: float, wall: float, most: int) -> int:
        """Run every stage but the last, so that leases can be kept before what was built from them is announced."""
        done = self.advertising.step()
        done += self.segments.step()
        done += self.instances.step(wall)
        done += self.memberships.step()
        done += self.importing.step(most)
        for instance in self.instances:
            if len(instance):
                done += instance.step(most)
        return done + self.tunnels.step(now)

    def _owner(self, family: Family, path: Path) -> Instance | None:
        """Return the instance that said a route of our own; an EVI needs no telling."""
        name = self.vias.own.get(path, "")
        return self.instances.prefixes.get(name) if family is Family.EVPN else self.instances.vrfs.get(name)

    def refusal(self, pe: bytes) -> str:
        """Say why no tunnel may lead to a PE address, "" if one may."""
        identity = self.settings.identity
        if (identity.tunnel_v4 if len(pe) == 4 else identity.tunnel_v6) is None:
            return f"this node has no IPv{4 if len(pe) == 4 else 6} tunnel address"
        if not any(pe):
            return "the next hop is all zero"
        if pe in (identity.tunnel_v4, identity.tunnel_v6):
            return "the next hop is this node itself"
        prefixes = self.settings.underlay_prefixes
        if prefixes and not any(_inside(pe, address, length) for address, length in prefixes):
            return "the next hop is outside the configured underlay prefixes"
        return ""


def _inside(address: bytes, network: bytes, length: int) -> bool:
    shift = len(address) * 8 - length
    return (
        len(address) == len(network)
        and int.from_bytes(address, "big") >> shift == int.from_bytes(network, "big") >> shift
    )
