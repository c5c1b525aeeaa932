"""What can be wrong with what a peer sent, and what is done about it (RFC 4271 section 6, RFC 7606).

Parsers raise one of these and nothing else; each class *is* the reaction. They are raised deep and
caught once, where the message is handled:

    SessionReset      a NOTIFICATION goes out and the connection ends
    DisableFamily     the family is no longer used on this session; its routes go
    TreatAsWithdraw   the UPDATE's routes count as withdrawn; the session lives
    AttributeDiscard  the attribute is dropped; the rest of the UPDATE holds
"""

from __future__ import annotations

from speaker.values import Family

OCTETS_AT_MOST = 4096
"""How much of what is wrong an error keeps, for the looking glass."""


class BgpError(Exception):
    """A peer broke the protocol; `reason` says what, where, and the offending value."""

    def __init__(self, reason: str, octets: bytes = b"") -> None:
        super().__init__(reason)
        self.reason = reason
        self.octets = octets[:OCTETS_AT_MOST]  # the attribute or NLRI that is wrong, as far as it can be told


class SessionReset(BgpError):
    """The session cannot go on: send NOTIFICATION (code, subcode, data) and close."""

    def __init__(self, code: int, subcode: int, reason: str, data: bytes = b"", octets: bytes = b"") -> None:
        super().__init__(reason, octets or data)
        self.code = code
        self.subcode = subcode
        self.data = data


class PrefixLimitReached(SessionReset):
    """The peer told more routes than it may: Cease 6/1 (RFC 4486 section 4), and no session for `restart_s`."""

    def __init__(self, family: Family, most: int, restart_s: float) -> None:
        data = family.afi.to_bytes(2, "big") + bytes((family.safi,)) + most.to_bytes(4, "big")
        super().__init__(6, 1, f"more than {most} routes of {family.text}", data)
        self.restart_s = restart_s


class DisableFamily(BgpError):
    """The NLRI of one family cannot be told apart any more (RFC 7606 section 3 j, RFC 4760 section 7)."""

    def __init__(self, family: Family, reason: str, octets: bytes = b"") -> None:
        super().__init__(reason, octets)
        self.family = family


class TreatAsWithdraw(BgpError):
    """The routes of this UPDATE are to be withdrawn (RFC 7606 section 2)."""


class AttributeDiscard(BgpError):
    """Only this attribute is unusable (RFC 7606 section 2)."""
