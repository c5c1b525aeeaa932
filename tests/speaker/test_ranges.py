"""Neighbours that come out of a range, over real TCP on the loopback."""

from __future__ import annotations

import attrs
import pytest

from speaker.errors import PrefixLimitReached
from speaker.peer import Peer
from speaker.signatures import EndpointError
from speaker.sockets import Endpoint
from speaker.transport import NO_PEER
from speaker.values import Family
from speaker.wire.attribute import Interner
from tests.fakes.loop import advance, run
from tests.fakes.scripted_peer import ScriptedPeer
from tests.speaker.standing import ACTIVE, OPEN, OTHER, SETTINGS, THEIRS, Ledger, Stand, quiet, standing
from tests.speaker.test_signatures import md5

RANGE = "127.0.0.0/29"
OUTSIDE = "127.0.0.9"


class Hotel:
    """Makes the neighbours of a range, and knows who has left."""

    def __init__(self, stand: Stand, **changes: object) -> None:
        self.stand = stand
        self.settings = attrs.evolve(SETTINGS, **changes)  # type: ignore[arg-type]
        self.made: list[str] = []
        self.left: list[str] = []

    def make(self, address: str) -> tuple[Peer, Endpoint]:
        self.made.append(address)
        routes = self.stand.routes[address] = Ledger(self.stand.changed)
        return Peer(address, self.settings, routes, Interner(), lambda: 0.0), Endpoint(address=address)

    def ended(self, address: str) -> None:
        self.left.append(address)
        self.stand.changed()


def test_who_is_in_a_range_gets_a_neighbour_while_there_is_room(caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=1, ended=hotel.ended)
            assert stand.transport.peers == {}
            async with stand.dialled(THEIRS):
                assert list(stand.transport.peers) == hotel.made == [THEIRS]
                for _ in range(20):
                    async with await ScriptedPeer.dial(*stand.address, source=OTHER) as refused:
                        assert await refused.expect_end() == []
                async with await ScriptedPeer.dial(*stand.address, source=OUTSIDE) as stranger:
                    assert await stranger.expect_end() == []
                assert stand.transport.ranges[RANGE].refused == 20
                assert stand.transport.refusals.count[NO_PEER] == 1
            await stand.until(lambda: hotel.left == [THEIRS])
            assert stand.transport.peers == {}
            async with stand.dialled(OTHER):
                assert hotel.made == [THEIRS, OTHER]
        assert (
            len(
                [
                    record
                    for record in caplog.records
                    if OTHER in record.getMessage() and "refused" in record.getMessage()
                ]
            )
            == 1
        )

    run(story)


def test_a_neighbour_of_a_range_is_kept_for_its_time_after_a_session_and_for_ten_seconds_without_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=9, ended=hotel.ended, linger_s=120.0)
            for _ in range(3):
                async with await ScriptedPeer.dial(*stand.address, source=OTHER) as unopened:
                    await unopened.expect("OPEN")
                    await unopened.say("NOTIFICATION 6/5")
                    await unopened.expect_end()
            assert hotel.made == [OTHER]
            assert len([record for record in caplog.records if OTHER in record.getMessage()]) <= 2
            await advance(9.9)
            assert hotel.left == []
            await advance(0.2)
            assert hotel.left == [OTHER]
            async with stand.dialled(THEIRS):
                pass
            await stand.until(lambda: stand.routes[THEIRS].lines[-1] == "down")
            await advance(119.0)
            async with stand.dialled(THEIRS):  # back in time
                await advance(60.0)
            await stand.until(lambda: stand.routes[THEIRS].lines == ["up", "down", "up", "down"])
            assert hotel.made == [OTHER, THEIRS]
            await advance(119.0)
            assert hotel.left == [OTHER]
            await advance(1.1)
            assert hotel.left == [OTHER, THEIRS]
            assert stand.transport.peers == {}

    run(story)


def test_a_neighbour_of_a_range_that_told_too_many_routes_is_remembered_as_long_as_it_is_held_off() -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=9, ended=hotel.ended)
            async with stand.dialled(THEIRS) as remote:
                stand.routes[THEIRS].limit = PrefixLimitReached(Family.VPNV4, 7, 300.0)
                await remote.say("END-OF-RIB vpnv4")
                assert await remote.expect_end() == ["NOTIFICATION 6/1 00018000000007"]
            await advance(299.0)
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                assert await remote.expect_end() == ["NOTIFICATION 6/5"]
            assert hotel.left == []
            await advance(1.1)
            assert hotel.left == [THEIRS]
            async with stand.dialled(THEIRS):
                pass

    run(story)


def test_the_most_exact_range_counts_and_a_configured_peer_before_any() -> None:
    async def story() -> None:
        async with standing() as stand:
            wide, narrow = Hotel(stand), Hotel(stand)
            stand.transport.add_range("127.0.0.0/8", wide.make, limit=9, ended=wide.ended)
            stand.transport.add_range("127.0.0.2/31", narrow.make, limit=9, ended=narrow.ended)
            configured = stand.add(OUTSIDE)
            for address in (THEIRS, OTHER, "127.0.0.4", OUTSIDE):
                async with stand.dialled(address):
                    pass
            assert (wide.made, narrow.made) == (["127.0.0.4"], [THEIRS, OTHER])
            assert configured.counters.accepted == 1
            with pytest.raises(EndpointError, match="already"):
                stand.transport.add_range("127.0.0.0/8", wide.make, limit=9, ended=wide.ended)

    run(story)


def test_a_peer_that_is_configured_takes_the_place_of_its_neighbour_of_a_range() -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=1, ended=hotel.ended)
            async with stand.dialled(THEIRS) as remote:
                stand.add(THEIRS)
                assert await remote.expect_end() == ["NOTIFICATION 6/3"]
            assert hotel.left == [THEIRS]
            async with stand.dialled(THEIRS), stand.dialled(OTHER):
                assert hotel.made == [THEIRS, OTHER]

    run(story)


def test_a_range_goes_with_its_neighbours() -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=9, ended=hotel.ended, linger_s=120.0)
            async with stand.dialled(THEIRS) as remote:
                stand.transport.remove_range(RANGE)
                assert await remote.expect_end() == ["NOTIFICATION 6/3"]
            assert hotel.left == [THEIRS]
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as stranger:
                assert await stranger.expect_end() == []
            with pytest.raises(KeyError):
                stand.transport.remove_range(RANGE)

    run(story)


def test_what_cannot_be_a_neighbour_of_a_range_is_closed_and_others_live_on() -> None:
    async def story() -> None:
        async with standing() as stand:
            stand.add(OUTSIDE)

            def fail(address: str) -> tuple[Peer, Endpoint]:
                raise LookupError(address)

            def another(address: str) -> tuple[Peer, Endpoint]:
                return hotel.make(OTHER)

            hotel, eager = Hotel(stand), Hotel(stand, passive=ACTIVE.passive)
            async with stand.dialled(OUTSIDE) as other:
                for make in (fail, another, eager.make):
                    stand.transport.add_range(RANGE, make, limit=1, ended=hotel.ended)
                    for _ in range(3):  # they take no room
                        async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                            assert await remote.expect_end() == []
                    stand.transport.remove_range(RANGE)
                await other.say("END-OF-RIB vpnv4")
                await stand.until(lambda: stand.routes[OUTSIDE].lines == ["up", "update"])
            assert hotel.left == []

    run(story)


def test_a_range_has_a_key_of_its_own() -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            stand.transport.add_range(RANGE, hotel.make, limit=9, ended=hotel.ended, password=b"shared")
            await quiet(ScriptedPeer.dial(*stand.address, source=THEIRS))
            ours = stand.address[0]
            for source in (THEIRS, OTHER):
                dialling = ScriptedPeer.dial(
                    *stand.address, source=source, prepare=lambda made: md5(made, ours, b"shared")
                )
                async with await dialling as remote:
                    await remote.establish(OPEN)
            await stand.until(lambda: hotel.left == [THEIRS, OTHER])
            stand.transport.remove_range(RANGE)
            async with await ScriptedPeer.dial(*stand.address, source=THEIRS) as remote:
                assert await remote.expect_end() == []

    run(story)


def test_ranges_that_cannot_be_are_refused() -> None:
    async def story() -> None:
        async with standing() as stand:
            hotel = Hotel(stand)
            for prefix, limit, value in [("127.0.0.1/29", 1, "host bits"), (RANGE, 0, "limit 0")]:
                with pytest.raises(ValueError, match=value):
                    stand.transport.add_range(prefix, hotel.make, limit=limit, ended=hotel.ended)
            assert stand.transport.ranges == {}

    run(story)
