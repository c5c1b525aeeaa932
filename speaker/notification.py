"""NOTIFICATIONs in words: error codes, texts of a shutdown, hard resets.

The IANA registry "BGP Error (Notification) Codes"; RFC 9003 (text of an administrative shutdown), RFC 8538 section 3
(hard reset: a Cease that carries another NOTIFICATION and makes both ends forget each other's routes).
"""

from __future__ import annotations

from speaker.wire.message import Notification

TEXT_LIMIT = 200
"""Characters of a peer's text that are shown."""

SHUTDOWN_TEXT_LIMIT = 255
"""Octets of the text of an administrative shutdown (RFC 9003 section 2)."""

WITH_COMMUNICATION = ((6, 2), (6, 4))
"""NOTIFICATIONs that carry a text for people (RFC 9003)."""

HARD_RESET = (6, 9)

ERRORS: dict[int, tuple[str, dict[int, str]]] = {
    1: (
        "message header error",
        {1: "connection not synchronized", 2: "bad message length", 3: "bad message type"},
    ),
    2: (
        "OPEN message error",
        {
            1: "unsupported version number",
            2: "bad peer AS",
            3: "bad BGP identifier",
            4: "unsupported optional parameter",
            6: "unacceptable hold time",
            7: "unsupported capability",
            11: "role mismatch",
        },
    ),
    3: (
        "UPDATE message error",
        {
            1: "malformed attribute list",
            2: "unrecognized well-known attribute",
            3: "missing well-known attribute",
            4: "attribute flags error",
            5: "attribute length error",
            6: "invalid ORIGIN attribute",
            8: "invalid NEXT_HOP attribute",
            9: "optional attribute error",
            10: "invalid network field",
            11: "malformed AS_PATH",
        },
    ),
    4: ("hold timer expired", {}),
    5: (
        "finite state machine error",
        {
            1: "unexpected message in OpenSent",
            2: "unexpected message in OpenConfirm",
            3: "unexpected message in Established",
        },
    ),
    6: (
        "Cease",
        {
            1: "maximum number of prefixes reached",
            2: "administrative shutdown",
            3: "peer de-configured",
            4: "administrative reset",
            5: "connection rejected",
            6: "other configuration change",
            7: "connection collision resolution",
            8: "out of resources",
            9: "hard reset",
            10: "BFD down",
        },
    ),
    7: ("ROUTE-REFRESH message error", {1: "invalid message length"}),
    8: ("send hold timer expired", {}),
}
"""NOTIFICATION codes and subcodes of the IANA registry "BGP Error (Notification) Codes"."""


def is_hard(notification: Notification) -> bool:
    """Whether a NOTIFICATION is a hard reset: routes do not outlive it, whatever was agreed (RFC 8538 section 3)."""
    return (notification.code, notification.subcode) == HARD_RESET


def hard_reset(notification: Notification) -> Notification:
    """Return the hard reset for a reason: code, subcode and data of it are the data (RFC 8538 section 3.1)."""
    return Notification(*HARD_RESET, bytes((notification.code, notification.subcode)) + notification.data)


def carried(notification: Notification) -> Notification:
    """Return what a hard reset carries, or the NOTIFICATION itself where it carries nothing, or is none."""
    data = notification.data
    if is_hard(notification) and len(data) >= 2:
        return Notification(data[0], data[1], data[2:])
    return notification


def communication(text: str) -> bytes:
    """Return a text as the data of an administrative shutdown, cut at 255 octets and not within a character."""
    octets = text.encode()[:SHUTDOWN_TEXT_LIMIT].decode("utf-8", "ignore").encode()
    return bytes((len(octets),)) + octets if octets else b""


def escape(text: str, limit: int = TEXT_LIMIT) -> str:
    """Make a peer's text fit for a log line or a terminal: bounded, printable, the rest as backslash escapes."""
    if len(text) > limit:
        text = text[:limit] + "..."
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def describe(notification: Notification) -> str:
    """Say what a NOTIFICATION means, with the text of an administrative shutdown and what a hard reset carries."""
    inner = carried(notification)
    if inner is notification:
        return _described(notification)
    return f"{_named(*HARD_RESET)}: {_described(inner)}"


def _named(code: int, subcode: int) -> str:
    error, subcodes = ERRORS.get(code, ("error", {}))
    name = f"{error}, {subcodes[subcode]}" if subcode in subcodes else error
    return f"{name} ({code}/{subcode})"


def _described(notification: Notification) -> str:
    code, subcode, data = notification.code, notification.subcode, notification.data
    told = _named(code, subcode)
    if (code, subcode) not in WITH_COMMUNICATION or not data:
        return f"{told} {data[:32].hex()}".rstrip()
    octets = data[1:]
    if data[0] != len(octets):
        return f"{told}: a text of {data[0]} octets in {len(octets)}: {octets[:64].hex()}"
    try:
        text = octets.decode()
    except UnicodeDecodeError:  # not to be interpreted (RFC 9003 section 2)
        return f"{told}: a text that is not UTF-8: {octets[:64].hex()}"
    return f"{told}: {escape(text, SHUTDOWN_TEXT_LIMIT)!r}" if text else told
