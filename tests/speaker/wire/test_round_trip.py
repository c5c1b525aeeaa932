"""What is encoded is decoded again: every family, every attribute, within the limit of a message."""

from __future__ import annotations

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.path import AS_SEQUENCE, AS_SET, Attributes
from speaker.values import Family
from speaker.wire.attribute import Interner, make
from speaker.wire.message import MESSAGE_LIMIT, UPDATE, split
from speaker.wire.nlri import encode
from speaker.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals, end_of_rib
from tests.speaker.wire.strategies import ROUTES, Route, attributes, meaning

ALL = frozenset(Family)


def decoder(
    *,
    ibgp: bool = True,
    as4: bool = True,
    families: frozenset[Family] = ALL,
    add_path: frozenset[Family] = frozenset(),
) -> UpdateDecoder:
    return UpdateDecoder(Interner(), ibgp=ibgp, as4=as4, families=families, add_path=add_path)


def bodies(messages: list[bytes], limit: int = MESSAGE_LIMIT) -> list[bytes]:
    """The bodies of UPDATE messages, each no longer than may be."""
    cut, used = split(b"".join(messages), limit)
    assert used == sum(map(len, messages))
    assert all(kind == UPDATE for kind, _ in cut)
    assert all(len(each) <= limit for each in messages)
    return [body for _, body in cut]


def heard(updates: list[Update]) -> tuple[dict[tuple[Family, bytes], bytes], list[Attributes]]:
    """The routes announced, key to extra part, and their attribute blocks."""
    routes: dict[tuple[Family, bytes], bytes] = {}
    blocks: list[Attributes] = []
    for update in updates:
        assert (update.errors, update.withdrawn, update.end_of_rib) == ([], [], None)
        for family, announced in update.announced:
            for key, path in announced.items():
                routes[(family, key)] = path.extra
                blocks.append(path.attributes)
    return routes, blocks


SESSIONS = st.sampled_from([(True, True), (True, False), (False, True), (False, False)])


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@given(data=st.data(), session=SESSIONS)
def test_announced_routes_come_back_with_their_attributes(
    family: Family, data: st.DataObject, session: tuple[bool, bool]
) -> None:
    ibgp, as4 = session
    told = data.draw(attributes(family, ibgp=ibgp, as4=as4))
    routes: list[Route] = data.draw(st.lists(ROUTES[family], min_size=1, max_size=8, unique_by=lambda route: route[0]))
    messages = list(encode_updates(family, told, routes, as4=as4))
    reader = decoder(ibgp=ibgp, as4=as4)
    found, blocks = heard([reader.decode(body) for body in bodies(messages)])
    assert found == {(family, key): extra for key, extra in routes}
    assert all(block is blocks[0] for block in blocks), "one block is decoded once"
    assert meaning(blocks[0]) == meaning(told)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@given(data=st.data())
def test_withdrawn_routes_come_back_as_their_keys(family: Family, data: st.DataObject) -> None:
    routes = data.draw(st.lists(ROUTES[family], min_size=1, max_size=8, unique_by=lambda route: route[0]))
    keys = [key for key, _ in routes]
    (update,) = [decoder().decode(body) for body in bodies(list(encode_withdrawals(family, keys)))]
    assert update.withdrawn == [(family, keys)]
    assert (update.errors, update.announced, update.end_of_rib) == ([], [], None)


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@given(data=st.data())
def test_several_paths_of_one_route_come_back_by_their_path_identifiers(family: Family, data: st.DataObject) -> None:
    routes: list[Route] = data.draw(st.lists(ROUTES[family], min_size=1, max_size=2, unique_by=lambda route: route[0]))
    identifiers = data.draw(st.lists(st.binary(min_size=4, max_size=4), min_size=1, max_size=3, unique=True))
    told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), local_pref=100)
    paths = [(identifier + key, extra) for key, extra in routes for identifier in identifiers]
    reader = decoder(add_path=frozenset({family}))
    (body,) = bodies(list(encode_updates(family, told, paths, as4=True, add_path=True)))
    assert heard([reader.decode(body)])[0] == {(family, key): extra for key, extra in paths}
    (body,) = bodies(list(encode_withdrawals(family, [key for key, _ in paths], add_path=True)))
    update = reader.decode(body)
    assert (update.withdrawn, update.errors) == ([(family, [key for key, _ in paths])], [])


def many(family: Family, count: int) -> list[Route]:
    """Routes of one family, all different."""
    rd = bytes.fromhex("0000fc0000000001")
    numbers = (number.to_bytes(4, "big") for number in range(1 << 16, (1 << 16) + count))
    label = bytes.fromhex("000641")
    match family:
        case Family.IPV4:
            return [(number + b"\x20", b"") for number in numbers]
        case Family.IPV6:
            return [(number.rjust(16, b"\xfd") + b"\x80", b"") for number in numbers]
        case Family.VPNV4:
            return [(rd + number + b"\x20", label) for number in numbers]
        case Family.VPNV6:
            return [(rd + number.rjust(16, b"\xfd") + b"\x80", label) for number in numbers]
        case Family.EVPN:
            return [
                (b"\x02" + rd + bytes(4) + b"\x30\x02\x00" + number + b"\x20" + number, bytes(10) + label)
                for number in numbers
            ]
        case Family.RTC:
            return [(bytes.fromhex("0000fc000002fc00") + number + b"\x60", b"") for number in numbers]
        case Family.IPV4_FLOWSPEC:
            return [(b"\x01\x20" + number, b"") for number in numbers]
        case Family.IPV6_FLOWSPEC:
            return [(b"\x01\x20\0" + number, b"") for number in numbers]
        case Family.VPNV4_FLOWSPEC:
            return [(rd + b"\x01\x20" + number, b"") for number in numbers]
        case Family.VPNV6_FLOWSPEC:
            return [(rd + b"\x01\x20\0" + number, b"") for number in numbers]


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
@pytest.mark.parametrize("limit", [MESSAGE_LIMIT, 65535])
@pytest.mark.parametrize("add_path", [False, True])
def test_messages_are_filled_to_the_limit_and_lose_no_route(family: Family, limit: int, add_path: bool) -> None:
    told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), local_pref=100, ext_communities=(b"\0\2" + bytes(6),) * 99)
    routes = many(family, 3000 if limit == MESSAGE_LIMIT else 15000)
    if add_path:
        routes = [(number.to_bytes(4, "big") + key, extra) for number, (key, extra) in enumerate(routes)]
    announcing = list(encode_updates(family, told, routes, as4=True, limit=limit, add_path=add_path))
    withdrawing = list(encode_withdrawals(family, [key for key, _ in routes], limit=limit, add_path=add_path))
    longest = 60
    for messages in (announcing, withdrawing):
        assert len(messages) > 1
        assert all(limit - longest < len(each) <= limit for each in messages[:-1])
    reader = decoder(add_path=ALL if add_path else frozenset())
    found, _ = heard([reader.decode(body) for body in bodies(announcing, limit)])
    assert found == {(family, key): extra for key, extra in routes}
    updates = [reader.decode(body) for body in bodies(withdrawing, limit)]
    assert [key for update in updates for _, keys in update.withdrawn for key in keys] == [key for key, _ in routes]


def test_a_route_that_does_not_fit_beside_its_attributes_is_an_error() -> None:
    for count, messages in [(501, 1), (502, 2)]:
        told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), ext_communities=(b"\0\2" + bytes(6),) * count)
        assert len(list(encode_updates(Family.VPNV4, told, many(Family.VPNV4, 2), as4=True))) == messages
    long = attrs.evolve(told, ext_communities=(b"\0\2" + bytes(6),) * 504)
    with pytest.raises(ValueError, match="an UPDATE of 4103 octets for one route, with a limit of 4096"):
        list(encode_updates(Family.VPNV4, long, many(Family.VPNV4, 1), as4=True))


def test_attributes_that_no_message_holds_are_an_error_whatever_its_limit() -> None:
    for count, error in [
        (8191, "for one route, with a limit of 65535"),
        (8192, "attribute 16 of 65536 octets"),
    ]:
        told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), ext_communities=(b"\0\2" + bytes(6),) * count)
        for family in (Family.IPV4, Family.VPNV4):
            with pytest.raises(ValueError, match=error):
                list(encode_updates(family, told, many(family, 1), as4=True, limit=65535))
    with pytest.raises(ValueError, match="for one route, with a limit of 4096"):
        list(encode_withdrawals(Family.IPV4_FLOWSPEC, [bytes(4090)]))


def test_MP_REACH_NLRI_comes_first_and_other_attributes_by_code() -> None:
    told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), med=1, local_pref=100, communities=(1,))
    for family, codes in [(Family.IPV4, [1, 2, 3, 4, 5, 8]), (Family.VPNV4, [14, 1, 2, 4, 5, 8])]:
        (body,) = bodies(list(encode_updates(family, told, many(family, 1), as4=True)))
        assert attribute_codes(body) == codes


def attribute_codes(body: bytes) -> list[int]:
    codes, at, end = [], 4, 4 + int.from_bytes(body[2:4], "big")
    while at < end:
        codes.append(body[at + 1])
        at += 4 + int.from_bytes(body[at + 2 : at + 4], "big") if body[at] & 0x10 else 3 + body[at + 2]
    return codes


@pytest.mark.parametrize("family", Family, ids=lambda family: family.text)
def test_an_end_of_rib_comes_back_as_that_and_nothing_else(family: Family) -> None:
    (body,) = bodies([end_of_rib(family)])
    assert decoder().decode(body) == Update(end_of_rib=family)
    assert decoder(families=ALL - {family}).decode(body).end_of_rib is None


def test_an_IPv4_next_hop_of_IPv6_routes_goes_as_an_IPv4_mapped_one() -> None:
    told = make(Interner(), next_hop=bytes((192, 0, 2, 1)), local_pref=100)
    for family, on_the_wire in [
        (Family.IPV6, "10" + "00" * 10 + "ffffc0000201"),
        (Family.VPNV6, "18" + "00" * 18 + "ffffc0000201"),
        (Family.VPNV4, "0c" + "00" * 8 + "c0000201"),
        (Family.EVPN, "04c0000201"),
    ]:
        (body,) = bodies(list(encode_updates(family, told, many(family, 1), as4=True)))
        assert body[11 : 12 + body[11]].hex() == on_the_wire
        _, (block,) = heard([decoder().decode(body)])
        assert block.next_hop == told.next_hop


def test_an_IPv6_next_hop_of_IPv4_routes_goes_in_MP_REACH_NLRI() -> None:  # RFC 8950 section 3
    address = "20010db8" + "00" * 11 + "01"
    local = "fe80" + "00" * 13 + "01"
    told = make(Interner(), next_hop=bytes.fromhex(address), local_pref=100)
    for family, on_the_wire in [
        (Family.IPV4, "0001 01 10" + address),
        (Family.VPNV4, "0001 80 18" + "00" * 8 + address),
        (Family.VPNV6, "0002 80 18" + "00" * 8 + address),
        (Family.EVPN, "0019 46 10" + address),
    ]:
        (body,) = bodies(list(encode_updates(family, told, many(family, 1), as4=True)))
        assert body[4:8] == bytes.fromhex("900e") + body[6:8]
        assert body[8:].startswith(bytes.fromhex(on_the_wire))
        assert 3 not in attribute_codes(body)
        _, (block,) = heard([decoder().decode(body)])
        assert block.next_hop == told.next_hop
    rd = "00" * 8
    for family, next_hop, expected in [
        (Family.IPV4, "04c0000201", "c0000201"),
        (Family.IPV4, "20" + address + local, address),
        (Family.VPNV4, "10" + address, address),  # as RFC 5549 had it, without a route distinguisher
        (Family.VPNV4, "20" + address + local, address),
        (Family.VPNV4, "30" + rd + address + rd + local, address),
        (Family.VPNV4, "18" + rd + "00" * 10 + "ffffc0000201", "c0000201"),
        (Family.VPNV6, "30" + rd + address + rd + local, address),
        (Family.IPV6, "20" + address + local, address),
    ]:
        nlri = b"".join(encode(family, many(family, 1)))
        reach = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + bytes.fromhex(next_hop + "00") + nlri
        attributes = bytes((0x80, 14, len(reach))) + reach + bytes.fromhex("40010100 400200 40050400000064")
        update = decoder().decode(b"\0\0" + len(attributes).to_bytes(2, "big") + attributes)
        _, (block,) = heard([update])
        assert block.next_hop.hex() == expected, (family, next_hop)


def test_AS_numbers_of_4_octets_go_around_a_peer_with_2() -> None:  # RFC 6793 section 4.2
    wide = 4200000000
    for as_path, aggregator, on_the_wire in [
        (((AS_SEQUENCE, (64512, wide)),), None, ["4002060202fc005ba0", "c0110a02020000fc00fa56ea00"]),
        (
            ((AS_SEQUENCE, (64512,)),),
            (wide, bytes(4)),
            ["4002040201fc00", "c007065ba000000000", "c01208fa56ea0000000000"],
        ),
    ]:
        told = Attributes(next_hop=bytes((192, 0, 2, 1)), as_path=as_path, aggregator=aggregator, local_pref=100)
        (body,) = bodies(list(encode_updates(Family.IPV4, told, many(Family.IPV4, 1), as4=False)))
        assert [part for part in on_the_wire if part not in body.hex()] == []
        _, (block,) = heard([decoder(as4=False).decode(body)])
        assert meaning(block) == meaning(told)


def merged(as_path: str, as4_path: str, more: str = "") -> tuple[tuple[int, tuple[int, ...]], ...]:
    """The AS_PATH that a decoder with 2-octet AS numbers makes of these two attributes."""
    block = f"400101004002{len(as_path) // 2:02x}{as_path}400304c000020140050400000064{more}"
    if as4_path:
        block += f"c011{len(as4_path) // 2:02x}{as4_path}"
    body = bytes.fromhex(f"0000{len(block) // 2:04x}{block}080a")
    _, (found,) = heard([decoder(as4=False).decode(body)])
    return found.as_path


AGGREGATED, AGGREGATED_TRANS = "c00706fc0000000000", "c007065ba000000000"
AS4_AGGREGATED = "c012080001000000000000"


def test_AS4_PATH_is_put_behind_what_is_in_front_of_it() -> None:  # RFC 6793 section 4.2.3
    sequence = "0203" + "00015ba05ba0"
    tail = "0202" + "0001000000020000"
    whole = ((AS_SEQUENCE, (1, 0x10000, 0x20000)),)
    untouched = ((AS_SEQUENCE, (1, 23456, 23456)),)
    for as_path, as4_path, more, expected in [
        (sequence, tail, "", whole),
        (sequence, "", "", untouched),
        (sequence, "0204" + tail[4:] * 2, "", untouched),  # longer than AS_PATH: ignored
        (sequence, tail, AGGREGATED, whole),
        (sequence, tail, AGGREGATED_TRANS + AS4_AGGREGATED, whole),
        (sequence, tail, AGGREGATED + AS4_AGGREGATED, untouched),  # aggregated since by a speaker with 2 octets
        ("0102" + "00010002" + sequence, tail, "", ((AS_SET, (1, 2)), *whole)),
        (sequence, "0101" + "00010000", "", ((AS_SEQUENCE, (1, 23456)), (AS_SET, (0x10000,)))),
    ]:
        assert merged(as_path, as4_path, more) == expected, (as_path, as4_path, more)
