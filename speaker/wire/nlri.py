"""NLRI of every family: a run of octets to keys and their extra parts (see `speaker.path`), and back.

    octets --cut--> NLRI --read--> (key, extra) of each that can be used

Where one NLRI ends and the next begins must be beyond doubt: otherwise `Framing` is raised and the caller decides
between the end of the session and the end of the family (RFC 7606 section 5.3). What is well framed and yet unusable
is left out, and `errors` says why.

A label is kept as its 3 octets with the bottom-of-stack bit set and the traffic class cleared: some routers leak bits
of their own there, and the bit is to be ignored where more than one label was not agreed on (RFC 8277 section 2.2).
A stack that is sent nevertheless is recognised by what follows its first label, and its route is unusable.  The bits of
a prefix beyond its length are cleared.  The EVPN label fields stay as they came, since a VNI uses all 24 bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from speaker.errors import TreatAsWithdraw
from speaker.values import Family
from speaker.wire import evpn, flowspec
from speaker.wire.framing import SHOWN_OCTETS, TOLD_AT_MOST, Cut, Framing, Refused, Tolerated, cutting

Routes = list[tuple[bytes, bytes]]

_LENGTHS = tuple(bytes((number,)) for number in range(256))
_BEYOND = tuple(0xFF >> (length & 7) if length & 7 else 0 for length in range(256))
_WITHIN = tuple(0xFF ^ beyond for beyond in _BEYOND)
"""The bits of its last octet that are beyond a prefix of such a length, and those that are not."""


def _masked(octets: bytes, length: int) -> bytes:
    """Return the octets of a prefix with the bits beyond its length cleared."""
    if length & 7 and octets[-1] & _BEYOND[length]:
        return octets[:-1] + _LENGTHS[octets[-1] & _WITHIN[length]]
    return octets


def _unicast(each: Iterable[bytes], longest: int, refused: Refused) -> Routes:
    """Read prefixes (RFC 4271 section 4.3) (hot)."""
    lengths, beyond, within = _LENGTHS, _BEYOND, _WITHIN
    return [
        (
            one[1:] + lengths[one[0]]
            if not one[-1] & beyond[one[0]]
            else one[1:-1] + lengths[one[-1] & within[one[0]]] + lengths[one[0]],
            b"",
        )
        for one in each
    ]


def _vpn(each: Iterable[bytes], longest: int, refused: Refused) -> Routes:
    """Read labelled VPN prefixes (RFC 4364 section 4.3.4, RFC 8277 section 2) (hot)."""
    routes: Routes = []
    most, beyond, lengths = longest + 88, _BEYOND, _LENGTHS
    for one in each:
        bits = one[0]
        if bits <= most and one[3] & 0x0F == 1 and not one[-1] & beyond[bits]:
            routes.append((one[4:] + lengths[bits - 88], one[1:4]))
            continue
        labels = 1 if one[3] & 1 else _labels(one, longest)
        length = bits - 64 - 24 * labels
        if length > longest:
            raise Framing(f"VPN route of {bits} bits", one)
        key = _masked(one[1 + 3 * labels :], length) + lengths[length]
        if labels > 1:
            refused[one] = key
        else:
            routes.append((key, one[1:3] + lengths[one[3] & 0xF0 | 1]))
    return routes


def _labels(one: bytes, longest: int) -> int:
    """Count the labels in front of a route distinguisher, the first of which has no bottom-of-stack bit.

    It is one where a distinguisher of a known type and a prefix of possible length follow; else as many as it takes.
    """
    bits = one[0]
    for labels in range(1, (bits - 64) // 24 + 1):
        behind = 1 + 3 * labels
        distinguished = one[behind] == 0 and one[behind + 1] <= 2
        if distinguished and bits - 64 - 24 * labels <= longest and (labels == 1 or one[behind - 1] & 1):
            return labels
    return 1


_NO_LABEL = (b"\x80\0\0", b"\0\0\0")
"""What stands for the label of a withdrawn route (RFC 8277 section 2.4, RFC 3107 section 3); others do as well."""


def _withdrawn_vpn(each: Iterable[bytes], longest: int, refused: Refused) -> Routes:
    """Read withdrawn VPN prefixes, whose label means nothing (RFC 8277 section 2.4) (hot)."""
    routes: Routes = []
    most, beyond, lengths = longest + 88, _BEYOND, _LENGTHS
    for one in each:
        bits = one[0]
        labels = 1 if one[3] & 1 or one[1:4] in _NO_LABEL else _labels(one, longest)
        if labels == 1 and bits <= most and not one[-1] & beyond[bits]:
            routes.append((one[4:] + lengths[bits - 88], b""))
            continue
        length = bits - 64 - 24 * labels
        if length > longest:
            raise Framing(f"withdrawn VPN route of {bits} bits", one)
        routes.append((_masked(one[1 + 3 * labels :], length) + lengths[length], b""))
    return routes


def _rtc(each: Iterable[bytes], longest: int, refused: Refused) -> Routes:
    """Read RT membership prefixes (RFC 4684 section 4): 0 bits, or an origin AS and up to 64 bits of route target."""
    routes: Routes = []
    for one in each:
        bits = one[0]
        if 0 < bits < 32:
            refused[one] = one[1:] + one[:1]  # as it came: there is no route with such a key
        else:
            routes.append((_masked(one[1:], bits) + one[:1], b""))
    return routes


_Read = Callable[[Iterable[bytes], int, Refused], Routes]
"""Each NLRI, in order, becomes a route or is refused; the number is that of the bits of the longest prefix."""


@attrs.frozen
class _Form:
    """How the NLRI of a family are told apart and read."""

    cut: Cut
    cut_identified: Cut  # each with a path identifier, 4 octets, in front
    read: _Read
    wrong: Callable[[bytes, int], str]  # why one is refused
    longest: int
    short: int = 0  # in fewer octets than this, on average, the same must come again, where that says nothing


def _of_bits(lengths: Iterable[int], what: str) -> tuple[Cut, Cut]:
    sizes = {bits: bits + 7 >> 3 for bits in lengths}
    return cutting(0, sizes, what), cutting(4, sizes, what)


def _stacked(one: bytes, longest: int) -> str:
    return f"a stack of {_labels(one, longest)} labels"


def _no_membership(one: bytes, longest: int) -> str:
    return "RT membership of neither 0 nor 32 to 96 bits"


def _nothing(one: bytes, longest: int) -> str:
    return ""  # none is refused


def _flowspec(longest: int, *, vpn: bool) -> _Form:
    distinguisher = 8 if vpn else 0
    return _Form(
        lambda octets: flowspec.cut_run(octets, 0),
        lambda octets: flowspec.cut_run(octets, 4),
        lambda each, longest, refused: flowspec.read(each, longest, distinguisher, refused),
        lambda one, longest: flowspec.wrong(one, longest, distinguisher),
        longest,
        short=4,
    )


_IPV4, _IPV6, _MEMBERSHIPS = (_of_bits(range(longest + 1), "prefix of {} bits") for longest in (32, 128, 96))
_VPN = _of_bits(range(88, 256), "VPN route of {} bits")  # by their labels they may be longer than any prefix
_ANNOUNCED = {
    Family.IPV4: _Form(*_IPV4, _unicast, _nothing, 32, short=3),
    Family.IPV6: _Form(*_IPV6, _unicast, _nothing, 128, short=3),
    Family.VPNV4: _Form(*_VPN, _vpn, _stacked, 32),
    Family.VPNV6: _Form(*_VPN, _vpn, _stacked, 128),
    Family.EVPN: _Form(evpn.CUT, evpn.CUT_IDENTIFIED, evpn.read, evpn.wrong, 0),
    Family.RTC: _Form(*_MEMBERSHIPS, _rtc, _no_membership, 96, short=3),
    Family.IPV4_FLOWSPEC: _flowspec(32, vpn=False),
    Family.IPV6_FLOWSPEC: _flowspec(128, vpn=False),
    Family.VPNV4_FLOWSPEC: _flowspec(32, vpn=True),
    Family.VPNV6_FLOWSPEC: _flowspec(128, vpn=True),
}
_WITHDRAWN = _ANNOUNCED | {
    family: attrs.evolve(_ANNOUNCED[family], read=_withdrawn_vpn) for family in (Family.VPNV4, Family.VPNV6)
}


def decode(
    family: Family,
    octets: bytes,
    errors: Tolerated,
    unusable: list[bytes],
    *,
    add_path: bool = False,
    forms: Mapping[Family, _Form] = _ANNOUNCED,
) -> Routes:
    """Read announced NLRI (hot); Framing if they cannot be told apart.

    The keys of those that are not to be used, as far as they can be told, are added to `unusable`.
    With `add_path` each has a path identifier in front, which stays in front of its key (RFC 7911 section 3).
    """
    form = forms[family]
    if add_path:
        return _identified(form, octets, errors, unusable)
    each = form.cut(octets)
    if len(octets) < form.short * len(each):
        each = list(dict.fromkeys(each))
    refused: Refused = {}
    routes = form.read(each, form.longest, refused)
    if refused:
        unusable += filter(None, refused.values())
        _tell(form, refused, errors)
    return routes


def decode_withdrawn(family: Family, octets: bytes, errors: Tolerated, *, add_path: bool = False) -> list[bytes]:
    """Read the keys of withdrawn NLRI, each once; Framing if they cannot be told apart.

    Of those that are malformed, the routes whose keys can be told go as well.
    """
    unusable: list[bytes] = []
    keys = dict(decode(family, octets, errors, unusable, add_path=add_path, forms=_WITHDRAWN))
    return list(keys | dict.fromkeys(unusable) if unusable else keys)


def _identified(form: _Form, octets: bytes, errors: Tolerated, unusable: list[bytes]) -> Routes:
    """Read NLRI that have path identifiers in front (hot)."""
    refused: Refused = {}
    each = form.cut_identified(octets)
    routes = form.read([one[4:] for one in each], form.longest, refused)
    if refused:
        unusable += [one[:4] + key for one in each if (key := refused.get(one[4:]))]
        _tell(form, refused, errors)
        each = [one for one in each if one[4:] not in refused]
    return [(one[:4] + key, extra) for one, (key, extra) in zip(each, routes, strict=True)]


def _tell(form: _Form, refused: Refused, errors: Tolerated) -> None:
    """Add what is wrong to the errors, in words as long as there is room."""
    malformed = [one for one, key in refused.items() if key is not None]
    room = max(0, TOLD_AT_MOST - len(errors))
    for one in malformed[:room]:
        reason = f"{form.wrong(one, form.longest)}: {one[:SHOWN_OCTETS].hex()}"
        errors.append(TreatAsWithdraw(reason, one))
    errors.left_out += len(malformed[room:])


def _encode_plain(key: bytes, extra: bytes) -> bytes:
    return key[-1:] + key[:-1]


def _encode_vpn(key: bytes, extra: bytes) -> bytes:
    return _LENGTHS[key[-1] + 88] + (extra or b"\x80\0\0") + key[:-1]  # 0x800000: withdrawn (RFC 8277 section 2.4)


_ENCODERS: dict[Family, Callable[[bytes, bytes], bytes]] = {
    Family.IPV4: _encode_plain,
    Family.IPV6: _encode_plain,
    Family.VPNV4: _encode_vpn,
    Family.VPNV6: _encode_vpn,
    Family.EVPN: evpn.encode_evpn,
    Family.RTC: _encode_plain,
    Family.IPV4_FLOWSPEC: flowspec.encode_flowspec,
    Family.IPV6_FLOWSPEC: flowspec.encode_flowspec,
    Family.VPNV4_FLOWSPEC: flowspec.encode_flowspec,
    Family.VPNV6_FLOWSPEC: flowspec.encode_flowspec,
}


def encode(family: Family, routes: Iterable[tuple[bytes, bytes]], *, add_path: bool = False) -> Iterable[bytes]:
    """Write each NLRI; an empty extra part is a withdrawn one's.

    With `add_path` the first 4 octets of each key are its path identifier.
    """
    encoder = _ENCODERS[family]
    if add_path:
        return (key[:4] + encoder(key[4:], extra) for key, extra in routes)
    return (encoder(key, extra) for key, extra in routes)
