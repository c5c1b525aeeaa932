"""NLRI of every family: a run of octets to keys and their extra parts (see `speaker.path`), and back.

Decoders take octets and give a list of (key, extra).  Where one NLRI ends and the next begins must be beyond doubt:
otherwise `Framing` is raised and the caller decides between the end of the session and the end of the family (RFC 7606
section 5.3). What is well framed and yet unusable is left out, and `errors` says why.

A label is kept as its 3 octets with the bottom-of-stack bit set and the traffic class cleared: some routers leak bits
of their own there, and the bit is to be ignored where more than one label was not agreed on (RFC 8277 section 2.2).
A stack that is sent nevertheless is recognised by what follows its first label, and its route is unusable.  The bits of
a prefix beyond its length are cleared.  The EVPN label fields stay as they came, since a VNI uses all 24 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from speaker.values import Family
from speaker.wire.evpn import decode_evpn, encode_evpn
from speaker.wire.flowspec import decode_flowspec, decode_vpn_flowspec, encode_flowspec, extent
from speaker.wire.framing import Framing, Tolerated

Routes = list[tuple[bytes, bytes]]

_LENGTHS = tuple(bytes((number,)) for number in range(256))
_MASKS = (0xFF, 0x80, 0xC0, 0xE0, 0xF0, 0xF8, 0xFC, 0xFE)


def _masked(octets: bytes, length: int) -> bytes:
    """Return the octets of a prefix with the bits beyond its length cleared."""
    if length & 7 and octets[-1] & ~_MASKS[length & 7]:
        return octets[:-1] + _LENGTHS[octets[-1] & _MASKS[length & 7]]
    return octets


def _unicast(octets: bytes, longest: int, errors: Tolerated, unusable: list[bytes]) -> Routes:
    """Read prefixes (RFC 4271 section 4.3) (hot)."""
    routes: Routes = []
    at, end = 0, len(octets)
    lengths, masks = _LENGTHS, _MASKS
    while at < end:
        length = octets[at]
        after = at + 1 + (length + 7 >> 3)
        if length > longest or after > end:
            raise Framing(f"prefix of {length} bits", octets[at:])
        prefix = octets[at + 1 : after]
        rest = length & 7
        if rest and prefix[-1] & ~masks[rest]:
            prefix = _masked(prefix, length)
        routes.append((prefix + lengths[length], b""))
        at = after
    return routes


def _vpn(octets: bytes, longest: int, errors: Tolerated, unusable: list[bytes]) -> Routes:
    """Read labelled VPN prefixes (RFC 4364 section 4.3.4, RFC 8277 section 2) (hot)."""
    routes: Routes = []
    at, end = 0, len(octets)
    lengths, masks = _LENGTHS, _MASKS
    while at < end:
        bits = octets[at]
        length = bits - 88
        after = at + 1 + (bits + 7 >> 3)
        if after > end or length < 0:
            raise Framing(f"VPN route of {bits} bits", octets[at:])
        label = octets[at + 1 : at + 4]
        low = label[2]
        if low & 0x0F != 1:
            if not low & 1:
                labels = _labels(octets, at + 1, bits, longest)
                if labels > 1:
                    errors.note(f"a stack of {labels} labels", octets[at:after])
                    length -= 24 * (labels - 1)
                    prefix = _masked(octets[at + 1 + 3 * labels : after], length)
                    unusable.append(prefix + lengths[length])
                    at = after
                    continue
            label = label[:2] + lengths[low & 0xF0 | 1]
        if length > longest:
            raise Framing(f"VPN route of {bits} bits", octets[at:])
        key = octets[at + 4 : after]
        rest = length & 7
        if rest and key[-1] & ~masks[rest]:
            key = key[:-1] + lengths[key[-1] & masks[rest]]
        routes.append((key + lengths[length], label))
        at = after
    return routes


def _labels(octets: bytes, at: int, bits: int, longest: int) -> int:
    """Count the labels in front of a route distinguisher, the first of which has no bottom-of-stack bit.

    It is one where a distinguisher of a known type and a prefix of possible length follow; else as many as it takes.
    """
    for labels in range(1, (bits - 64) // 24 + 1):
        behind = at + 3 * labels
        distinguished = octets[behind] == 0 and octets[behind + 1] <= 2
        if distinguished and bits - 64 - 24 * labels <= longest and (labels == 1 or octets[behind - 1] & 1):
            return labels
    return 1


_NO_LABEL = (b"\x80\0\0", b"\0\0\0")
"""What stands for the label of a withdrawn route (RFC 8277 section 2.4, RFC 3107 section 3); others do as well."""


def _withdrawn_vpn(octets: bytes, longest: int, errors: Tolerated, unusable: list[bytes]) -> Routes:
    """Read withdrawn VPN prefixes, whose label means nothing (RFC 8277 section 2.4)."""
    routes: Routes = []
    at, end = 0, len(octets)
    while at < end:
        bits = octets[at]
        after = at + 1 + (bits + 7 >> 3)
        if after > end or bits < 88:
            raise Framing(f"withdrawn VPN route of {bits} bits", octets[at:])
        labels = 1
        if not octets[at + 3] & 1 and octets[at + 1 : at + 4] not in _NO_LABEL:
            labels = _labels(octets, at + 1, bits, longest)
        length = bits - 64 - 24 * labels
        if length > longest:
            raise Framing(f"withdrawn VPN route of {bits} bits", octets[at:])
        routes.append((_masked(octets[at + 1 + 3 * labels : after], length) + _LENGTHS[length], b""))
        at = after
    return routes


def _rtc(octets: bytes, longest: int, errors: Tolerated, unusable: list[bytes]) -> Routes:
    """Read RT membership prefixes (RFC 4684 section 4): 0 bits, or an origin AS and up to 64 bits of route target."""
    routes: Routes = []
    for key, extra in _unicast(octets, longest, errors, unusable):
        if 0 < key[-1] < 32:
            errors.note("RT membership of neither 0 nor 32 to 96 bits", key[-1:] + key[:-1])
            unusable.append(key)
        else:
            routes.append((key, extra))
    return routes


_Decoder = Callable[[bytes, int, Tolerated, list[bytes]], Routes]


def _evpn(octets: bytes, longest: int, errors: Tolerated, unusable: list[bytes]) -> Routes:
    return decode_evpn(octets, errors, unusable)


_ANNOUNCED: dict[Family, tuple[_Decoder, int]] = {
    Family.IPV4: (_unicast, 32),
    Family.IPV6: (_unicast, 128),
    Family.VPNV4: (_vpn, 32),
    Family.VPNV6: (_vpn, 128),
    Family.EVPN: (_evpn, 0),
    Family.RTC: (_rtc, 96),
    Family.IPV4_FLOWSPEC: (decode_flowspec, 32),
    Family.IPV6_FLOWSPEC: (decode_flowspec, 128),
    Family.VPNV4_FLOWSPEC: (decode_vpn_flowspec, 32),
    Family.VPNV6_FLOWSPEC: (decode_vpn_flowspec, 128),
}
_WITHDRAWN = _ANNOUNCED | {Family.VPNV4: (_withdrawn_vpn, 32), Family.VPNV6: (_withdrawn_vpn, 128)}


def decode(
    family: Family, octets: bytes, errors: Tolerated, unusable: list[bytes], *, add_path: bool = False
) -> Routes:
    """Read announced NLRI; Framing if they cannot be told apart.

    The keys of those that are not to be used, as far as they can be told, are added to `unusable`.
    With `add_path` each has a path identifier in front, which stays in front of its key (RFC 7911 section 3).
    """
    decoder, longest = _ANNOUNCED[family]
    if add_path:
        return _identified(family, octets, decoder, longest, errors, unusable)
    return decoder(octets, longest, errors, unusable)


def decode_withdrawn(family: Family, octets: bytes, errors: Tolerated, *, add_path: bool = False) -> list[bytes]:
    """Read the keys of withdrawn NLRI; Framing if they cannot be told apart.

    Of those that are malformed, the routes whose keys can be told go as well.
    """
    decoder, longest = _WITHDRAWN[family]
    unusable: list[bytes] = []
    if add_path:
        routes = _identified(family, octets, decoder, longest, errors, unusable)
    else:
        routes = decoder(octets, longest, errors, unusable)
    keys = [key for key, _ in routes]
    return keys + unusable if unusable else keys


def _identified(
    family: Family,
    octets: bytes,
    decoder: _Decoder,
    longest: int,
    errors: Tolerated,
    unusable: list[bytes],
) -> Routes:
    """Read NLRI that have path identifiers (hot): all at once without these, and one by one if some are not usable."""
    identifiers, each = _cut_identified(family, octets)
    routes = decoder(b"".join(each), longest, Tolerated(), [])
    if len(routes) == len(each):  # so each is in its place
        return [(identifier + key, extra) for identifier, (key, extra) in zip(identifiers, routes, strict=True)]
    told: Routes = []
    for identifier, one in zip(identifiers, each, strict=True):
        refused: list[bytes] = []
        told += [(identifier + key, extra) for key, extra in decoder(one, longest, errors, refused)]
        unusable += [identifier + key for key in refused]
    return told


def _cut_identified(family: Family, octets: bytes) -> tuple[list[bytes], list[bytes]]:
    """Return the path identifiers and the NLRI behind them (hot)."""
    identifiers: list[bytes] = []
    each: list[bytes] = []
    at, end = 0, len(octets)
    of_prefixes = family not in _OF_OCTETS
    while at < end:
        start = at + 4
        after = start + 1 + (octets[start] + 7 >> 3) if of_prefixes and start < end else _end(family, octets, start)
        if after > end:
            raise Framing("NLRI with a path identifier cut off", octets[at:])
        identifiers.append(octets[at:start])
        each.append(octets[start:after])
        at = after
    return identifiers, each


_FLOWSPEC = frozenset({Family.IPV4_FLOWSPEC, Family.IPV6_FLOWSPEC, Family.VPNV4_FLOWSPEC, Family.VPNV6_FLOWSPEC})
_OF_OCTETS = _FLOWSPEC | {Family.EVPN}
"""Families whose NLRI have a length in octets, where others have one in bits."""


def _end(family: Family, octets: bytes, at: int) -> int:
    """Return where the NLRI at `at` ends by what it says itself; beyond the octets if it does not say."""
    size = len(octets)
    if at >= size:
        return size + 1
    if family in _FLOWSPEC:
        return extent(octets, at)[1]
    return at + 2 + octets[at + 1] if at + 1 < size else size + 1


def _encode_plain(key: bytes, extra: bytes) -> bytes:
    return key[-1:] + key[:-1]


def _encode_vpn(key: bytes, extra: bytes) -> bytes:
    return _LENGTHS[key[-1] + 88] + (extra or b"\x80\0\0") + key[:-1]  # 0x800000: withdrawn (RFC 8277 section 2.4)


_ENCODERS: dict[Family, Callable[[bytes, bytes], bytes]] = {
    Family.IPV4: _encode_plain,
    Family.IPV6: _encode_plain,
    Family.VPNV4: _encode_vpn,
    Family.VPNV6: _encode_vpn,
    Family.EVPN: encode_evpn,
    Family.RTC: _encode_plain,
    Family.IPV4_FLOWSPEC: encode_flowspec,
    Family.IPV6_FLOWSPEC: encode_flowspec,
    Family.VPNV4_FLOWSPEC: encode_flowspec,
    Family.VPNV6_FLOWSPEC: encode_flowspec,
}


def encode(family: Family, routes: Iterable[tuple[bytes, bytes]], *, add_path: bool = False) -> Iterable[bytes]:
    """Write each NLRI; an empty extra part is a withdrawn one's.

    With `add_path` the first 4 octets of each key are its path identifier.
    """
    encoder = _ENCODERS[family]
    if add_path:
        return (key[:4] + encoder(key[4:], extra) for key, extra in routes)
    return (encoder(key, extra) for key, extra in routes)
