"""MRT records against octets written by hand from RFC 6396 and RFC 8050, and dumps as another program reads them."""

from __future__ import annotations

import io
import signal

import attrs
from mrtparse import Reader

from speaker.decision import LOCAL, local
from speaker.engine import Engine
from speaker.mrt import Entry, IndexedPeer, peer_index_table, rib
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.table_dump import Dumped, table_dump
from speaker.terms import Terms
from speaker.values import Family, RouteDistinguisher, RouteTarget, prefix_bytes
from speaker.wire.attribute import Interner
from speaker.wire.update import Update
from tests.fakes.mrt import records
from tests.speaker.routes import member_key, session, target, vpn_key

signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as it was: mrtparse has broken pipes end the process

WALL = 0x6553F100
OWN_ID = bytes((192, 0, 2, 1))
NODE = IndexedPeer(address=bytes(4), asn=64512, router_id=OWN_ID)
V4_PEER = IndexedPeer(address=bytes((192, 0, 2, 9)), asn=64513, router_id=bytes((192, 0, 2, 9)))
V6_PEER = IndexedPeer(address=bytes.fromhex("20010db8000000000000000000000009"), asn=4200000000, router_id=OWN_ID)
HOP = bytes((192, 0, 2, 9))
HOP6 = V6_PEER.address
BLOCK = Attributes(next_hop=HOP, as_path=((AS_SEQUENCE, (64513,)),), med=7)
BLOCK6 = attrs.evolve(BLOCK, next_hop=HOP6, paths={})
LABEL = bytes.fromhex("000641")
TEN = prefix_bytes("10.0.0.0/8")
FLOW = bytes.fromhex("0118 0a0102")  # to 10.1.2.0/24
TAG = bytes.fromhex("03 0000fc0000000001 00000000 20 c0000209")

ORIGIN, AS_PATH, NEXT_HOP, MED = "40010100", "400206 0201 0000fc01", "400304 c0000209", "800404 00000007"


def octets(*parts: str) -> bytes:
    return bytes.fromhex("".join(parts))


def test_the_index_names_the_peers_by_address_identifier_and_as() -> None:
    expected = octets(
        *("6553f100 000d 0001 00000039", "c0000201", "0004 76696577", "0003"),
        *("02 c0000201 00000000 0000fc00", "02 c0000209 c0000209 0000fc01"),
        *("03 c0000201 20010db8000000000000000000000009 fa56ea00"),
    )
    made = peer_index_table(WALL, OWN_ID, [NODE, V4_PEER, V6_PEER], "view")
    assert made[8:12] == (len(made) - 12).to_bytes(4, "big")
    assert made == expected[:8] + made[8:12] + expected[12:]


def test_a_record_is_that_of_the_diagram() -> None:
    attributes = octets(ORIGIN, AS_PATH, NEXT_HOP, MED)
    assert len(attributes) == 0x1B
    body = octets("00000003", "10 0a01", "0001", "0001 00000005 001b") + attributes
    expected = octets("6553f100 000d 0002 0000002c") + body
    assert rib(WALL, 3, Family.IPV4, prefix_bytes("10.1.0.0/16"), b"", [Entry(1, 5, BLOCK)]) == expected


def test_mp_reach_nlri_has_the_next_hop_and_no_more() -> None:
    reach6 = octets("800e11 10", HOP6.hex())
    vpn = vpn_key("10.1.0.0/16")
    for family, key, extra, block, subtype, nlri, reach in [
        (Family.IPV6, prefix_bytes("2001:db8::/32"), b"", BLOCK6, 4, octets("20 20010db8"), reach6),
        (Family.IPV4, prefix_bytes("10.1.0.0/16"), b"", BLOCK6, 2, octets("10 0a01"), reach6),
        (
            Family.VPNV4,
            vpn,
            LABEL,
            BLOCK,
            6,
            octets("0001 80", "68", LABEL.hex(), vpn[:-1].hex()),
            octets("800e0d 0c", 8 * "00", "c0000209"),
        ),
        (
            Family.VPNV6,
            RouteDistinguisher.parse("64512:1").wire + prefix_bytes("2001:db8::/32"),
            LABEL,
            BLOCK,
            6,
            octets("0002 80", "78", LABEL.hex(), RouteDistinguisher.parse("64512:1").wire.hex(), "20010db8"),
            octets("800e19 18", 8 * "00", 10 * "00", "ffff c0000209"),
        ),
    ]:
        others = octets(ORIGIN, AS_PATH, MED)
        attributes = reach + others
        for path_id, code in ((b"", subtype), (b"\0\0\0\x07", {2: 8, 4: 10, 6: 12}[subtype])):
            entry = octets("0001 00000005") + path_id + len(attributes).to_bytes(2, "big") + attributes
            body = octets("00000003") + nlri + octets("0001") + entry
            expected = octets("6553f100 000d") + code.to_bytes(2, "big") + len(body).to_bytes(4, "big") + body
            assert rib(WALL, 3, family, key, extra, [Entry(1, 5, block, path_id)]) == expected, family.text


# Whole dumps


class Importer:
    families = frozenset(Family)


class Node:
    """Three peers, one with path identifiers, and routes of our own."""

    def __init__(self) -> None:
        interest = Interest()
        interest.set(Importer(), frozenset({target(1)}))
        self.engine = Engine(Rib(), interest, Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID})), Interner())
        self.sources = {LOCAL: Dumped(peer=NODE, since=WALL - 100)}

    def add(self, name: str, peer: IndexedPeer, *families: Family, add_path: bool = False) -> None:
        negotiated = session(*families)
        if add_path:
            negotiated = attrs.evolve(negotiated, add_path_receive=frozenset(families))
        self.engine.add(name).up(negotiated, 0.0)
        self.sources[name] = Dumped(peer=peer, since=WALL - 10)

    def hear(self, name: str, family: Family, path: Path, *keys: bytes) -> None:
        self.engine.neighbours[name].update(Update(announced=[(family, dict.fromkeys(keys, path))]), 0.0)

    def dump(self, *families: Family, pre_policy: bool = False) -> bytes:
        return b"".join(table_dump(self.engine, self.sources, families or Family, pre_policy=pre_policy, wall=WALL))


def path_id(number: int) -> bytes:
    return number.to_bytes(4, "big")


def block(number: int, next_hop: bytes = HOP) -> Attributes:
    targets = (RouteTarget.parse("64512:1").wire,)
    return Attributes(
        next_hop=next_hop,
        as_path=((AS_SEQUENCE, (64513, 4200000000)),),
        local_pref=number,
        ext_communities=targets,
        route_targets=frozenset(targets),
    )


def node_with_routes() -> Node:
    node = Node()
    node.add("192.0.2.9", V4_PEER, Family.IPV4, Family.VPNV4, Family.EVPN, Family.RTC, Family.IPV4_FLOWSPEC)
    node.add("2001:db8::9", V6_PEER, Family.IPV4, Family.IPV6, Family.VPNV4, add_path=True)
    node.engine.rib.table(Family.IPV4, LOCAL).put(TEN, block(1).path(b""))
    node.hear("192.0.2.9", Family.IPV4, block(2).path(b""), TEN, prefix_bytes("10.2.0.0/16"))
    for n in (3, 4):
        node.hear("2001:db8::9", Family.IPV4, block(n).path(b""), path_id(n) + TEN)
    node.hear("2001:db8::9", Family.IPV6, block(5, HOP6).path(b""), path_id(9) + prefix_bytes("2001:db8::/32"))
    node.hear("192.0.2.9", Family.VPNV4, block(6).path(LABEL), vpn_key("10.0.0.0/8"))
    node.hear("2001:db8::9", Family.VPNV4, block(7).path(LABEL), path_id(0) + vpn_key("10.0.0.0/8"))
    node.hear("192.0.2.9", Family.EVPN, block(8).path(b""), TAG)
    node.hear("192.0.2.9", Family.RTC, block(9).path(b""), member_key(1))
    node.hear("192.0.2.9", Family.IPV4_FLOWSPEC, block(10, b"").path(b""), FLOW)
    return node


def test_routes_that_only_some_peers_hear_are_dumped_as_our_own_too() -> None:
    node = Node()
    for number, source in enumerate((LOCAL, local("one"), local("two")), 1):
        node.engine.rib.table(Family.IPV4, source).put(TEN, block(number).path(b""))
    node.engine.rib.table(Family.IPV4, local("two")).put(prefix_bytes("10.2.0.0/16"), block(4).path(b""))
    found = {(nlri, peer, pref) for _, nlri, peer, _, pref in told(node.dump())}
    assert found == {("080a", 0, 1), ("080a", 0, 2), ("080a", 0, 3), ("100a02", 0, 4)}


def told(dump: bytes) -> set[tuple[int, str, int, int | None, int]]:
    """What a dump says: subtype, NLRI as on the wire, peer, path identifier, LOCAL_PREF."""
    found = [
        (record.subtype, record.nlri.hex(), entry.peer, entry.path_id, int.from_bytes(entry.attributes[5], "big"))
        for record in records(dump)
        for entry in record.entries
    ]
    assert len(set(found)) == len(found), "told twice"
    return set(found)


VPN = f"60{LABEL.hex()}{vpn_key('10.0.0.0/8')[:-1].hex()}"
EXPECTED = {
    (2, "080a", 0, None, 1),
    (2, "080a", 1, None, 2),
    (2, "100a02", 1, None, 2),
    (8, "080a", 2, 3, 3),
    (8, "080a", 2, 4, 4),
    (10, "2020010db8", 2, 9, 5),
    (6, VPN, 1, None, 6),
    (12, VPN, 2, 0, 7),
    (6, f"0311{TAG[1:].hex()}", 1, None, 8),
    (6, f"60{member_key(1)[:-1].hex()}", 1, None, 9),
    (6, f"05{FLOW.hex()}", 1, None, 10),
}


def test_a_dump_has_all_routes_of_all_peers_and_our_own() -> None:
    node = node_with_routes()
    dump = node.dump()
    assert told(dump) == EXPECTED
    found = list(records(dump))
    assert [record.sequence for record in found] == list(range(len(found)))
    since = {0: WALL - 100, 1: WALL - 10, 2: WALL - 10}
    assert all(entry.originated == since[entry.peer] for record in found for entry in record.entries)
    (flow,) = (record for record in found if record.family == (1, 133))
    assert flow.entries[0].attributes[14] == b"\0", "a flow specification has no next hop"
    assert told(node.dump(Family.IPV6)) == {each for each in EXPECTED if each[0] == 10}


def test_routes_that_differ_in_their_label_are_apart() -> None:
    node = Node()
    for name, number in (("192.0.2.8", 1), ("192.0.2.9", 2)):
        node.add(name, V4_PEER, Family.VPNV4)
        node.hear(name, Family.VPNV4, block(number).path(bytes((0, number, 1))), vpn_key("10.0.0.0/8"))
    rest = vpn_key("10.0.0.0/8")[:-1].hex()
    assert told(node.dump()) == {(6, f"60000101{rest}", 1, None, 1), (6, f"60000201{rest}", 2, None, 2)}


def test_before_the_policy_there_is_what_it_rejects_and_what_it_changes_as_it_came() -> None:
    def importing(family: Family, key: bytes, path: Path) -> Path | None:
        return None if path.attributes.local_pref in (2, 4, 5) else changed if path is came else path

    node = node_with_routes()
    (came,) = node.engine.rib.table(Family.VPNV4, "192.0.2.9").rows.values()
    changed = attrs.evolve(came.attributes, local_pref=66, paths={}).path(LABEL)
    for neighbour in node.engine.neighbours.values():
        neighbour.change(Terms(importing=importing), 0.0)
    while node.engine.step(1000):
        pass
    assert told(node.dump(pre_policy=True)) == EXPECTED
    left = {each for each in EXPECTED if each[4] not in (2, 4, 5, 6)}
    assert told(node.dump()) == left | {(6, VPN, 1, None, 66)}


def test_what_changes_while_it_is_dumped_is_told_once_or_not_at_all() -> None:
    node = Node()
    for name in ("192.0.2.8", "192.0.2.9"):
        node.add(name, V4_PEER, Family.IPV4)
    keys = [prefix_bytes(f"10.{n >> 8}.{n & 255}.0/24") for n in range(2000)]
    node.hear("192.0.2.9", Family.IPV4, block(1).path(b""), *keys)
    pieces = []
    for number, piece in enumerate(
        table_dump(node.engine, node.sources, [Family.IPV4], pre_policy=False, wall=WALL), start=-1
    ):
        assert len(piece) < 64 * 1024
        pieces.append(piece)
        if number == 2:  # some were told, and the others go or come from somebody else too
            node.hear("192.0.2.8", Family.IPV4, block(2).path(b""), *keys[:1000])
            node.engine.neighbours["192.0.2.9"].update(Update(withdrawn=[(Family.IPV4, keys[1500:])]), 0.0)
    found = list(records(b"".join(pieces)))
    assert len({record.nlri for record in found}) == len(found) == 1500
    assert sum(len(record.entries) == 2 for record in found) > 100
    assert all(record.entries for record in found)


# As others read it


def read_by_mrtparse(dump: bytes) -> set[tuple[int, str, int, int | None, int]]:
    found = set()
    for record in Reader(io.BytesIO(dump)):
        assert record.err is None, (record.err, record.err_msg)
        ((subtype, _),) = record.data["subtype"].items()
        if subtype == 1:
            assert [(peer["peer_ip"], peer["peer_as"]) for peer in record.data["peer_entries"]] == [
                ("0.0.0.0", "64512"),
                ("192.0.2.9", "64513"),
                ("2001:db8::9", "4200000000"),
            ]
            continue
        nlri = prefix_bytes(f"{record.data['prefix']}/{record.data['length']}")
        for entry in record.data["rib_entries"]:
            values = {code: each["value"] for each in entry["path_attributes"] for code in each["type"]}
            hop = values[3] if 3 in values else values[14]["next_hop"][0]
            assert hop == ("192.0.2.9" if subtype in (2, 8) else "2001:db8::9")
            assert values[2][0]["value"] == ["64513", "4200000000"]
            wire = (nlri[-1:] + nlri[:-1]).hex()
            found.add((subtype, wire, entry["peer_index"], entry.get("path_id"), values[5]))
    return found


def test_mrtparse_reads_the_same_routes() -> None:
    """All but RIB_GENERIC, of which it takes the AFI for 3 octets (RFC 6396 section 4.3.3 has 2)."""
    dump = node_with_routes().dump(Family.IPV4, Family.IPV6)
    assert read_by_mrtparse(dump) == {each for each in EXPECTED if each[0] in (2, 4, 8, 10)}
