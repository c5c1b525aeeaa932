from __future__ import annotations

from itertools import pairwise

import pytest

from lab.generator import Plan, pe_address, route_target
from speaker.path import Path
from speaker.values import Family, RouteTarget, address_text, key_text
from speaker.wire.attribute import Interner
from speaker.wire.message import MESSAGE_LIMIT, UPDATE, split
from speaker.wire.update import Update, UpdateDecoder


def decoded(octets: bytes) -> list[Update]:
    decoder = UpdateDecoder(Interner(), ibgp=True, as4=True, families=frozenset({Family.VPNV4}))
    updates = []
    while octets:
        messages, taken = split(octets)
        assert all(kind == UPDATE for kind, _ in messages)
        updates += [decoder.decode(body) for _, body in messages]
        octets = octets[taken:]
    return updates


def announced(plan: Plan, pe: int) -> dict[bytes, Path]:
    updates = decoded(b"".join(plan.announcement(pe)))
    assert not any(update.errors for update in updates)
    return {key: path for update in updates for _, routes in update.announced for key, path in routes.items()}


@pytest.mark.parametrize("plan", [Plan(1000, 3), Plan(1000, 3, single=True)], ids=["packed", "single"])
def test_routes_are_dealt_to_vpns_and_all_are_withdrawn(plan: Plan) -> None:
    routes = announced(plan, 0)
    of_vpn = [
        sum(path.attributes.route_targets == {RouteTarget.parse(route_target(vpn)).wire} for path in routes.values())
        for vpn in range(3)
    ]
    assert of_vpn == [334, 333, 333]
    withdrawn = [
        key for update in decoded(b"".join(plan.withdrawal(0))) for _, keys in update.withdrawn for key in keys
    ]
    assert sorted(withdrawn) == sorted(routes)


def test_messages_are_full_or_hold_one_route_each() -> None:
    packed = list(Plan(3000, 1).announcement(0))
    assert all(len(message) > MESSAGE_LIMIT - 20 for message in packed[:-1])
    assert len(list(Plan(3000, 1, single=True).announcement(0))) == 3000


def test_pes_announce_the_same_prefixes_apart_and_the_first_is_preferred() -> None:
    of_pe = [announced(Plan(100, 2, 3), pe) for pe in range(3)]
    assert len({key for routes in of_pe for key in routes}) == 300
    for one, other in pairwise(of_pe):
        assert {key[8:] for key in one} == {key[8:] for key in other}
        assert min(path.attributes.local_pref or 0 for path in one.values()) > max(
            path.attributes.local_pref or 0 for path in other.values()
        )
    assert {address_text(path.attributes.next_hop) for path in of_pe[1].values()} == {pe_address(1)}


def test_prefixes_follow_each_other() -> None:
    keys = list(announced(Plan(300, 1), 0))
    assert [key_text(Family.VPNV4, keys[at]) for at in (0, 1, 299)] == [
        "64512:1000 16.0.0.0/24",
        "64512:1000 16.0.1.0/24",
        "64512:1000 16.1.43.0/24",
    ]
