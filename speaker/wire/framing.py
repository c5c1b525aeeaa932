"""What NLRI parsers say of octets that are wrong: `Framing` where the rest is lost, `Tolerated` where it is not."""

from __future__ import annotations

from speaker.errors import BgpError, TreatAsWithdraw

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

    def note(self, what: str, octets: bytes) -> None:
        """Add that a route is not to be used; put into words only if it is told."""
        if len(self) < TOLD_AT_MOST:
            self.append(TreatAsWithdraw(f"{what}: {octets[:SHOWN_OCTETS].hex()}", octets))
        else:
            self.left_out += 1
