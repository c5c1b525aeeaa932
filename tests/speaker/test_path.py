"""Attributes and paths are held once, and not without bound."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from speaker.path import Attributes
from speaker.values import Family
from speaker.wire.attribute import HELD_OCTETS_AT_MOST, MADE_AT_MOST, PATH_OCTETS, Context, Interner, make
from speaker.wire.update import UpdateDecoder, encode_updates
from tests.speaker.routes import block


def test_equal_paths_are_one_path() -> None:
    first, second = block(1), block(1)
    assert first.path(b"a") is first.path(b"a")
    assert first.path(b"a") is not first.path(b"b")
    assert first.path(b"a") is not second.path(b"a")


NEXT_HOP = bytes((192, 0, 2, 1))
RD = bytes(8)


def by_attributes(turn: int) -> tuple[Attributes, int]:
    """Attributes of almost a whole message, another set in each turn, with one label."""
    return make(Interner(), next_hop=NEXT_HOP, local_pref=100, communities=(turn, *range(900))), 16


def by_labels(turn: int) -> tuple[Attributes, int]:
    """The same attributes with labels that never come again, 240 in each turn."""
    return make(Interner(), next_hop=NEXT_HOP, local_pref=100), 16 + 240 * turn


@pytest.mark.parametrize(("said", "turns"), [(by_attributes, 1200), (by_labels, 1600)])
def test_a_peer_that_never_says_the_same_twice_does_not_fill_the_memory(
    said: Callable[[int], tuple[Attributes, int]], turns: int
) -> None:
    interner = Interner()
    decoder = UpdateDecoder(interner, ibgp=True, as4=True, families=frozenset({Family.VPNV4}))
    blocks = interner.received(Context(ibgp=True, as4=True))
    most = forgotten = 0
    for turn in range(turns):
        attributes, first = said(turn)
        labels = range(first, first + (240 if said is by_labels else 1))
        routes = ((RD + bytes((10, label & 0xFF)) + b"\x10", (label << 4 | 1).to_bytes(3, "big")) for label in labels)
        before = blocks.octets
        for message in encode_updates(Family.VPNV4, attributes, routes, as4=True):
            assert decoder.decode(message[19:]).announced
        forgotten += blocks.octets < before
        octets = sum(map(len, blocks.held)) + PATH_OCTETS * sum(len(each.paths) for each in blocks.held.values())
        most = max(most, octets)
    assert forgotten == 1
    assert most < HELD_OCTETS_AT_MOST


def test_attributes_of_our_own_are_made_once_and_do_not_fill_the_memory() -> None:
    interner = Interner()
    first = make(interner, next_hop=bytes(4), med=0)
    assert make(interner, next_hop=bytes(4), med=0) is first
    assert make(interner, next_hop=bytes(4), med=1) is not first
    for med in range(MADE_AT_MOST + 1):
        make(interner, next_hop=bytes(4), med=med)
    assert make(interner, next_hop=bytes(4), med=0) is not first
