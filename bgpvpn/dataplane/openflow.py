"""The flows that join an internal port with the port of a bridge that it meets, as `ovs-ofctl` reads them.

A bridge whose table 0 is ours, like the br-mpls of networking-bagpipe's agent extension; V is the plug's VLAN:

    port, V  unicast              -> without V, to the node's gateway MAC  -> internal port     (l3)
    port, V  unicast, multicast   -> without V                             -> internal port     (l2; l3: multicast)
    internal port                 -> with V                                -> port              (l3: unicast only)
    internal port, fallback_mac   -> from fallback_src_mac, with V         -> fallback port
    port, V  its answer to ARP    -> from fallback_src_mac                 -> fallback port

Frames that the agent redirects are to the MAC address of a Neutron router or of the gateway, and the kernel routes
those to its own alone. That the l3 ones come back as unicast only, and never where no plug leads, keeps floods out.
Answers to ARP and neighbour solicitations of a Neutron router are redirected like all that is to it, and are passed on:
who has asked for a tenant's MAC address must get it, or sends nothing.

The tunnel bridge of Neutron's agent, br-tun, has tables of its own (neutron_lib.plugins.ml2.ovs_constants):

    0  in_port=patch-int -> 2;  2  unicast -> 20, else -> 22;  20  where a MAC is, else -> 22;  22  to all tunnels of V

    22  V              -> a copy, without V, to the internal port, then what the agent does with it
    0   internal port  -> with V, to the port; learned: table 20 sends what is to the source here, as it does to tunnels

So the agent's own tunnels carry what they did: unicast to whom they know, and all floods. What they do not know goes to
us beside them, and the bridge there knows by EVPN where it is. Frames of tunnels go to the port alone, and ours too:
there is no way from one to the other and so no loop.

The cookie of a flow is our mark and a digest of its text, so that the cookies tell what is there and what is not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import attrs

from bgpvpn.dataplane.plugs import Plug

MARK = 0x6267_7670 << 32  # "bgvp"
MASK = 0xFFFF_FFFF << 32
"""Which part of a cookie says that a flow is ours."""

VERSIONS = "OpenFlow10,OpenFlow13,OpenFlow14,OpenFlow15"
TABLES = (0, 22)
"""Where our flows are, but for those that were learned."""

_PRIORITY = 0x9000  # above what has no priority
_COPY_PRIORITY = 5  # above the agent's, which is 1
_LEARNED_S = 300  # how long the agent's tunnels remember a MAC
_UNICAST, _MULTICAST = "dl_dst=00:00:00:00:00:00/01:00:00:00:00:00", "dl_dst=01:00:00:00:00:00/01:00:00:00:00:00"
_LEARN = (
    "learn(table=20,cookie={cookie:#x},priority=1,hard_timeout={timeout},NXM_OF_VLAN_TCI[0..11],"
    "NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],load:0->NXM_OF_VLAN_TCI[],output:NXM_OF_IN_PORT[])"
)


@attrs.frozen
class Numbers:
    """OpenFlow numbers of a plug's ports."""

    internal: int
    port: int
    fallback: int | None = None  # None: there is no port of its own for those frames


@attrs.frozen
class Surroundings:
    """What all plugs of a node have in common."""

    gateway_mac: str
    tunnel_bridge: str  # of Neutron's agent


@attrs.frozen
class Flows:
    """Flows of one bridge: their texts by cookie, and the cookies of those that they learn."""

    texts: dict[int, str]
    learned: frozenset[int] = frozenset()


def flows(plug: Plug, numbers: Numbers, node: Surroundings) -> Flows:
    """Return the flows of a plug."""
    if plug.at.bridge == node.tunnel_bridge:
        cookie = _cookie(f"learned {plug.interface} {plug.at.vlan} {numbers}")
        return Flows(_marked(_beside_tunnels(plug, numbers, cookie)), frozenset({cookie}))
    return Flows(_marked(_alone(plug, numbers, node)))


def changes(wanted: Flows, present: set[int]) -> list[str]:
    """Return the lines of a bundle that lead from the cookies of ours that are present to what is wanted."""
    gone = present - wanted.texts.keys() - wanted.learned
    lines = [f"flow delete cookie={cookie:#x}/-1" for cookie in sorted(gone)]
    missing = [text for cookie, text in wanted.texts.items() if cookie not in present]
    return lines + [f"flow add {text}" for text in missing]


def together(several: list[Flows]) -> Flows:
    """Return the flows of all plugs of one bridge."""
    texts = {cookie: text for each in several for cookie, text in each.texts.items()}
    return Flows(texts, frozenset().union(*(each.learned for each in several)))


def _alone(plug: Plug, numbers: Numbers, node: Surroundings) -> Iterator[str]:
    vlan = plug.at.vlan
    incoming = f"table=0,priority={_PRIORITY},in_port={numbers.port},{_tagged(vlan)}"
    outgoing = f"table=0,priority={_PRIORITY},in_port={numbers.internal}"
    inward = f"{_strip(vlan)}output:{numbers.internal}"
    outward = f"{_push(vlan)}output:{numbers.port}"
    if plug.switched:
        yield f"{incoming},actions={inward}"
        yield f"{outgoing},actions={outward}"
    else:
        yield f"{incoming},{_UNICAST},actions=mod_dl_dst:{node.gateway_mac},{inward}"
        yield f"{incoming},{_MULTICAST},actions={inward}"
        yield f"{outgoing},{_UNICAST},actions={outward}"
        yield f"table=0,priority={_PRIORITY - 1},in_port={numbers.internal},actions=drop"
    if plug.fallback_mac is not None:
        source = "" if plug.at.fallback_src_mac is None else f"mod_dl_src:{plug.at.fallback_src_mac},"
        output = numbers.port if numbers.fallback is None else numbers.fallback
        yield (
            f"table=0,priority={_PRIORITY + 1},in_port={numbers.internal},dl_dst={plug.fallback_mac},"
            f"actions={source}{_push(vlan)}output:{output}"
        )
        if numbers.fallback is not None and source and not plug.switched:
            answers = (
                f"table=0,priority={_PRIORITY + 1},in_port={numbers.port},{_tagged(vlan)},dl_dst={plug.fallback_mac}"
            )
            yield f"{answers},arp,arp_op=2,actions={source}output:{numbers.fallback}"
            yield f"{answers},icmp6,icmp_type=136,actions={source}output:{numbers.fallback}"


def _beside_tunnels(plug: Plug, numbers: Numbers, learned: int) -> Iterator[str]:
    vlan = plug.at.vlan
    learn = _LEARN.format(cookie=learned, timeout=_LEARNED_S)
    yield (
        f"table=0,priority={_PRIORITY},in_port={numbers.internal},actions={_push(vlan)}{learn},output:{numbers.port}"
    )
    # A register tells the second time around, when the agent's own flow is to match.
    yield (
        f"table=22,priority={_COPY_PRIORITY},in_port={numbers.port},{_tagged(vlan)},reg14=0,"
        f"actions=clone({_strip(vlan)}output:{numbers.internal}),load:1->NXM_NX_REG14[],resubmit(,22)"
    )


def _tagged(vlan: int | None) -> str:
    return "vlan_tci=0x0000/0x1000" if vlan is None else f"dl_vlan={vlan}"


def _strip(vlan: int | None) -> str:
    return "" if vlan is None else "strip_vlan,"


def _push(vlan: int | None) -> str:
    return "" if vlan is None else f"push_vlan:0x8100,mod_vlan_vid:{vlan},"


def _marked(texts: Iterator[str]) -> dict[int, str]:
    return {(cookie := _cookie(text)): f"cookie={cookie:#x},{text}" for text in texts}


def _cookie(text: str) -> int:
    return MARK | int.from_bytes(hashlib.blake2s(text.encode(), digest_size=4).digest(), "big")
