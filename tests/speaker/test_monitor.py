"""What a monitoring station hears equals the tables, whatever happened and however slowly it reads."""

from __future__ import annotations

import random

import attrs

from speaker.decision import LOCAL
from speaker.engine import Engine, Neighbour
from speaker.monitor import VIEWS, Identity, Monitor
from speaker.path import Path
from speaker.peer import Ends, Peer
from speaker.refusal import Own
from speaker.rib import Interest, Rib
from speaker.session import Settings
from speaker.terms import Terms
from speaker.values import Family
from speaker.wire.attribute import Interner, block
from speaker.wire.update import encode_updates, encode_withdrawals
from tests.fakes.messages import write
from tests.fakes.station import Heard, View
from tests.speaker.routes import LABEL, target, vpn_key
from tests.speaker.routes import block as attributes

VPNV4, IPV4 = Family.VPNV4, Family.IPV4
OWN_ID = bytes((192, 0, 2, 1))
IDENTITY = Identity(name="pe1", description="bgpvpnd test", asn=64512, router_id=OWN_ID)
ENDS = Ends(("192.0.2.1", 179), ("192.0.2.9", 40000))
WALL = 1_700_000_000.0
KEYS = [vpn_key(f"10.0.{n}.0/24") for n in range(8)]
REJECTED_MED = 666
OURS = attributes(1).path(LABEL)
FIFTY = attrs.evolve(attributes(1), med=50, paths={}).path(LABEL)


class Vpn:
    families = frozenset({VPNV4})


def rejecting(family: Family, key: bytes, path: Path) -> Path | None:
    """A policy that rejects the MED 666, and makes one path of all with the MED 5 or 6."""
    match path.attributes.med:
        case 666:
            return None
        case 5 | 6:
            return FIFTY
    return path


def accepting(family: Family, key: bytes, path: Path) -> Path | None:
    return path


class Node:
    """An engine with peers whose sessions are real, and a station that reads when it is told to."""

    def __init__(self, views: tuple[str, ...] = VIEWS) -> None:
        self.rib = Rib()
        interest, self.interner = Interest(), Interner()
        interest.set(Vpn(), frozenset({target(1)}))
        self.engine = Engine(self.rib, interest, Own(OWN_ID, frozenset({64512}), frozenset({OWN_ID})), self.interner)
        self.peers: dict[str, Peer] = {}
        self.now = 0.0
        self.views = views
        self.connections = 0
        self.connect()

    def connect(self) -> None:
        """Let the station come, or come back."""
        self.monitor = Monitor(self.engine, lambda: self.peers, IDENTITY, self.views)
        self.heard = Heard()

    def add(self, address: str, add_path: bool = False) -> Neighbour:
        neighbour = self.engine.add(address)
        settings = Settings(
            local_as=64512,
            remote_as=64512,
            router_id=OWN_ID,
            families=(VPNV4,),
            restart_time_s=120,
            passive=True,
            add_path_receive=frozenset({VPNV4} if add_path else ()),
        )
        self.peers[address] = Peer(address, settings, neighbour, self.interner, lambda: 0.0)
        self.peers[address].start(self.now)
        return neighbour

    def up(self, address: str, words: str = "") -> None:
        peer = self.peers[address]
        self.connections += 1
        peer.accept(self.connections, address, self.now, ENDS)
        opened = f"OPEN as=64512 hold=90 id=192.0.2.9 families=vpnv4 refresh as4=64512 {words}"
        peer.received(self.connections, write(opened), self.now)
        peer.received(self.connections, write("KEEPALIVE"), self.now)
        assert peer.established is not None

    def hear(self, address: str, octets: bytes) -> None:
        peer = self.peers[address]
        assert peer.established is not None
        peer.received(peer.established, octets, self.now)

    def announce(self, address: str, *keys: bytes, med: int = 0, paths: bool = False) -> None:
        found = attrs.evolve(attributes(1), med=med)
        routes = [(key, LABEL) for key in keys]
        for octets in encode_updates(VPNV4, found, routes, as4=True, add_path=paths):
            self.hear(address, octets)

    def withdraw(self, address: str, *keys: bytes, paths: bool = False) -> None:
        for octets in encode_withdrawals(VPNV4, keys, add_path=paths):
            self.hear(address, octets)

    def tell(self, budget: int = 1 << 20) -> None:
        """Let the station read once."""
        self.now += 1.0
        self.heard.take(self.monitor.output(budget, self.now, WALL + self.now))

    def tell_all(self) -> None:
        while self.engine.step(3):
            pass
        octets = b"begin"
        while octets:
            octets = self.monitor.output(4096, self.now, WALL + self.now)
            self.heard.take(octets)


def meds(heard: Heard, view: View) -> dict[bytes, int | None]:
    return {key: path.attributes.med for (_, key), path in heard.routes.get(view, {}).items()}


PRE, POST, BEST = ("192.0.2.9", "pre"), ("192.0.2.9", "post"), ("loc-rib", "")


def test_a_station_hears_the_session_then_its_routes_before_and_after_the_policy_and_the_best_of_all() -> None:
    node = Node()
    node.add("192.0.2.9").change(Terms(importing=rejecting), 0.0)
    node.rib.table(VPNV4, LOCAL).put(KEYS[7], OURS)
    node.tell()
    assert node.heard.log[:3] == ["INITIATION pe1: bgpvpnd test", "PEER UP loc-rib", "ROUTES loc-rib"]
    assert node.heard.log[3:] == [f"END loc-rib {family.text}" for family in Family]
    families = ",".join(family.text for family in Family)
    fabricated = f"OPEN as=64512 hold=0 id=192.0.2.1 families={families} hop6=ipv4,vpnv4 long as4=64512"
    assert node.heard.up["loc-rib"] == (fabricated, fabricated)
    node.heard.log.clear()
    node.up("192.0.2.9", "restart=120:vpnv4+")
    node.announce("192.0.2.9", KEYS[0], KEYS[1])
    node.announce("192.0.2.9", KEYS[2], med=5)
    node.announce("192.0.2.9", KEYS[3], med=REJECTED_MED)
    node.tell()
    assert node.heard.log[0] == "PEER UP 192.0.2.9"
    assert node.heard.addresses["192.0.2.9"] == ("192.0.2.1", 179, 40000)
    sent, received = node.heard.up["192.0.2.9"]
    assert sent.startswith("OPEN as=64512 hold=90 id=192.0.2.1")
    assert received.startswith("OPEN as=64512 hold=90 id=192.0.2.9")
    assert meds(node.heard, PRE) == {KEYS[0]: 0, KEYS[1]: 0, KEYS[2]: 5, KEYS[3]: REJECTED_MED}
    assert meds(node.heard, POST) == {KEYS[0]: 0, KEYS[1]: 0, KEYS[2]: 50}
    assert meds(node.heard, BEST) == {KEYS[0]: 0, KEYS[1]: 0, KEYS[2]: 50, KEYS[7]: None}
    assert (PRE, VPNV4) not in node.heard.ended, "the peer has not said all"
    node.hear("192.0.2.9", write("END-OF-RIB vpnv4"))
    node.tell()
    assert node.heard.log[-2:] == ["END 192.0.2.9 pre vpnv4", "END 192.0.2.9 post vpnv4"]
    assert node.monitor.output(1 << 20, node.now, WALL) == b"", "what was told is not told again"


def test_only_the_views_that_are_wished_for_are_told() -> None:
    for views, expected in [
        (("pre-policy",), {PRE}),
        (("post-policy",), {POST}),
        (("loc-rib",), {BEST}),
        ((), set()),
    ]:
        node = Node(views)
        node.add("192.0.2.9")
        node.up("192.0.2.9")
        node.announce("192.0.2.9", KEYS[0])
        node.tell_all()
        assert set(node.heard.routes) == expected
        assert "PEER UP 192.0.2.9" in node.heard.log, "sessions are told whatever the views"


def test_another_policy_is_told_as_the_difference_that_it_makes() -> None:
    node = Node()
    neighbour = node.add("192.0.2.9")
    node.up("192.0.2.9")
    node.announce("192.0.2.9", KEYS[0], med=5)
    node.announce("192.0.2.9", KEYS[1], med=REJECTED_MED)
    node.tell_all()
    for importing, expected in [
        (rejecting, {KEYS[0]: 50}),
        (accepting, {KEYS[0]: 5, KEYS[1]: REJECTED_MED}),
        (rejecting, {KEYS[0]: 50}),
    ]:
        neighbour.change(Terms(importing=importing), node.now)
        node.heard.log.clear()
        node.tell_all()
        assert meds(node.heard, POST) == meds(node.heard, BEST) == expected
        assert meds(node.heard, PRE) == {KEYS[0]: 5, KEYS[1]: REJECTED_MED}
        assert not [line for line in node.heard.log if line.endswith("pre")], "what came is as it was"
    node.withdraw("192.0.2.9", *KEYS[:2])
    node.tell_all()
    assert not any(node.heard.routes.values())
    assert (node.heard.idle_withdrawals, node.heard.repeated) == (0, 0)


def test_the_loc_rib_has_the_best_path_and_goes_on_to_the_next_one() -> None:
    node = Node(("loc-rib",))
    for address in ("192.0.2.8", "192.0.2.9"):
        node.add(address)
        node.up(address)
    node.announce("192.0.2.9", KEYS[0], med=1)
    node.announce("192.0.2.8", KEYS[0], med=2)
    node.tell_all()
    assert meds(node.heard, BEST) == {KEYS[0]: 1}
    node.announce("192.0.2.8", KEYS[0], med=3)
    node.tell_all()
    assert node.heard.repeated == 0, "another path that is not the best one is nothing to tell"
    node.withdraw("192.0.2.9", KEYS[0])
    node.tell_all()
    assert meds(node.heard, BEST) == {KEYS[0]: 3}


def test_the_end_of_a_session_is_told_with_its_reason_and_ends_its_routes() -> None:
    notification = write("NOTIFICATION 6/4")
    for number, (end, expected) in enumerate(
        [
            (lambda peer: peer.received(peer.established, notification, 9.0), "3 NOTIFICATION 6/4"),
            (lambda peer: peer.lost(peer.established, "reset", 9.0), "4"),
            (lambda peer: peer.reset(peer.established, 6, 0, "for a test", 9.0), "1 NOTIFICATION 6/0"),
            (lambda peer: peer.stop(9.0, graceful=True), "2 event 2"),
        ]
    ):
        node = Node()
        node.add("192.0.2.9")
        node.up("192.0.2.9")
        node.announce("192.0.2.9", KEYS[0])
        node.tell_all()
        assert {PRE, POST, BEST} == set(node.heard.routes)
        end(node.peers["192.0.2.9"])
        node.heard.log.clear()
        node.tell_all()
        assert node.heard.log[0] == f"PEER DOWN 192.0.2.9 {expected}", number
        assert set(node.heard.routes) == {BEST}
        assert node.heard.routes[BEST] == {}


def test_a_peer_that_is_configured_no_more_is_told_with_the_cease_that_it_got() -> None:
    node = Node()
    node.add("192.0.2.9")
    node.up("192.0.2.9")
    node.tell_all()
    node.peers.pop("192.0.2.9").stop(node.now, subcode=3)
    node.engine.remove("192.0.2.9")
    node.tell_all()
    assert node.heard.log[-1].startswith("PEER DOWN 192.0.2.9 1 NOTIFICATION 6/3")


def test_a_session_that_was_lost_and_came_back_unseen_is_told_as_both() -> None:
    node = Node()
    node.add("192.0.2.9")
    node.up("192.0.2.9", "restart=120:vpnv4+")
    node.announce("192.0.2.9", KEYS[0], KEYS[1])
    node.tell_all()
    peer = node.peers["192.0.2.9"]
    assert peer.established is not None
    peer.lost(peer.established, "reset", node.now)
    node.up("192.0.2.9", "restart=120:vpnv4+")
    node.announce("192.0.2.9", KEYS[2])
    node.heard.log.clear()
    node.tell_all()
    assert node.heard.log[:2] == ["PEER DOWN 192.0.2.9 4", "PEER UP 192.0.2.9"]
    assert (
        set(meds(node.heard, POST))
        == {key for _, key in node.heard.routes[BEST]}
        == set(node.rib.table(VPNV4, "192.0.2.9"))
    )


def test_several_paths_of_a_destination_have_the_identifiers_that_the_peer_gave_them() -> None:
    node = Node()
    node.add("192.0.2.9", add_path=True).change(Terms(importing=rejecting), 0.0)
    node.up("192.0.2.9", "paths=vpnv4:2")
    one, two, three = (bytes((0, 0, 0, n)) + KEYS[0] for n in (7, 9, 11))
    node.announce("192.0.2.9", one, med=1, paths=True)
    node.announce("192.0.2.9", two, med=2, paths=True)
    node.announce("192.0.2.9", three, med=REJECTED_MED, paths=True)
    node.tell_all()
    assert meds(node.heard, PRE) == {one: 1, two: 2, three: REJECTED_MED}
    assert meds(node.heard, POST) == {one: 1, two: 2}
    assert meds(node.heard, BEST) == {KEYS[0]: 1}
    node.withdraw("192.0.2.9", one, three, paths=True)
    node.announce("192.0.2.9", three, med=1, paths=True)  # into the slot that the first one had
    node.tell_all()
    assert meds(node.heard, PRE) == meds(node.heard, POST) == {two: 2, three: 1}
    assert meds(node.heard, BEST) == {KEYS[0]: 1}
    node.withdraw("192.0.2.9", two, three, paths=True)
    node.tell_all()
    assert not any(node.heard.routes.values())


def test_statistics_count_what_is_there_and_what_happened() -> None:
    node = Node()
    node.add("192.0.2.9").change(Terms(importing=rejecting), 0.0)
    node.up("192.0.2.9")
    node.announce("192.0.2.9", KEYS[0], KEYS[1])
    node.announce("192.0.2.9", KEYS[2], KEYS[3], med=REJECTED_MED)
    node.announce("192.0.2.9", KEYS[2], med=REJECTED_MED)
    node.withdraw("192.0.2.9", KEYS[3])
    (octets,) = encode_updates(VPNV4, attributes(1), [(KEYS[4], LABEL)], as4=True)
    node.hear("192.0.2.9", octets.replace(bytes.fromhex("40010100"), bytes.fromhex("40010109")))  # ORIGIN 9
    node.tell_all()
    node.heard.take(node.monitor.statistics(WALL))
    assert node.heard.statistics == {
        "192.0.2.9": {0: 2, 7: 3, (9, VPNV4): 3, 11: 1},
        "loc-rib": {8: 2, (10, VPNV4): 2},
    }


def test_the_time_of_a_route_is_not_known_in_the_first_table_and_is_now_after_it() -> None:
    node = Node(("post-policy",))
    node.add("192.0.2.9")
    node.up("192.0.2.9")
    node.announce("192.0.2.9", KEYS[0])
    node.tell()
    node.heard.times.clear()
    node.announce("192.0.2.9", KEYS[1])
    node.tell()
    assert node.heard.times == {POST: {int(WALL + node.now)}}
    node.monitor.close()
    node.connect()
    octets = node.monitor.output(1 << 20, node.now, WALL + node.now)
    node.heard.take(octets)
    assert 0 in node.heard.times[POST]


def test_the_end_is_told_and_nothing_after_it() -> None:
    node = Node()
    node.add("192.0.2.9")
    node.up("192.0.2.9")
    node.tell_all()
    node.peers["192.0.2.9"].stop(node.now)
    held = node.engine.neighbours["192.0.2.9"].adj_rib_in.held
    readers = [table.readers for table in [*node.rib.tables.values(), *held.values()]]
    assert any(readers)
    node.heard.take(node.monitor.end(node.now, WALL))
    assert node.heard.log[-3:] == ["PEER DOWN 192.0.2.9 1 NOTIFICATION 6/2", "PEER DOWN loc-rib 6", "TERMINATION 0"]
    assert not any(readers), "nobody reads the tables any more"


def test_any_order_of_events_and_of_reading_ends_with_what_is_in_the_tables() -> None:
    for seed in range(200):
        _random_story(seed)


def _random_story(seed: int) -> None:
    chance = random.Random(seed)
    node = Node()
    addresses = ("192.0.2.8", "192.0.2.9")
    for address in addresses:
        node.add(address, add_path=address == "192.0.2.9" and seed % 2 == 0)
    for _ in range(120):
        address = chance.choice(addresses)
        peer, neighbour = node.peers[address], node.engine.neighbours[address]
        paths = address == "192.0.2.9" and seed % 2 == 0
        keys = [bytes((0, 0, 0, chance.randrange(1, 4))) * paths + key for key in chance.sample(KEYS, 3)]
        up = peer.established is not None
        match chance.randrange(12):
            case 0 if up:
                assert peer.established is not None
                peer.lost(peer.established, "reset", node.now)
            case 0 | 1 if not up:
                node.up(address, "restart=120:vpnv4+" + " paths=vpnv4:2" * paths)
            case 2:
                neighbour.change(Terms(importing=chance.choice((rejecting, accepting))), node.now)
            case 3:
                local = node.rib.table(VPNV4, LOCAL)
                key = chance.choice(KEYS)
                if not local.discard(key):
                    local.put(key, OURS)
            case 4 if up:
                node.hear(address, write("END-OF-RIB vpnv4"))
            case 5 | 6:
                node.tell(chance.choice((1, 500, 1 << 20)))
            case 7:
                if chance.random() < 0.2:
                    node.monitor.close()
                    node.connect()
            case 8 | 9 if up:
                node.withdraw(address, *keys, paths=paths)
            case _ if up:
                node.announce(address, *keys, med=chance.choice((0, 5, 6, REJECTED_MED)), paths=paths)
    node.tell_all()
    _check(node, addresses, seed)


def _check(node: Node, addresses: tuple[str, ...], seed: int) -> None:
    heard = {
        view: {key: said(path) for (_, key), path in routes.items()}
        for view, routes in node.heard.routes.items()
        if routes
    }
    expected: dict[View, dict[bytes, bytes]] = {}
    everybody: dict[bytes, list[Path]] = {}
    for table in node.rib.tables.values():
        for key, path in table.rows.items():
            everybody.setdefault(key, []).append(path)
    for address in addresses:
        neighbour = node.engine.neighbours[address]
        if neighbour.negotiated is None:
            continue
        adj_rib_in, add_path = neighbour.adj_rib_in, bool(neighbour.negotiated.add_path_receive)
        for key in everybody:
            for number, source in adj_rib_in.sources(VPNV4, key).items():
                told = number.to_bytes(4, "big") * add_path + key
                path = node.rib.table(VPNV4, source)[key]
                expected.setdefault((address, "post"), {})[told] = said(path)
                expected.setdefault((address, "pre"), {})[told] = said(path)
        for told, path in adj_rib_in.held[VPNV4].rows.items():
            expected.setdefault((address, "pre"), {})[told] = said(path)
    best = heard.pop(("loc-rib", ""), {})
    assert heard == expected, seed
    assert best.keys() == everybody.keys(), seed
    for key, words in best.items():
        assert words in [said(path) for path in everybody[key]], seed
    assert (node.heard.idle_withdrawals, node.heard.repeated) == (0, 0), seed


def said(path: Path) -> bytes:
    return block(path.attributes, as4=True) + path.attributes.next_hop + path.extra
