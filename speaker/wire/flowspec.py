"""NLRI of flow specifications (RFC 8955 section 4.1, RFC 8956): octets to keys and back; they have no extra part.

length 1 (below 240) or 2 (0xf0 and 12 bits), in the VPN families RD 8, components: see `speaker.flowspec`

The key is what stands behind the length, as it came: whatever is wrong in a flow specification, its key is known, and
so its route counts as withdrawn (RFC 8955 section 10, RFC 7606 section 2).
"""

from __future__ import annotations

from speaker.flowspec import FlowSpecificationError, cut
from speaker.wire.framing import Framing, Tolerated

LONGEST = 0x0FFF
_TWO_OCTETS = 0xF0


def decode_flowspec(
    octets: bytes, width: int, errors: Tolerated, unusable: list[bytes], distinguisher: int = 0
) -> list[tuple[bytes, bytes]]:
    """Read a run of flow specifications for addresses of `width` bits, behind distinguishers of so many octets."""
    routes: list[tuple[bytes, bytes]] = []
    for key in dict.fromkeys(_cut_run(octets)):  # the same one again says nothing, and need not be read again
        try:
            if len(key) < distinguisher:
                raise FlowSpecificationError("no route distinguisher")
            cut(key[distinguisher:], width)
        except FlowSpecificationError as error:
            errors.note(f"flow specification with {error}", encode_flowspec(key, b""))
            if len(key) >= distinguisher:
                unusable.append(key)
        else:
            routes.append((key, b""))
    return routes


def decode_vpn_flowspec(
    octets: bytes, width: int, errors: Tolerated, unusable: list[bytes]
) -> list[tuple[bytes, bytes]]:
    """Read a run of flow specifications of VPNs (RFC 8955 section 8)."""
    return decode_flowspec(octets, width, errors, unusable, distinguisher=8)


def _cut_run(octets: bytes) -> list[bytes]:
    keys: list[bytes] = []
    at, end = 0, len(octets)
    while at < end:
        size = octets[at]
        start, after = (at + 1, at + 1 + size) if size < _TWO_OCTETS else extent(octets, at)
        if after > end:
            raise Framing("flow specification cut off", octets[at:])
        keys.append(octets[start:after])
        at = after
    return keys


def extent(octets: bytes, at: int) -> tuple[int, int]:
    """Return where a flow specification whose length is at `at` begins and ends; the end may be beyond the octets."""
    size = octets[at]
    if size < _TWO_OCTETS:
        return at + 1, at + 1 + size
    if at + 1 >= len(octets):
        return at + 2, at + 2
    return at + 2, at + 2 + ((size & 0x0F) << 8 | octets[at + 1])


def encode_flowspec(key: bytes, extra: bytes) -> bytes:
    """Write one flow specification; ValueError beyond the 4095 octets that its length can tell."""
    size = len(key)
    if size < _TWO_OCTETS:
        return bytes((size,)) + key
    if size > LONGEST:
        raise ValueError(f"a flow specification of {size} octets, of at most {LONGEST}")
    return (_TWO_OCTETS << 8 | size).to_bytes(2, "big") + key
