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

from collections.abc import Iterable

from speaker.wire.framing import Refused, cutting

ETHERNET_AD, MAC_IP, MULTICAST, ETHERNET_SEGMENT, IP_PREFIX = 1, 2, 3, 4, 5

_TYPES = tuple(bytes((number,)) for number in range(256))
_NO_ESI = bytes(10)
_NO_LABEL = bytes(3)


_USUAL = (33, 37, 52, 40, 17, 34, 25, 23, 58, 29, 35)  # of types 2, 3, 5, 1 and 4
_SIZES = {size: size for size in (*_USUAL, *range(256))}
CUT, CUT_IDENTIFIED = (cutting(before, _SIZES, "EVPN route of {} octets") for before in (1, 5))


def read(each: Iterable[bytes], longest: int, refused: Refused) -> list[tuple[bytes, bytes]]:
    """Read EVPN NLRI (hot); those of types that are not known say nothing to us (RFC 7606 section 5.4)."""
    routes: list[tuple[bytes, bytes]] = []
    for one in each:
        kind, size = one[0], len(one)
        if kind == MAC_IP:
            bits = one[31] if size >= 35 else 255
            after = 32 + (bits >> 3)
            if bits in (0, 32, 128) and one[24] == 48 and size - after in (3, 6):
                routes.append((b"\x02" + one[2:10] + one[20:after], one[10:20] + one[after:]))
                continue
        elif kind == MULTICAST:
            if size in (19, 31) and one[14] >> 3 == size - 15 and not one[14] & 7:
                routes.append((b"\x03" + one[2:], b""))
                continue
        elif kind == IP_PREFIX:
            if size in (36, 60):
                width = 4 if size == 36 else 16
                if one[24] <= width * 8:
                    key = b"\x05" + one[2:10] + one[20:25] + _cleared(one[25 : 25 + width], one[24])
                    routes.append((key, one[10:20] + one[25 + width :]))
                    continue
        elif kind == ETHERNET_AD:
            if size == 27:
                routes.append((b"\x01" + one[2:24], one[24:]))
                continue
        elif kind == ETHERNET_SEGMENT:
            if size in (25, 37) and one[20] >> 3 == size - 21 and not one[20] & 7:
                routes.append((b"\x04" + one[2:], b""))
                continue
        else:
            refused[one] = None
            continue
        refused[one] = _key(kind, one[2:]) if size >= _SHORTEST else b""
    return routes


def wrong(one: bytes, longest: int) -> str:
    """Say what is refused."""
    return f"EVPN route of type {one[0]} is malformed"


_SHORTEST = 19  # octets of an NLRI that may have a key


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
