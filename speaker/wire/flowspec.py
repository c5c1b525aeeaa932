"""NLRI of flow specifications (RFC 8955 section 4.1, RFC 8956): octets to keys and back; they have no extra part.

length 1 (below 240) or 2 (0xf0 and 12 bits), in the VPN families RD 8, components: see `speaker.flowspec`

The key is what stands behind the length, as it came: whatever is wrong in a flow specification, its key is known, and
so its route counts as withdrawn (RFC 8955 section 10, RFC 7606 section 2).
"""

from __future__ import annotations

from collections.abc import Iterable

from speaker.flowspec import FlowSpecificationError, cut, well_formed
from speaker.wire.framing import Framing, Refused

LONGEST = 0x0FFF
_TWO_OCTETS = 0xF0


def cut_run(octets: bytes, before: int) -> list[bytes]:
    """Cut whole flow specifications that have `before` octets in front (hot); Framing if the last one is cut off."""
    each: list[bytes] = []
    at, start, end = 0, before, len(octets)
    while start < end:
        size = octets[start]
        after = start + 1 + size
        if size >= _TWO_OCTETS:
            after = start + 2 + ((size & 0x0F) << 8 | octets[start + 1] if start + 1 < end else end)
        each.append(octets[at:after])
        at, start = after, after + before
    if at != end:
        last = octets[at:] or each[-1]
        raise Framing("flow specification cut off", last)
    return each


def read(each: Iterable[bytes], width: int, distinguisher: int, refused: Refused) -> list[tuple[bytes, bytes]]:
    """Read flow specifications for addresses of `width` bits, behind distinguishers of so many octets (hot)."""
    routes: list[tuple[bytes, bytes]] = []
    for one in each:
        start = 1 if one[0] < _TWO_OCTETS else 2
        if well_formed(one, width, start + distinguisher):
            routes.append((one[start:], b""))
        else:
            refused[one] = one[start:] if len(one) >= start + distinguisher else b""
    return routes


def wrong(one: bytes, width: int, distinguisher: int) -> str:
    """Say why a flow specification is refused."""
    key = one[1:] if one[0] < _TWO_OCTETS else one[2:]
    try:
        if len(key) < distinguisher:
            raise FlowSpecificationError("no route distinguisher")
        cut(key[distinguisher:], width)
    except FlowSpecificationError as error:
        return f"flow specification with {error}"
    raise AssertionError(f"flow specification {one.hex()} was refused, and nothing is wrong with it")


def encode_flowspec(key: bytes, extra: bytes) -> bytes:
    """Write one flow specification; ValueError beyond the 4095 octets that its length can tell."""
    size = len(key)
    if size < _TWO_OCTETS:
        return bytes((size,)) + key
    if size > LONGEST:
        raise ValueError(f"a flow specification of {size} octets, of at most {LONGEST}")
    return (_TWO_OCTETS << 8 | size).to_bytes(2, "big") + key
