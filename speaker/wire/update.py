"""UPDATE messages (RFC 4271 section 4.3, RFC 4760): routes and withdrawals, decoded by the rules of RFC 7606, encoded.

    body --cut--> withdrawn | attributes | NLRI
                      MP_REACH_NLRI: family, next hop, NLRI        the other attributes: one block, decoded once and
                      MP_UNREACH_NLRI: family, NLRI                interned together with the next hop

Reactions (RFC 7606 section 2): treat-as-withdraw moves the announced keys to the withdrawn ones; a family whose NLRI
cannot be told apart is disabled (section 7.11); the session ends only where neither is possible, or where disabling
one family would lose what the same UPDATE says of another.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator

import attrs

from speaker.errors import AttributeDiscard, BgpError, DisableFamily, SessionReset, TreatAsWithdraw
from speaker.path import Attributes, Path
from speaker.values import Family
from speaker.wire import nlri
from speaker.wire.attribute import (
    EXTENDED,
    MP_REACH,
    MP_UNREACH,
    OPTIONAL,
    PATH_OCTETS,
    TRANSITIVE,
    Context,
    Interner,
    attribute,
    block,
    check,
    decode,
    is_nobodys,
)
from speaker.wire.framing import SHOWN_OCTETS, Framing, Tolerated
from speaker.wire.message import HEADER_SIZE, MESSAGE_LIMIT, UPDATE, message

_V4_MAPPED = bytes(10) + b"\xff\xff"
_FAMILIES = {int(family): family for family in Family}
_PLAIN = {4: (0, 4), 16: (0, 16)}
_DISTINGUISHED = {12: (8, 12), 24: (8, 24), 48: (8, 24)}
_NEXT_HOP_SIZES: dict[Family, dict[int, tuple[int, int]]] = {
    # octets on the wire: where the address is; RD 0 in front for VPN families, a link-local one behind is not used
    Family.IPV4: _PLAIN | {32: (0, 16)},  # RFC 8950 section 3
    Family.IPV6: {16: (0, 16), 32: (0, 16)},  # RFC 2545 section 3
    Family.VPNV4: _DISTINGUISHED | {16: (0, 16), 32: (0, 16)},  # RFC 8950; without RD as in RFC 5549 that was before it
    Family.VPNV6: _DISTINGUISHED,  # RFC 4659 section 3.2.1
    Family.EVPN: _PLAIN,
    Family.RTC: _PLAIN,
    Family.IPV4_FLOWSPEC: _PLAIN
    | {0: (0, 0), 32: (0, 16)},  # none, which RFC 8955 section 4 wants, or that of a redirect
    Family.IPV6_FLOWSPEC: _PLAIN | {0: (0, 0), 32: (0, 16)},
    Family.VPNV4_FLOWSPEC: _PLAIN | _DISTINGUISHED | {0: (0, 0)},
    Family.VPNV6_FLOWSPEC: _PLAIN | _DISTINGUISHED | {0: (0, 0)},
}


@attrs.define
class Update:
    """What one UPDATE says, checked."""

    withdrawn: list[tuple[Family, list[bytes]]] = attrs.field(factory=list)  # NLRI keys
    announced: list[tuple[Family, dict[bytes, Path]]] = attrs.field(factory=list)  # never an empty dict
    end_of_rib: Family | None = None  # RFC 4724 section 2
    errors: Tolerated = attrs.field(factory=Tolerated)  # what was wrong and tolerated


class UpdateDecoder:
    """Decodes the UPDATEs of one session.

    In the families `add_path` each NLRI has a path identifier in front, and so has its key: 4 octets (RFC 7911).
    """

    def __init__(
        self,
        interner: Interner,
        *,
        ibgp: bool,
        as4: bool,
        families: frozenset[Family],
        add_path: frozenset[Family] = frozenset(),
    ) -> None:
        self.families = families
        self.add_path = add_path
        self._context = Context(ibgp, as4)
        self._blocks = interner.received(self._context)

    def decode(self, body: bytes) -> Update:
        """Read the body of one UPDATE (hot). Raises SessionReset or DisableFamily, nothing else."""
        update = Update()
        size = len(body)
        if size < 4:
            raise SessionReset(1, 2, f"an UPDATE of {size} octets", (HEADER_SIZE + size).to_bytes(2, "big"))
        attributes_at = 4 + (body[0] << 8 | body[1])
        if attributes_at > size:
            reason = f"withdrawn routes of {attributes_at - 4} octets in a body of {size}"
            raise SessionReset(3, 1, reason, octets=body)
        nlri_at = attributes_at + (body[attributes_at - 2] << 8 | body[attributes_at - 1])
        if nlri_at > size:
            reason = f"attributes of {nlri_at - attributes_at} octets in a body of {size}"
            raise SessionReset(3, 1, reason, octets=body[attributes_at - 2 :])
        if attributes_at > 4:
            self._withdraw(update, Family.IPV4, body[2 : attributes_at - 2])
        elif size == 4 and Family.IPV4 in self.families:
            update.end_of_rib = Family.IPV4
        parts = _cut(body, attributes_at, nlri_at)
        reach, unreach = parts.reach, parts.unreach
        withdrawing = None if unreach is None else self._family(update, MP_UNREACH, unreach, parts)
        announcing = None if reach is None else self._family(update, MP_REACH, reach, parts)
        told = nlri_at < size or (reach is not None and announcing is None)  # routes, of whatever family
        try:
            if unreach is not None and withdrawing is not None:
                if len(unreach) > 3:
                    self._withdraw(update, withdrawing, unreach[3:])
                elif attributes_at == 4 and nlri_at == size and reach is None and not parts.others:
                    update.end_of_rib = withdrawing
            if reach is not None and announcing is not None:
                told = self._reach(update, announcing, reach, parts) or told
        except DisableFamily as error:
            families = {family for family, _ in update.withdrawn} | {withdrawing, announcing}
            if nlri_at < size or families - {None, error.family}:
                code = MP_UNREACH if error.family is withdrawing and reach is None else MP_REACH
                raise SessionReset(3, 9, error.reason, parts.attribute(code), error.octets) from None
            raise
        if nlri_at < size:
            self._announce(update, Family.IPV4, body[nlri_at:], None, parts)
        elif not told:
            self._without_routes(update, parts)
        return update

    def _family(self, update: Update, code: int, octets: bytes, parts: _Parts) -> Family | None:
        """Return the family of an MP attribute; None if the session does not carry it, or no more."""
        if len(octets) < 3:
            raise SessionReset(3, 9, f"{_NAMES[code]} has {len(octets)} octets", parts.attribute(code))
        family = _FAMILIES.get(octets[0] << 16 | octets[1] << 8 | octets[2])
        if family not in self.families:
            of = f"AFI {octets[0] << 8 | octets[1]} SAFI {octets[2]}"
            reason = f"{_NAMES[code]} for {of}, which this session does not carry"
            update.errors.append(AttributeDiscard(reason, parts.attribute(code)))
            return None
        return family

    def _withdraw(self, update: Update, family: Family, octets: bytes) -> None:
        try:
            keys = nlri.decode_withdrawn(family, octets, update.errors, add_path=family in self.add_path)
        except Framing as error:
            raise _unreadable(family, error) from None
        if keys and family in self.families:
            update.withdrawn.append((family, keys))

    def _reach(self, update: Update, family: Family, octets: bytes, parts: _Parts) -> bool:
        """Read MP_REACH_NLRI; True if it has any routes."""
        size = octets[3] if len(octets) >= 5 else 255
        sizes = _NEXT_HOP_SIZES[family]
        where = sizes.get(size)
        if where is None or len(octets) < 5 + size:
            reason = f"next hop of {size} octets for {family.text} (RFC 7606 section 7.11)"
            raise DisableFamily(family, reason, parts.attribute(MP_REACH))
        next_hop = octets[4 + where[0] : 4 + where[1]]
        if len(next_hop) == 16 and next_hop[:12] == _V4_MAPPED:
            next_hop = next_hop[12:]
        if 0 in sizes and is_nobodys(next_hop):
            next_hop = b""  # of a flow specification, where it is to be ignored (RFC 8955 section 4)
        routes = octets[5 + size :]
        if routes:
            self._announce(update, family, routes, next_hop, parts)
        return bool(routes)

    def _without_routes(self, update: Update, parts: _Parts) -> None:
        """Look through the attributes of an UPDATE that announces nothing (RFC 7606 section 5.2).

        If they are malformed, it may have announced what was not found, and the session cannot go on.
        """
        if parts.failure is not None and not parts.others and not parts.cut_off:
            update.errors.append(parts.failure)  # of MP_UNREACH_NLRI alone, which was treated as withdrawn anyway
            return
        try:
            if parts.others:
                check(parts.others, self._context)
            if parts.failure is not None:
                raise parts.failure
        except TreatAsWithdraw as error:
            raise SessionReset(3, 1, f"{error.reason}, in an UPDATE without routes", octets=error.octets) from None

    def _announce(self, update: Update, family: Family, octets: bytes, next_hop: bytes | None, parts: _Parts) -> None:
        """Read announced routes and put them, with their attributes, where they belong (hot).

        `next_hop` is that of MP_REACH_NLRI, None for routes whose next hop is in NEXT_HOP.
        """
        unusable: list[bytes] = []
        try:
            routes = nlri.decode(family, octets, update.errors, unusable, add_path=family in self.add_path)
        except Framing as error:
            raise _unreadable(family, error) from None
        if next_hop is None and family not in self.families:  # of the others `_family` knows
            return
        if unusable:
            update.withdrawn.append((family, list(dict.fromkeys(unusable))))
        try:
            attributes = decode(parts.others, next_hop, self._context, self._blocks, update.errors)
            if parts.failure is not None:
                raise parts.failure
        except TreatAsWithdraw as error:
            update.errors.append(error)
            if routes:
                update.withdrawn.append((family, list(dict(routes))))
            return
        paths = attributes.paths
        known = len(paths)
        announced: dict[bytes, Path] = {}
        last: bytes | None = None
        for key, extra in routes:
            if extra != last:
                last = extra
                path = paths.get(extra) or attributes.path(extra)
            announced[key] = path
        if len(paths) > known:
            self._blocks.grow((len(paths) - known) * PATH_OCTETS)
        if announced:
            update.announced.append((family, announced))


_NAMES = {MP_REACH: "MP_REACH_NLRI", MP_UNREACH: "MP_UNREACH_NLRI"}


@attrs.define
class _Parts:
    """The attributes of an UPDATE, cut: those in the body from `at` to `end`."""

    body: bytes
    at: int
    end: int
    reach: bytes | None = None
    unreach: bytes | None = None
    others: bytes = b""
    failure: TreatAsWithdraw | None = None
    cut_off: bool = False  # the last attribute goes beyond the end

    def attribute(self, code: int) -> bytes:
        """Return an attribute that is there as it came, to be told in an error."""
        body, at = self.body, self.at
        while True:
            wide = body[at] & EXTENDED
            after = at + (4 + (body[at + 2] << 8 | body[at + 3]) if wide else 3 + body[at + 2])
            if body[at + 1] == code:
                return body[at:after]
            at = after


def _cut(body: bytes, at: int, end: int) -> _Parts:
    """Take the MP attributes out of the attributes from `at` to `end`, which is beyond doubt (RFC 7606 section 4)."""
    parts = _Parts(body, at, end)
    others: list[bytes] = []
    kept = at
    while at < end:
        flags = body[at]
        wide = flags & EXTENDED
        start = at + 4 if wide else at + 3
        if start > end:
            parts.cut_off = True
            break
        code = body[at + 1]
        after = start + (body[at + 2] << 8 | body[at + 3] if wide else body[at + 2])
        if after > end:
            parts.cut_off = True
            break
        if code in _NAMES:
            if (parts.reach if code == MP_REACH else parts.unreach) is not None:
                reason = f"{_NAMES[code]} came twice (RFC 7606 section 3 g)"
                raise SessionReset(3, 1, reason, octets=body[at:after])
            if flags & (OPTIONAL | TRANSITIVE) != OPTIONAL:
                reason = f"{_NAMES[code]} has the flags 0x{flags:02x} (RFC 7606 section 3 c)"
                parts.failure = TreatAsWithdraw(reason, body[at:after])
            if code == MP_REACH:
                parts.reach = body[start:after]
            else:
                parts.unreach = body[start:after]
            if at > kept:
                others.append(body[kept:at])
            kept = after
        at = after
    if parts.cut_off:
        reason = f"the attributes are cut off at {body[at : min(end, at + SHOWN_OCTETS)].hex()}"
        parts.failure = TreatAsWithdraw(reason, body[at:end])
    if at > kept:
        others.append(body[kept:at])
    parts.others = others[0] if len(others) == 1 else b"".join(others)
    return parts


def _unreadable(family: Family, error: Framing) -> BgpError:
    """Return the reaction to NLRI that cannot be told apart (RFC 7606 section 5.3)."""
    if family is Family.IPV4:
        return SessionReset(3, 10, str(error), octets=error.octets)
    return DisableFamily(family, str(error), error.octets)


def end_of_rib(family: Family) -> bytes:
    """Return the message that says that all routes of a family have been told (RFC 4724 section 2)."""
    if family is Family.IPV4:
        return message(UPDATE, bytes(4))
    return message(UPDATE, b"\0\0\0\x06" + attribute(OPTIONAL, MP_UNREACH, _afi_safi(family)))


def _afi_safi(family: Family) -> bytes:
    return struct.pack("!HB", family.afi, family.safi)


def _packed(octets: Iterable[bytes], head: int, limit: int) -> Iterator[bytes]:
    """Join NLRI to runs that fit behind `head` octets in messages of `limit` octets; ValueError if one does not."""
    room = limit - head
    run: list[bytes] = []
    size = 0
    for each in octets:
        if size + len(each) > room:
            if len(each) > room:
                raise ValueError(f"an UPDATE of {head + len(each)} octets for one route, with a limit of {limit}")
            yield b"".join(run)
            run, size = [], 0
        run.append(each)
        size += len(each)
    if run:
        yield b"".join(run)


def _wire_next_hop(family: Family, next_hop: bytes) -> bytes:
    if family in (Family.IPV6, Family.VPNV6) and len(next_hop) == 4:
        next_hop = _V4_MAPPED + next_hop  # RFC 4659 section 3.2.1.2, RFC 4291 section 2.5.5.2
    return bytes(8) + next_hop if family in (Family.VPNV4, Family.VPNV6) else next_hop  # RFC 4364 4.3.4, RFC 8950 3


def encode_updates(
    family: Family,
    attributes: Attributes,
    routes: Iterable[tuple[bytes, bytes]],
    *,
    as4: bool,
    limit: int = MESSAGE_LIMIT,
    add_path: bool = False,
) -> Iterator[bytes]:
    """Yield whole messages that announce (key, extra) with these attributes, each filled up to `limit` octets.

    With `add_path` each key has its path identifier, 4 octets, in front (RFC 7911).
    ValueError if not even one route fits beside the attributes.
    """
    classic = family is Family.IPV4 and len(attributes.next_hop) == 4
    others = block(attributes, as4=as4, next_hop=classic)
    encoded = nlri.encode(family, routes, add_path=add_path)
    if classic:
        for run in _packed(encoded, HEADER_SIZE + 4 + len(others), limit):
            yield message(UPDATE, b"\0\0" + len(others).to_bytes(2, "big") + others + run)
        return
    next_hop = _wire_next_hop(family, attributes.next_hop)
    reach = _afi_safi(family) + bytes((len(next_hop),)) + next_hop + b"\0"
    for run in _packed(encoded, HEADER_SIZE + 8 + len(others) + len(reach), limit):
        size = len(reach) + len(run)
        mp_reach = bytes((OPTIONAL | EXTENDED, MP_REACH)) + size.to_bytes(2, "big") + reach + run
        yield message(UPDATE, b"\0\0" + (len(mp_reach) + len(others)).to_bytes(2, "big") + mp_reach + others)


def encode_withdrawals(
    family: Family, keys: Iterable[bytes], *, limit: int = MESSAGE_LIMIT, add_path: bool = False
) -> Iterator[bytes]:
    """Yield whole messages that withdraw these keys, each filled up to `limit` octets.

    With `add_path` each key has its path identifier, 4 octets, in front (RFC 7911).
    ValueError if one does not fit, which then was not announced with this limit either.
    """
    encoded = nlri.encode(family, ((key, b"") for key in keys), add_path=add_path)
    if family is Family.IPV4:
        for run in _packed(encoded, HEADER_SIZE + 4, limit):
            yield message(UPDATE, len(run).to_bytes(2, "big") + run + b"\0\0")
        return
    head = _afi_safi(family)
    for run in _packed(encoded, HEADER_SIZE + 8 + len(head), limit):
        unreach = bytes((OPTIONAL | EXTENDED, MP_UNREACH)) + (len(head) + len(run)).to_bytes(2, "big") + head + run
        yield message(UPDATE, b"\0\0" + len(unreach).to_bytes(2, "big") + unreach)
