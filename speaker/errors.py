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


class BgpError(Exception):
    """A peer broke the protocol; `reason` says what, where, and the offending value."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class SessionReset(BgpError):
    """The session cannot go on: send NOTIFICATION (code, subcode, data) and close."""

    def __init__(self, code: int, subcode: int, reason: str, data: bytes = b"") -> None:
        super().__init__(reason)
        self.code = code
        self.subcode = subcode
        self.data = data


class DisableFamily(BgpError):
    """The NLRI of one family cannot be told apart any more (RFC 7606 section 3 j, RFC 4760 section 7)."""

    def __init__(self, family: Family, reason: str) -> None:
        super().__init__(reason)
        self.family = family


class TreatAsWithdraw(BgpError):
    """The routes of this UPDATE are to be withdrawn (RFC 7606 section 2)."""


class AttributeDiscard(BgpError):
    """Only this attribute is unusable (RFC 7606 section 2)."""
