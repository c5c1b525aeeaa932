"""NLRI of every family: a run of octets to keys and their extra parts (see `speaker.path`), and back.

Decoders take octets and give a list of (key, extra).  Where one NLRI ends and the next begins must be beyond doubt:
otherwise `Framing` is raised and the caller decides between the end of the session and the end of the family (RFC 7606
section 5.3). What is well framed and yet unusable is left out, and `errors` says why.

A label is kept as its 3 octets with the bottom-of-stack bit set and the traffic class cleared: some routers leak bits
of their own there.  The bits of a prefix beyond its length are cleared.  The EVPN label fields stay as they came, since
a VNI uses all 24 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from speaker.errors import BgpError, TreatAsWithdraw
from speaker.values import Family
from speaker.wire.evpn import decode_evpn, encode_evpn
from speaker.wire.framing import Framing

Routes = list[tuple[bytes, bytes]]

_LENGTHS = tuple(bytes((number,)) for number in range(256))
_MASKS = (0xFF, 0x80, 0xC0, 0xE0, 0xF0, 0xF8, 0xFC, 0xFE)


def _masked(octets: bytes, length: int) -> bytes:
    """Return the octets of a prefix with the bits beyond its length cleared."""
    if length & 7 and octets[-1] & ~_MASKS[length & 7]:
        return octets[:-1] + _LENGTHS[octets[-1] & _MASKS[length & 7]]
    return octets


def _unicast(octets: bytes, longest: int, errors: list[BgpError]) -> Routes:
    routes: Routes = []
    at, end = 0, len(octets)
    while at < end:
        length = octets[at]
        after = at + 1 + (length + 7 >> 3)
        if length > longest or after > end:
            raise Framing(f"prefix of {length} bits at {octets[at : at + 20].hex()}")
        routes.append((_masked(octets[at + 1 : after], length) + _LENGTHS[length], b""))
        at = after
    return routes


def _vpn(octets: bytes, longest: int, errors: list[BgpError]) -> Routes:
    """Read labelled VPN prefixes (RFC 4364 section 4.3.4, RFC 8277 section 2) (hot)."""
    routes: Routes = []
    at, end = 0, len(octets)
    lengths, masks = _LENGTHS, _MASKS
    while at < end:
        bits = octets[at]
        length = bits - 88
        after = at + 1 + (bits + 7 >> 3)
        if after > end or length < 0:
            raise Framing(f"VPN route of {bits} bits at {octets[at : at + 40].hex()}")
        label = octets[at + 1 : at + 4]
        low = label[2]
        if low & 0x0F != 1:
            if not low & 1:
                labels = _labels(octets, at + 1, bits)
                if labels > 1:
                    errors.append(TreatAsWithdraw(f"a stack of {labels} labels: {octets[at:after].hex()}"))
                    at = after
                    continue
            label = label[:2] + lengths[low & 0xF0 | 1]
        if length > longest:
            raise Framing(f"VPN route of {bits} bits at {octets[at : at + 40].hex()}")
        key = octets[at + 4 : after]
        rest = length & 7
        if rest and key[-1] & ~masks[rest]:
            key = key[:-1] + lengths[key[-1] & masks[rest]]
        routes.append((key + lengths[length], label))
        at = after
    return routes


def _labels(octets: bytes, at: int, bits: int) -> int:
    """Count the labels of a stack whose first has no bottom-of-stack bit; 1 if it can only be a single one."""
    most = (bits - 64) // 24
    for count in range(2, most + 1):
        if octets[at + 3 * count - 1] & 1:
            return count
    return 1


def _withdrawn_vpn(octets: bytes, longest: int, errors: list[BgpError]) -> Routes:
    """Read withdrawn VPN prefixes, whose label means nothing (RFC 8277 section 2.4)."""
    routes: Routes = []
    at, end = 0, len(octets)
    while at < end:
        length = octets[at] - 88
        after = at + 1 + (octets[at] + 7 >> 3)
        if after > end or not 0 <= length <= longest:
            raise Framing(f"withdrawn VPN route of {octets[at]} bits at {octets[at : at + 40].hex()}")
        routes.append((_masked(octets[at + 4 : after], length) + _LENGTHS[length], b""))
        at = after
    return routes


def _rtc(octets: bytes, longest: int, errors: list[BgpError]) -> Routes:
    """Read RT membership prefixes (RFC 4684 section 4): 0 bits, or an origin AS and up to 64 bits of route target."""
    routes: Routes = []
    at, end = 0, len(octets)
    while at < end:
        length = octets[at]
        after = at + 1 + (length + 7 >> 3)
        if length > longest or after > end:
            raise Framing(f"RT membership of {length} bits at {octets[at : at + 16].hex()}")
        if 0 < length < 32:
            errors.append(TreatAsWithdraw(f"RT membership of {length} bits, neither 0 nor 32 to 96"))
        else:
            routes.append((_masked(octets[at + 1 : after], length) + _LENGTHS[length], b""))
        at = after
    return routes


_Decoder = Callable[[bytes, int, list[BgpError]], Routes]


def _evpn(octets: bytes, longest: int, errors: list[BgpError]) -> Routes:
    return decode_evpn(octets, errors)


_ANNOUNCED: dict[Family, tuple[_Decoder, int]] = {
    Family.IPV4: (_unicast, 32),
    Family.IPV6: (_unicast, 128),
    Family.VPNV4: (_vpn, 32),
    Family.VPNV6: (_vpn, 128),
    Family.EVPN: (_evpn, 0),
    Family.RTC: (_rtc, 96),
}
_WITHDRAWN = _ANNOUNCED | {Family.VPNV4: (_withdrawn_vpn, 32), Family.VPNV6: (_withdrawn_vpn, 128)}


def decode(family: Family, octets: bytes, errors: list[BgpError]) -> Routes:
    """Read announced NLRI; Framing if they cannot be told apart."""
    decoder, longest = _ANNOUNCED[family]
    return decoder(octets, longest, errors)


def decode_withdrawn(family: Family, octets: bytes, errors: list[BgpError]) -> list[bytes]:
    """Read the keys of withdrawn NLRI; Framing if they cannot be told apart."""
    decoder, longest = _WITHDRAWN[family]
    return [key for key, _ in decoder(octets, longest, errors)]


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
}


def encode(family: Family, routes: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    """Write each NLRI; an empty extra part is a withdrawn one's."""
    encoder = _ENCODERS[family]
    return (encoder(key, extra) for key, extra in routes)
