"""Where one NLRI ends and the next begins, and what is said of octets that are wrong.

`Framing` is raised where the rest is lost, `Tolerated` collects what is wrong where it is not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from speaker.errors import BgpError

SHOWN_OCTETS = 32
"""How much of what is wrong stands in the text of an error."""

TOLD_AT_MOST = 64
"""How many errors of one UPDATE are told; the others are counted, so that nobody makes us write a book about 64 KiB."""


class Framing(ValueError):
    """Octets that cannot be cut into NLRI; says where, and the caller turns it into a reaction."""

    def __init__(self, what: str, octets: bytes) -> None:
        super().__init__(f"{what} at {octets[:SHOWN_OCTETS].hex()}")
        self.octets = octets


class Tolerated(list[BgpError]):
    """What was wrong in one UPDATE and tolerated."""

    left_out = 0  # how many errors came when there were TOLD_AT_MOST already

    def add(self, error: BgpError) -> None:
        """Add an error."""
        if len(self) < TOLD_AT_MOST:
            self.append(error)
        else:
            self.left_out += 1


Refused = dict[bytes, bytes | None]
"""NLRI that are well framed and not to be used: their keys, empty if they have none, None where nothing is wrong."""

Cut = Callable[[bytes], list[bytes]]
"""Octets to whole NLRI; Framing if they are cut off or have no such length."""


def cutting(before: int, sizes: Mapping[int, int], what: str) -> Cut:
    """Return what cuts NLRI that have `before` octets, a length, and for each length so many octets behind it.

    One expression cuts all, in two thirds of the time of a loop: it has an alternative for each size, those that come
    first are the fastest, and the last one takes everything from where none of them fits.
    `what` says what the NLRI are, with {} for the length.
    """
    lengths: dict[int, list[int]] = {}
    for length, size in sizes.items():
        lengths.setdefault(size, []).append(length)
    each = b"|".join(b"[%b].{%d}" % (re.escape(bytes(those)), size) for size, those in lengths.items())
    head = b".{%d}(?:%b)" % (before, each) if before else each
    findall = re.compile(b"(?s)%b|.+" % head).findall
    whole = tuple(before + 1 + sizes.get(length, -999) for length in range(256))

    def cut(octets: bytes) -> list[bytes]:
        if len(octets) > before and whole[octets[before]] == len(octets):
            return [octets]  # as in most UPDATEs of a network at rest
        found: list[bytes] = findall(octets)
        if found:
            last = found[-1]
            if len(last) <= before or whole[last[before]] != len(last):
                raise Framing(what.format(last[before] if len(last) > before else "unknown"), last)
        return found

    return cut
