"""EVPN NLRI, types 1 to 5 (RFC 7432 section 7, RFC 9136 section 3): octets to (key, extra) and back.

What key and extra are says `speaker.path`.

type  octets after type and length
1     RD 8, ESI 10, Ethernet tag 4, label 3
2     RD 8, ESI 10, Ethernet tag 4, MAC length 1, MAC 6, IP length 1, IP 0, 4 or 16, label 3, label 0 or 3
3     RD 8, Ethernet tag 4, IP length 1, IP 4 or 16
4     RD 8, ESI 10, IP length 1, IP 4 or 16
5     RD 8, ESI 10, Ethernet tag 4, prefix length 1, prefix 4 or 16, gateway 4 or 16, label 3
"""

from __future__ import annotations

from speaker.wire.framing import Framing, Tolerated

ETHERNET_AD, MAC_IP, MULTICAST, ETHERNET_SEGMENT, IP_PREFIX = 1, 2, 3, 4, 5

_TYPES = tuple(bytes((number,)) for number in range(256))
_MALFORMED = {kind: f"EVPN route of type {kind} is malformed" for kind in range(1, 6)}
_NO_ESI = bytes(10)
_NO_LABEL = bytes(3)


def decode_evpn(octets: bytes, errors: Tolerated, unusable: list[bytes]) -> list[tuple[bytes, bytes]]:
    """Read a run of EVPN NLRI (hot); types that are not known are skipped by their length (RFC 7606 section 5.4).

    Of one that is malformed beside its key, the key is added to `unusable`.
    """
    routes: list[tuple[bytes, bytes]] = []
    at, end = 0, len(octets)
    while at < end:
        if at + 2 > end or at + 2 + octets[at + 1] > end:
            raise Framing("EVPN route cut off", octets[at:])
        kind, start = octets[at], at + 2
        at = start + octets[at + 1]
        value = octets[start:at]
        size = len(value)
        if kind == MAC_IP:
            bits = value[29] if size >= 33 else 255
            after = 30 + (bits >> 3)
            if bits in (0, 32, 128) and value[22] == 48 and size - after in (3, 6):
                routes.append((b"\x02" + value[:8] + value[18:after], value[8:18] + value[after:]))
                continue
        elif kind == MULTICAST:
            if size in (17, 29) and value[12] >> 3 == size - 13 and not value[12] & 7:
                routes.append((b"\x03" + value, b""))
                continue
        elif kind == IP_PREFIX:
            if size in (34, 58):
                width = 4 if size == 34 else 16
                if value[22] <= width * 8:
                    key = b"\x05" + value[:8] + value[18:23] + _cleared(value[23 : 23 + width], value[22])
                    routes.append((key, value[8:18] + value[23 + width :]))
                    continue
        elif kind == ETHERNET_AD:
            if size == 25:
                routes.append((b"\x01" + value[:22], value[22:]))
                continue
        elif kind == ETHERNET_SEGMENT:
            if size in (23, 35) and value[18] >> 3 == size - 19 and not value[18] & 7:
                routes.append((b"\x04" + value, b""))
                continue
        else:
            continue
        errors.note(_MALFORMED[kind], octets[start - 2 : at])
        key = _key(kind, value)
        if key:
            unusable.append(key)
    return routes


def _key(kind: int, value: bytes) -> bytes:
    """Return the key of a malformed route as far as it is beyond doubt: the fields behind it are wrong or too many."""
    size = len(value)
    if kind == MAC_IP:
        if size >= 30 and value[22] == 48 and value[29] in (0, 32, 128) and size >= 30 + (value[29] >> 3):
            return b"\x02" + value[:8] + value[18 : 30 + (value[29] >> 3)]
    elif kind == ETHERNET_AD:
        if size >= 22:
            return b"\x01" + value[:22]
    elif kind in (MULTICAST, ETHERNET_SEGMENT):
        at = 13 if kind == MULTICAST else 19  # behind the length of the address
        if size >= at and value[at - 1] in (32, 128) and size >= at + (value[at - 1] >> 3):
            return _TYPES[kind] + value[: at + (value[at - 1] >> 3)]
    return b""  # a prefix route is as long as its addresses: of another length it has no fields that could be told


def _cleared(address: bytes, length: int) -> bytes:
    bits = len(address) * 8
    number = int.from_bytes(address, "big") >> bits - length << bits - length
    return number.to_bytes(len(address), "big")


def encode_evpn(key: bytes, extra: bytes) -> bytes:
    """Write one NLRI; without an extra part (a withdrawal) its fields are zero."""
    kind = key[0]
    if kind == MAC_IP:
        extra = extra or _NO_ESI + _NO_LABEL
        value = key[1:9] + extra[:10] + key[9:] + extra[10:]
    elif kind == IP_PREFIX:
        width = len(key) - 14
        extra = extra or _NO_ESI + bytes(width) + _NO_LABEL
        value = key[1:9] + extra[:10] + key[9:] + extra[10:]
    elif kind == ETHERNET_AD:
        value = key[1:] + (extra or _NO_LABEL)
    else:
        value = key[1:]
    return _TYPES[kind] + _TYPES[len(value)] + value
