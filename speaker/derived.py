"""Attributes that are changed in one way on their way in: LLGR_STALE attached, OTC added; once for each block."""

from __future__ import annotations

from collections.abc import Callable
from weakref import WeakKeyDictionary

import attrs

from speaker.decision import LLGR_STALE
from speaker.path import Attributes, Path


class Derived:
    """One change of attributes; the same block gives the same block, as long as anybody has it."""

    def __init__(self, change: Callable[[Attributes], Attributes]) -> None:
        self._change = change
        self._made: WeakKeyDictionary[Attributes, Attributes] = WeakKeyDictionary()

    def path(self, path: Path) -> Path:
        """Return the path with changed attributes."""
        attributes = self._made.get(path.attributes)
        if attributes is None:
            attributes = self._made[path.attributes] = self._change(path.attributes)
        return attributes.path(path.extra)


def with_otc(asn: int) -> Derived:
    """Return the change that adds OTC to routes without (RFC 9234 section 5)."""
    return Derived(lambda attributes: _evolve(attributes, only_to_customer=asn))


def _evolve(attributes: Attributes, **fields: object) -> Attributes:
    return attrs.evolve(attributes, **fields, paths={}, importers=(), imports_version=-1)  # type: ignore[arg-type]


def _long_lived(attributes: Attributes) -> Attributes:
    return _evolve(attributes, communities=(*attributes.communities, LLGR_STALE))


_LONG_LIVED = Derived(_long_lived)


def long_lived(path: Path) -> Path:
    """Return the path with LLGR_STALE, itself if it has it (RFC 9494 section 4.2)."""
    return path if LLGR_STALE in path.attributes.communities else _LONG_LIVED.path(path)
