"""Links as netlink messages: what makes and sets a device of ours, and what the kernel says of any device.

A link is ours when its alias says so.  The kernel takes no alias while it makes a device, but it takes a group: so a
device whose making was cut short has our group and no alias, and is known for ours too.  Two bits of the group say
which properties were chosen, as the kernel shows a bridge's own choice of MAC and MTU like ours.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

import attrs

from bgpvpn.dataplane.encode import AF_INET, AF_INET6, NEWLINK, SETLINK
from bgpvpn.dataplane.rows import ALIAS, NEXTHOP_BASE, PROTOCOL, BridgeLink, Link, TunnelLink, VrfLink, VxlanLink
from bgpvpn.dataplane.wire import (
    CREATE,
    EXCL,
    Request,
    attribute,
    attributes,
    each_attribute,
    integer,
    nest,
    number,
    octet,
    string,
    text,
)

# linux/if_link.h
IFLA_ADDRESS, IFLA_IFNAME, IFLA_MTU, IFLA_MASTER, IFLA_LINKINFO, IFLA_IFALIAS = 1, 3, 4, 10, 18, 20
IFLA_AF_SPEC, IFLA_GROUP, IFLA_NET_NS_FD, IFLA_EXT_MASK, IFLA_PROP_LIST, IFLA_ALT_IFNAME = 26, 27, 28, 29, 52, 53
_KIND, _DATA, _PORT_KIND, _PORT_DATA = 1, 2, 4, 5  # IFLA_INFO_*
_VRF_TABLE = 1
_GRE_LOCAL, _GRE_REMOTE, _GRE_TTL, _GRE_PMTUDISC, _GRE_ENCAP_LIMIT, _GRE_FLAGS = 6, 7, 8, 10, 11, 13
_IGNORE_ENCAP_LIMIT = 1  # an option in each packet's header that other makes do not take
_BRIDGE_STP, _BRIDGE_SNOOPING, _BRIDGE_PVID = 5, 23, 39
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_LOCAL6, _VXLAN_ZERO_CSUM6_RX = 1, 4, 7, 15, 17, 20
_PORT_LEARNING, _PORT_NEIGH_SUPPRESS = 8, 32  # IFLA_BRPORT_*
_INET_CONF = 1  # IFLA_INET_CONF
_FORWARDING, _PROXY_ARP, _RP_FILTER, _PROMOTE_SECONDARIES = 1, 3, 8, 20  # IPV4_DEVCONF_*
_ADDR_GEN_MODE, _NO_ADDRESS = 8, 1  # IFLA_INET6_ADDR_GEN_MODE
_SKIP_STATISTICS = 8
IFF_UP = 0x1

LINK = struct.Struct("=BxHiII")  # family, device type, index, flags, mask of the flags that are set
_PORT = struct.Struct("!H")
_TTL = 64

NOWHERE = "bv-nowhere"
NOWHERE_LINK = VrfLink(f"{ALIAS}nowhere:", NEXTHOP_BASE)
"""The VRF of the bridges that no VRF routes for: the main table would route whatever is sent to their MAC."""

_GROUP = PROTOCOL << 8
_CHOSEN_MAC, _CHOSEN_MTU = 1, 2


@attrs.frozen
class Device:
    """A network device, ours or not, as the kernel describes it."""

    index: int
    name: str
    up: bool
    kind: str
    alias: str
    group: int
    mac: bytes
    mtu: int
    master: int  # index, 0: none
    names: tuple[str, ...]  # alternative ones
    properties: Mapping[int, bytes]  # of its kind
    port: Mapping[int, bytes]  # as a port of its bridge
    ipv4: tuple[int, ...]  # IPV4_DEVCONF_* less one

    @property
    def ours(self) -> bool:
        return self.alias.startswith(ALIAS) or (not self.alias and self.group & ~0xFF == _GROUP)


def by_name(name: str) -> bytes:
    """Return the body that asks for a device by its name."""
    return LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + number(IFLA_EXT_MASK, _SKIP_STATISTICS)


def by_alternative(name: str) -> bytes:
    """Return the body that asks for a device by an alternative name."""
    return LINK.pack(0, 0, 0, 0, 0) + text(IFLA_ALT_IFNAME, name) + number(IFLA_EXT_MASK, _SKIP_STATISTICS)


def by_index(index: int) -> bytes:
    """Return the body that asks for a device by its index; 0: for all, in a dump."""
    return LINK.pack(0, 0, index, 0, 0) + number(IFLA_EXT_MASK, _SKIP_STATISTICS)


def by_master(index: int) -> bytes:
    """Return the body that asks, in a dump, for the devices in a device."""
    return by_index(0) + number(IFLA_MASTER, index)


def device(body: bytes) -> Device:
    """Decode what the kernel says of a device."""
    _, _, index, flags, _ = LINK.unpack_from(body)
    found = attributes(body, LINK.size)
    info = attributes(found.get(IFLA_LINKINFO, b""))
    families = attributes(found.get(IFLA_AF_SPEC, b""))
    ipv4 = attributes(families.get(AF_INET, b"")).get(_INET_CONF, b"")
    return Device(
        index=index,
        name=string(found.get(IFLA_IFNAME, b"")),
        up=bool(flags & IFF_UP),
        kind=string(info.get(_KIND, b"")),
        alias=string(found.get(IFLA_IFALIAS, b"")),
        group=integer(found.get(IFLA_GROUP, b"")),
        mac=found.get(IFLA_ADDRESS, b""),
        mtu=integer(found.get(IFLA_MTU, b"")),
        master=integer(found.get(IFLA_MASTER, b"")),
        names=tuple(
            string(value) for kind, value in each_attribute(found.get(IFLA_PROP_LIST, b"")) if kind == IFLA_ALT_IFNAME
        ),
        properties=attributes(info.get(_DATA, b"")),
        port=attributes(info.get(_PORT_DATA, b"")) if string(info.get(_PORT_KIND, b"")) == "bridge" else {},
        ipv4=struct.unpack(f"={len(ipv4) // 4}I", ipv4),
    )


def row(device: Device, names: Mapping[int, str], takes_mpls: bool = True) -> Link | None:
    """Return the row of a device of ours, given the names of all indexes; None when it is of no kind that we make.

    What is not as we make it and has no field of its own is told behind the alias, so that the row is not in order.
    """
    master = names.get(device.master)
    faults = [] if device.up else ["down"]
    properties = device.properties

    def alias() -> str:
        told = device.alias or f"{ALIAS}unfinished"
        return f"{told} ({', '.join(faults)})" if faults else told

    match device.kind:
        case "vrf":
            faults += _ipv4_faults(device)
            return VrfLink(alias(), integer(properties.get(_VRF_TABLE, b"")))
        case "gre" | "ip6gre":
            if not takes_mpls:
                faults.append("takes no MPLS")
            return TunnelLink(alias(), properties.get(_GRE_LOCAL, b""), properties.get(_GRE_REMOTE, b""))
        case "bridge":
            faults += _ipv4_faults(device) if master else ["in no VRF"]
            mac = device.mac if device.group & _CHOSEN_MAC else None
            mtu = device.mtu if device.group & _CHOSEN_MTU else None
            return BridgeLink(
                alias(),
                mac,
                mtu,
                None if master == NOWHERE else master,
                bool(device.ipv4 and device.ipv4[_PROXY_ARP - 1]),
            )
        case "vxlan":
            for name, told, good in (
                ("learns", properties.get(_VXLAN_LEARNING), b"\0"),
                ("the bridge learns", device.port.get(_PORT_LEARNING), b"\0"),
                ("answers nothing", device.port.get(_PORT_NEIGH_SUPPRESS), b"\1"),
            ):
                if told is not None and told != good:
                    faults.append(name)
            local = properties.get(_VXLAN_LOCAL) or properties.get(_VXLAN_LOCAL6, b"")
            port = int.from_bytes(properties.get(_VXLAN_PORT, b""), "big")
            return VxlanLink(alias(), integer(properties.get(_VXLAN_ID, b"")), local, port, master or "")
    return None


def vrf_table(device: Device) -> int | None:
    """Return the table of a VRF device, None for any other."""
    return integer(device.properties.get(_VRF_TABLE, b"")) if device.kind == "vrf" else None


def kind_of(link: Link) -> str:
    """Return the kernel's word for the kind of a link."""
    match link:
        case VrfLink():
            return "vrf"
        case TunnelLink():
            return "gre" if len(link.local) == 4 else "ip6gre"
        case BridgeLink():
            return "bridge"
        case VxlanLink():
            return "vxlan"


def fixed(link: Link) -> tuple[object, ...]:
    """Return what cannot be changed once a device is made."""
    match link:
        case VrfLink():
            return ("vrf", link.table)
        case TunnelLink():
            return (kind_of(link), link.local, link.remote)
        case BridgeLink():
            return ("bridge",)
        case VxlanLink():
            return ("vxlan", link.vni, link.local, link.port)


def master_of(link: Link) -> str | None:
    """Return the name of the device that a link is put into."""
    return link.master if isinstance(link, BridgeLink | VxlanLink) else None


def creation(name: str, link: Link) -> Request:
    """Return what makes a device, which is then down, in no bridge and not named as ours."""
    body = LINK.pack(0, 0, 0, 0, 0) + text(IFLA_IFNAME, name) + number(IFLA_GROUP, _group(link))
    return NEWLINK, CREATE | EXCL, body + nest(IFLA_LINKINFO, text(_KIND, kind_of(link)), nest(_DATA, *_data(link)))


def _data(link: Link) -> list[bytes]:
    match link:
        case VrfLink():
            return [number(_VRF_TABLE, link.table)]
        case TunnelLink():
            ends = [attribute(_GRE_LOCAL, link.local), attribute(_GRE_REMOTE, link.remote), octet(_GRE_TTL, _TTL)]
            if len(link.local) == 4:
                return [*ends, octet(_GRE_PMTUDISC, 1)]
            return [*ends, octet(_GRE_ENCAP_LIMIT, 0), number(_GRE_FLAGS, _IGNORE_ENCAP_LIMIT)]
        case BridgeLink():
            # No VLAN by default: the bridge would keep a second copy of each forwarding entry for it.
            return [number(_BRIDGE_STP, 0), octet(_BRIDGE_SNOOPING, 0), attribute(_BRIDGE_PVID, bytes(2))]
        case VxlanLink():
            local = attribute(_VXLAN_LOCAL if len(link.local) == 4 else _VXLAN_LOCAL6, link.local)
            data = [
                number(_VXLAN_ID, link.vni),
                local,
                octet(_VXLAN_LEARNING, 0),
                attribute(_VXLAN_PORT, _PORT.pack(link.port)),
            ]
            return data if len(link.local) == 4 else [*data, octet(_VXLAN_ZERO_CSUM6_RX, 1)]


def settings(there: Device, link: Link, master: int, made: bool) -> list[Request]:
    """Return what gives a device, perhaps just made, all that can be changed; it is not set up yet.

    A bridge is told to keep the MAC that it has, if it is given none: it would take that of a port, and all its
    neighbours are lost whenever its MAC changes, or is only set.
    """
    index = there.index
    body = LINK.pack(0, 0, index, 0, 0) + text(IFLA_IFALIAS, link.alias) + number(IFLA_GROUP, _group(link))
    families = nest(AF_INET6, octet(_ADDR_GEN_MODE, _NO_ADDRESS))
    match link:
        case VrfLink():
            families += _ipv4(_ROUTES)
        case BridgeLink():
            families += _ipv4(_ROUTES | {_PROXY_ARP: int(link.gateway)})
            if made or link.mac not in (None, there.mac):
                body += attribute(IFLA_ADDRESS, link.mac or there.mac)
            if link.mtu is not None:
                body += number(IFLA_MTU, link.mtu)
            body += number(IFLA_MASTER, master)
        case VxlanLink():
            body += number(IFLA_MASTER, master)
    requests = [(SETLINK, 0, body + nest(IFLA_AF_SPEC, families))]
    if isinstance(link, VxlanLink):
        flags = nest(_PORT_DATA, octet(_PORT_LEARNING, 0), octet(_PORT_NEIGH_SUPPRESS, 1))
        of_port = nest(IFLA_LINKINFO, text(_PORT_KIND, "bridge"), flags)
        own = nest(IFLA_LINKINFO, text(_KIND, "vxlan"), nest(_DATA, octet(_VXLAN_LEARNING, 0)))
        requests += [(NEWLINK, 0, LINK.pack(0, 0, index, 0, 0) + each) for each in (of_port, own)]
    return requests


def going_up(index: int) -> Request:
    """Return what sets a device up."""
    return SETLINK, 0, LINK.pack(0, 0, index, IFF_UP, IFF_UP)


def into(index: int, master: int) -> Request:
    """Return what puts a device into another, 0: out of it."""
    return SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + number(IFLA_MASTER, master)


def moving(index: int, namespace: int, name: str) -> Request:
    """Return what moves a device to the network namespace of a descriptor, under a name; it arrives down."""
    return SETLINK, 0, LINK.pack(0, 0, index, 0, 0) + number(IFLA_NET_NS_FD, namespace) + text(IFLA_IFNAME, name)


def naming(kind: int, index: int, *names: str) -> Request:
    """Return what gives (NEWLINKPROP) or takes (DELLINKPROP) alternative names."""
    listed = nest(IFLA_PROP_LIST, *(text(IFLA_ALT_IFNAME, name) for name in names))
    return kind, 0, LINK.pack(0, 0, index, 0, 0) + listed


def link_local(mac: bytes) -> bytes:
    """Return the link-local address of a MAC (RFC 4291 appendix A)."""
    return b"\xfe\x80" + bytes(6) + bytes((mac[0] ^ 2,)) + mac[1:3] + b"\xff\xfe" + mac[3:]


_ROUTES = {_FORWARDING: 1, _RP_FILTER: 0, _PROMOTE_SECONDARIES: 1}


def _ipv4(settings: Mapping[int, int]) -> bytes:
    return nest(AF_INET, nest(_INET_CONF, *(number(kind, value) for kind, value in settings.items())))


def _ipv4_faults(device: Device) -> list[str]:
    names = {_FORWARDING: "forwarding", _RP_FILTER: "rp_filter"}
    return [
        f"{name} {device.ipv4[kind - 1]}"
        for kind, name in names.items()
        if len(device.ipv4) >= kind and device.ipv4[kind - 1] != _ROUTES[kind]
    ]


def _group(link: Link) -> int:
    if not isinstance(link, BridgeLink):
        return _GROUP
    return _GROUP | (link.mac is not None and _CHOSEN_MAC) | (link.mtu is not None and _CHOSEN_MTU)
