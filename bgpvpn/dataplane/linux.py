"""What the neutral objects of `desired.py` are in a Linux kernel: objects and next hops in, rows of `rows.py` out.

    object       rows
    Vrf          link bv-vrf<table>; an unreachable default for each family; its label to that device
    Bridge       link bv-br<number>, in its VRF's device; the gateways' addresses on it
    Tunnel       link bv-g<remote>, or bv-grx and bv-gr6x to receive from anywhere
    Vxlan        link bv-vx<VNI>, in its bridge
    Attachment   the user's interface in a bridge
    LabelRoute   its label to a neighbour on a bridge
    MAC, VTEP    fdb and flood rows on the VXLAN device
    neighbour    a neighbour row on the bridge

Device names are made of leased numbers and addresses, never of a user's text, and fit the kernel's 15 characters.
Which object a device belongs to is said by its alias.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from bgpvpn.dataplane.rows import (
    ALIAS,
    UNREACHABLE_METRIC,
    Afi,
    Attached,
    BridgeLink,
    Key,
    Kind,
    Leaf,
    MplsRoute,
    TunnelLink,
    Value,
    VrfLink,
    VxlanLink,
)
from bgpvpn.desired import (
    Attachment,
    Bridge,
    InVrf,
    Labelled,
    LabelRoute,
    NextHop,
    Object,
    ObjectKey,
    OnBridge,
    Tunnel,
    Vrf,
    Vxlan,
)

AFIS: tuple[Afi, Afi] = (4, 6)

Row = tuple[Kind, Key, Value]
Objects = Mapping[ObjectKey, Object]


def vrf_device(table: int) -> str:
    """Return the name of the VRF device of a table."""
    return f"bv-vrf{table}"


def bridge_device(number: int) -> str:
    """Return the name of the bridge with a leased number."""
    return f"bv-br{number}"


def vxlan_device(vni: int) -> str:
    """Return the name of the VXLAN device of a VNI."""
    return f"bv-vx{vni}"


def tunnel_device(remote: bytes) -> str:
    """Return the name of the tunnel to an address of 4 or 16 octets; all zero: the one that receives from anywhere."""
    if not any(remote):
        return "bv-grx" if len(remote) == 4 else "bv-gr6x"
    if len(remote) == 4:
        return f"bv-g{remote.hex()}"
    return f"bv-g6{hashlib.blake2s(remote, digest_size=5).hexdigest()}"


def alias(key: ObjectKey) -> str:
    """Return the mark that makes a link ours and tells whose it is."""
    return f"{ALIAS}{key[0]}:{key[1]}"


def dependency(thing: Object) -> ObjectKey | None:
    """Return the one object without which this one cannot be compiled."""
    match thing:
        case Bridge(vrf=str(vrf)):
            return ("vrf", vrf)
        case Vxlan(bridge=bridge) | Attachment(bridge=bridge) | LabelRoute(bridge=bridge):
            return ("bridge", bridge)
    return None


def device_of(thing: Object) -> str | None:
    """Return the device that an object is in the kernel; None for those that are none."""
    match thing:
        case Vrf():
            return vrf_device(thing.table)
        case Bridge():
            return bridge_device(thing.number)
        case Tunnel():
            return tunnel_device(thing.remote)
        case Vxlan():
            return vxlan_device(thing.vni)
    return None


def rows_of(thing: Object, objects: Objects) -> list[Row]:
    """Compile an object; its `dependency` must be among the objects (else KeyError)."""
    match thing:
        case Vrf():
            device = vrf_device(thing.table)
            rows: list[Row] = [("link", device, VrfLink(alias(thing.key), thing.table))]
            rows += [("unreachable", (thing.table, afi), UNREACHABLE_METRIC) for afi in AFIS]
            if thing.label is not None:
                rows.append(("mpls", thing.label, MplsRoute(device)))
            return rows
        case Bridge():
            device = bridge_device(thing.number)
            master = None if thing.vrf is None else device_of(objects[("vrf", thing.vrf)])
            answers = master is not None and bool(thing.gateways)
            link = BridgeLink(alias(thing.key), thing.gateway_mac, thing.mtu, master, answers)
            addresses = [("address", (device, at.address), at.prefix_length) for at in thing.gateways]
            return [("link", device, link), *addresses]  # type: ignore[list-item]
        case Tunnel():
            tunnel = TunnelLink(alias(thing.key), thing.local, thing.remote)
            return [("link", tunnel_device(thing.remote), tunnel)]
        case Vxlan():
            vxlan = VxlanLink(alias(thing.key), thing.vni, thing.local, thing.port, _bridge(thing.bridge, objects))
            return [("link", vxlan_device(thing.vni), vxlan)]
        case Attachment():
            attached = Attached(thing.interface, thing.netns, _bridge(thing.bridge, objects))
            return [("attachment", thing.port, attached)]
        case LabelRoute():
            return [("mpls", thing.label, MplsRoute(_bridge(thing.bridge, objects), thing.address))]


def leaf_of(hop: NextHop, afi: Afi, objects: Objects) -> Leaf | None:
    """Compile a next hop for routes of a family; None when the object that it leads through is not there."""
    thing = objects.get(subject(hop))
    device = device_of(thing) if thing is not None else None
    if device is None:
        return None
    match hop:
        case Labelled():
            return Leaf(afi, device, label=hop.label)
        case InVrf():
            return Leaf(afi, device)
        case OnBridge():
            # An IPv4 route may have an IPv6 gateway, and is then one of that family to the kernel.
            return Leaf(6 if len(hop.address) == 16 else afi, device, gateway=hop.address)


def subject(hop: NextHop) -> ObjectKey:
    """Return the object that a next hop leads through."""
    match hop:
        case Labelled():
            return ("tunnel", hop.pe.hex())
        case InVrf():
            return ("vrf", hop.vrf)
        case OnBridge():
            return ("bridge", hop.bridge)


def _bridge(name: str, objects: Objects) -> str:
    bridge = objects[("bridge", name)]
    assert isinstance(bridge, Bridge)
    return bridge_device(bridge.number)
