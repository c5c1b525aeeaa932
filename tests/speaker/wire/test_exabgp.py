"""exabgp as a second opinion: what we encode it reads alike, and what it encodes of that we read alike.

What exabgp 5.0 cannot do is left out of the routes drawn here: EVPN, VPNv4 and IPv4 with an IPv6 next hop, a second
label of type 2, flow specifications that no rule of its own can say (of the others there are examples), RT membership
prefixes of 32 to 95 bits, AGGREGATOR for a peer with 2-octet AS numbers, attributes that it does not know.
"""

from __future__ import annotations

import ipaddress
from typing import Any

import attrs
import pytest
from exabgp.bgp.message.action import Action
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.open.asn import ASN
from exabgp.bgp.message.open.capability.negotiated import Negotiated
from exabgp.bgp.message.update import Update as ExabgpUpdate
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI
from hypothesis import given
from hypothesis import strategies as st

from speaker.path import AS_SEQUENCE, AS_SET, Attributes
from speaker.values import Esi, Family, Mac, RouteDistinguisher, RouteTarget, key_text
from speaker.wire.attribute import Interner, make
from speaker.wire.message import HEADER_SIZE
from speaker.wire.update import UpdateDecoder, encode_updates, encode_withdrawals
from tests.speaker.wire.strategies import FLOWSPEC, NEXT_HOPS_4, ROUTES, Route, attributes, meaning

log.disable()  # it writes before it is set up
LOCAL_AS = 64512


def session(*, ibgp: bool, as4: bool) -> Negotiated:
    """What exabgp thinks was agreed on."""
    negotiated = Negotiated({"capability": {"aigp": False}})
    negotiated.asn4 = as4
    negotiated.local_as = ASN(LOCAL_AS)
    negotiated.peer_as = ASN(LOCAL_AS if ibgp else LOCAL_AS + 1)
    negotiated.families = [(AFI(family.afi), SAFI(family.safi)) for family in Family]
    return negotiated


def read(message: bytes, negotiated: Negotiated) -> Any:
    return ExabgpUpdate.unpack_message(message[HEADER_SIZE:], Direction.IN, negotiated)


def known_to_exabgp(family: Family, route: Route) -> bool:
    key, extra = route
    match family:
        case Family.EVPN:
            return len(extra) != 16 or key[0] != 2
        case Family.RTC:
            return key[-1] in (0, 96) and (key[-1] == 0 or (key[4] <= 2 and key[5] == 2))
    return True


def within_exabgp(drawn: Attributes, ibgp: bool, as4: bool) -> Attributes:
    """The attributes without what exabgp does not know or writes in another way."""
    pmsi = drawn.pmsi if drawn.pmsi and drawn.pmsi[1] == 6 and len(drawn.pmsi[3]) == 4 else None
    as_path = tuple((kind, numbers) for kind, numbers in drawn.as_path if kind in (AS_SET, AS_SEQUENCE))
    if not ibgp:  # it puts its own AS into an empty path
        as_path = as_path or ((AS_SEQUENCE, (LOCAL_AS + 1,)),)
    return attrs.evolve(
        drawn,
        aggregator=drawn.aggregator if as4 else None,
        unknown=(),
        pmsi=pmsi,
        as_path=as_path,
        # It writes what looks like MAC mobility (RFC 7432 section 7.7) as that, with reserved bits of zero.
        ext_communities=tuple(
            each for each in dict.fromkeys(drawn.ext_communities) if (each[0] & 0x0F, each[1]) != (6, 0)
        ),
    )


DRAWN = [family for family in Family if family not in FLOWSPEC]
SESSIONS = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])


@pytest.mark.parametrize("family", DRAWN, ids=lambda family: family.text)
@given(data=st.data(), kind=SESSIONS)
def test_routes_go_through_exabgp_unchanged(family: Family, data: st.DataObject, kind: tuple[bool, bool]) -> None:
    ibgp, as4 = kind
    told = within_exabgp(data.draw(attributes(family, ibgp=ibgp, as4=as4)), ibgp, as4)
    if family in (Family.EVPN, Family.VPNV4, Family.IPV4):
        told = attrs.evolve(told, next_hop=data.draw(NEXT_HOPS_4))
    one = ROUTES[family].filter(lambda route: known_to_exabgp(family, route))
    routes = data.draw(st.lists(one, min_size=1, max_size=5, unique_by=lambda route: route[0]))
    negotiated = session(ibgp=ibgp, as4=as4)
    reader = UpdateDecoder(Interner(), ibgp=ibgp, as4=as4, families=frozenset(Family))
    (message,) = encode_updates(family, told, routes, as4=as4)
    update = read(message, negotiated)
    assert {nlri.action for nlri in update.nlris} == {Action.ANNOUNCE}
    back: dict[bytes, bytes] = {}
    for written in update.messages(negotiated):
        ((its_family, found),) = reader.decode(written[HEADER_SIZE:]).announced
        assert its_family is family
        back |= {key: path.extra for key, path in found.items()}
        assert comparable(next(iter(found.values())).attributes) == comparable(told)
    assert back == dict(routes)


def comparable(told: Attributes) -> dict[str, object]:
    """What attributes mean, whatever the order in which exabgp writes communities."""
    said = meaning(told)
    del said["partial"]  # it sets the bit where it does not know an attribute, and forgets it where it does
    for name in ("communities", "ext_communities", "large_communities"):
        said[name] = sorted(set(getattr(told, name)))
    return said


@pytest.mark.parametrize("family", DRAWN, ids=lambda family: family.text)
@given(data=st.data())
def test_withdrawals_go_through_exabgp_unchanged(family: Family, data: st.DataObject) -> None:
    one = ROUTES[family].filter(lambda route: known_to_exabgp(family, route))
    keys = {key for key, _ in data.draw(st.lists(one, min_size=1, max_size=5))}
    negotiated = session(ibgp=True, as4=True)
    (message,) = encode_withdrawals(family, sorted(keys))
    update = read(message, negotiated)
    assert {nlri.action for nlri in update.nlris} == {Action.WITHDRAW}
    back: set[bytes] = set()
    for written in update.messages(negotiated):
        decoded = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset(Family)).decode(
            written[HEADER_SIZE:]
        )
        assert decoded.announced == []
        back |= {key for _, found in decoded.withdrawn for key in found}
    assert back == keys


def test_exabgp_reads_the_fields_of_our_routes_as_we_mean_them() -> None:
    rd, esi, mac = (
        RouteDistinguisher.parse("64512:7"),
        Esi.parse("00:01:02:03:04:05:06:07:08:09"),
        Mac.parse("fa:16:3e:00:00:01"),
    )
    v4, label = bytes((10, 1, 2, 0)), bytes.fromhex("0c3501")
    target = RouteTarget.parse("64512:4660")
    told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), local_pref=200, ext_communities=(target.wire,))
    tag = (5).to_bytes(4, "big")
    for family, key, extra, text in [
        (Family.IPV4, v4[:3] + b"\x18", b"", "10.1.2.0/24 next-hop 192.0.2.1"),
        (Family.VPNV4, rd.wire + v4[:3] + b"\x18", label, "10.1.2.0/24 label 50000 next-hop 192.0.2.1 rd 64512:7"),
        (
            Family.VPNV6,
            rd.wire + bytes.fromhex("20010db820"),
            label,
            "2001:db8::/32 label 50000 next-hop ::ffff:192.0.2.1 rd 64512:7",
        ),
        (Family.RTC, (LOCAL_AS).to_bytes(4, "big") + target.wire + b"\x60", b"", "rtc 64512:target:64512:4660"),
        (
            Family.EVPN,
            b"\x02" + rd.wire + tag + b"\x30" + mac.wire + b"\x20" + v4,
            bytes(10) + label,
            "evpn:macadv::64512:7:-:5:FA:16:3E:00:00:01/48:10.1.2.0: label 50000 (800001)",
        ),
        (Family.EVPN, b"\x03" + rd.wire + tag + b"\x20" + v4, b"", "evpn:multicast::64512:7:5:10.1.2.0"),
        (
            Family.EVPN,
            b"\x05" + rd.wire + tag + b"\x18" + v4,
            bytes(10) + bytes((10, 0, 0, 9)) + label,
            "evpn:prfxadv::64512:7:-:5:10.1.2.0/24:10.0.0.9: label 50000 (800001)",
        ),
        (
            Family.EVPN,
            b"\x04" + rd.wire + esi.wire + b"\x20" + v4,
            b"",
            "evpn:segment::64512:7:00:01:02:03:04:05:06:07:08:09:10.1.2.0",
        ),
        (
            Family.EVPN,
            b"\x01" + rd.wire + esi.wire + tag,
            label,
            "evpn:ethernetad::64512:7:00:01:02:03:04:05:06:07:08:09:5: label 50000 (800001)",
        ),
    ]:
        (message,) = encode_updates(family, told, [(key, extra)], as4=True)
        update = read(message, session(ibgp=True, as4=True))
        (nlri,) = update.nlris
        assert str(nlri) == text
        assert str(nlri.nexthop).endswith(str(ipaddress.ip_address(told.next_hop)))
        assert "local-preference 200" in str(update.attributes)
        assert "target:64512:4660" in str(update.attributes)


def test_exabgp_reads_flow_specifications_as_we_mean_them_and_writes_them_alike() -> None:
    told = make(Interner(), next_hop=b"", local_pref=200, ext_communities=(bytes.fromhex("8006fc0049742400"),))
    rd = "0000fc0000000007"
    for family, key, text, ours in [
        (
            Family.IPV4_FLOWSPEC,
            "01180a0000 038106 05130400d507d0",
            "destination-ipv4 10.0.0.0/24 protocol =tcp destination-port [ >=1024&<=2000 ]",
            "dst 10.0.0.0/24 proto =tcp dport >=1024&<=2000",
        ),
        (
            Family.IPV4_FLOWSPEC,
            "098112 0a8150 0b8112 0c8102",
            "tcp-flags =syn+ack packet-length =80 dscp =18 fragment =is-fragment",
            "tcp-flags =syn+ack length =80 dscp =18 fragment =is-fragment",
        ),
        (
            Family.VPNV4_FLOWSPEC,
            rd + "02200a000001",
            "source-ipv4 10.0.0.1/32 rd 64512:7",
            "64512:7 src 10.0.0.1/32",
        ),
        (
            Family.IPV6_FLOWSPEC,
            "012000 20010db8 0d8105",
            "destination-ipv6 2001:db8::/32/0 flow-label =5",
            "dst 2001:db8::/32 flow-label =5",
        ),
        (
            Family.IPV6_FLOWSPEC,
            "016840 123456789a 038106",
            "destination-ipv6 ::1234:5678:9a00:0/104/64 next-header =tcp",
            "dst ::1234:5678:9a00:0/64-104 proto =tcp",
        ),
    ]:
        octets = bytes.fromhex(key)
        (message,) = encode_updates(family, told, [(octets, b"")], as4=True)
        negotiated = session(ibgp=True, as4=True)
        update = read(message, negotiated)
        (nlri,) = update.nlris
        assert str(nlri) == f"flow {text}"
        assert key_text(family, octets) == ours
        (written,) = update.messages(negotiated)
        reader = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset(Family))
        ((its_family, found),) = reader.decode(written[HEADER_SIZE:]).announced
        assert (its_family, list(found)) == (family, [octets])
