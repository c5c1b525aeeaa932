"""Attributes and paths are held once, and not without bound."""

from __future__ import annotations

from speaker.path import PATHS_AT_MOST
from speaker.wire.attribute import INTERNED_AT_MOST, Interner, make
from tests.speaker.routes import block


def test_equal_paths_are_one_path() -> None:
    first, second = block(1), block(1)
    assert first.path(b"a") is first.path(b"a")
    assert first.path(b"a") is not first.path(b"b")
    assert first.path(b"a") is not second.path(b"a")


def test_a_peer_that_changes_labels_without_end_does_not_fill_the_memory() -> None:
    attributes = block(1)
    for label in range(PATHS_AT_MOST + 10):
        assert attributes.path(label.to_bytes(3, "big")).attributes is attributes
    assert len(attributes.paths) == 10


def test_attributes_of_our_own_are_made_once_and_do_not_fill_the_memory() -> None:
    interner = Interner()
    first = make(interner, next_hop=bytes(4), med=0)
    assert make(interner, next_hop=bytes(4), med=0) is first
    assert make(interner, next_hop=bytes(4), med=1) is not first
    for med in range(INTERNED_AT_MOST + 1):
        make(interner, next_hop=bytes(4), med=med)
    assert make(interner, next_hop=bytes(4), med=0) is not first
