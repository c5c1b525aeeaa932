"""Message header: marker, length, type, in each state (RFC 4271 sections 4.1 and 6.1)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import add, message_case
from tests.conformance.wire import KEEPALIVE, NOTIFICATION, OPEN, ROUTE_REFRESH, UPDATE, message

AREA = "message header"
STATES = ("open-sent", "open-confirm", "established")
EXTENDED_MESSAGES = 6

MARKERS = {
    "zero": bytes(16),
    "first-bit": b"\x7f" + b"\xff" * 15,
    "last-bit": b"\xff" * 15 + b"\xfe",
}

for name, marker in MARKERS.items():
    for state in STATES:
        octets = message(KEEPALIVE, marker=marker)
        add(message_case(f"marker-{name}-{state}", AREA, "RFC 4271 6.1", state, lambda p, o=octets: o, "1/1"))

# What the Length field says, its data in the NOTIFICATION: the erroneous field
LENGTHS = [
    ("0", KEEPALIVE, 0, STATES),
    ("18", KEEPALIVE, 18, STATES),
    ("65535", KEEPALIVE, 65535, STATES),
    ("keepalive-20", KEEPALIVE, 20, ("open-confirm", "established")),
    ("keepalive-4096", KEEPALIVE, 4096, ("established",)),
    ("open-28", OPEN, 28, ("open-sent",)),
    ("open-19", OPEN, 19, ("open-sent",)),
    ("open-4097", OPEN, 4097, ("open-sent",)),
    ("update-19", UPDATE, 19, ("established",)),
    ("update-22", UPDATE, 22, ("established",)),
]
for name, kind, length, states in LENGTHS:
    for state in states:
        octets = message(kind, bytes(max(0, min(length, 300) - 19)), length=length)
        add(
            message_case(
                f"length-{name}-{state}",
                AREA,
                "RFC 4271 6.1",
                state,
                lambda p, o=octets: o,
                f"1/2:{length:04x}",
            )
        )
add(
    message_case(
        "length-update-4097-established",
        AREA,
        "RFC 4271 6.1, RFC 8654 4",
        "established",
        lambda p: message(UPDATE, bytes(300), length=4097),
        "1/2:1001",
        without=(EXTENDED_MESSAGES,),
    )
)
for length in (19, 20):
    octets = message(NOTIFICATION, bytes(length - 19))
    for state in STATES:
        add(
            message_case(
                f"length-notification-{length}-{state}",
                AREA,
                "RFC 4271 6.1, 6.4",
                state,
                lambda p, o=octets: o,
                "1/2",
                "closed",
            )
        )
for length in (19, 22):
    octets = message(ROUTE_REFRESH, wire.u16(1) + bytes(1), length=length)[:length]
    add(
        message_case(
            f"length-route-refresh-{length}-established",
            AREA,
            "RFC 4271 6.1, RFC 7313 5",
            "established",
            lambda p, o=octets: o,
            "1/2",
            "7/1",
        )
    )

for kind in (0, 6, 128, 255):
    for state in STATES:
        octets = message(kind, b"")
        add(message_case(f"type-{kind}-{state}", AREA, "RFC 4271 6.1", state, lambda p, o=octets: o, f"1/3:{kind:02x}"))

FOREIGN = {
    "http": b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(64)),
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
}
for name, octets in FOREIGN.items():
    add(
        message_case(
            f"foreign-{name}",
            AREA,
            "RFC 4271 6.1",
            "open-sent",
            lambda p, o=octets: o,
            *(("1/1",) if name != "ones" else ("1/2:ffff", "1/3:ff")),
        )
    )
