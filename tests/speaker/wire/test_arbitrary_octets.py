"""Whatever octets come, the codec answers with values or with the reactions of speaker.errors, and nothing else."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speaker.errors import DisableFamily, SessionReset
from speaker.values import Family, key_text
from speaker.wire.attribute import Interner
from speaker.wire.capability import decode_capability
from speaker.wire.community import community_text
from speaker.wire.message import HEADER_SIZE, Notification, Open, RouteRefresh, split
from speaker.wire.update import Update, UpdateDecoder, encode_updates, encode_withdrawals
from tests.speaker.wire.strategies import FLOWSPEC

ALL = frozenset(Family)
VECTORS = [
    bytes.fromhex(json.loads(line)["hex"])[HEADER_SIZE:]
    for line in (Path(__file__).resolve().parents[2] / "vectors/captures.jsonl").read_text().splitlines()
]


T = TypeVar("T")


def refused(decode: Callable[[bytes], T], octets: bytes) -> T | SessionReset:
    """What a decoder answers, a SessionReset that it raises included."""
    try:
        return decode(octets)
    except SessionReset as error:
        return error


def survive(decoder: UpdateDecoder, body: bytes) -> str:
    """Decode; what is found must be fit to be shown and to be sent."""
    try:
        update = decoder.decode(body)
    except (SessionReset, DisableFamily) as error:
        return type(error).__name__
    use(update)
    return "routes" if update.announced else "withdrawals" if update.withdrawn else "nothing"


def use(update: Update, *, with_identifiers: bool = False) -> None:
    """Do with what was read what is done with routes: show them, and send them on."""
    skipped = 4 if with_identifiers else 0
    for family, keys in update.withdrawn:
        assert keys
        assert all(key_text(family, key[skipped:]).isprintable() for key in keys)
        assert b"".join(encode_withdrawals(family, keys, limit=65535, add_path=with_identifiers))
    for family, routes in update.announced:
        attributes = next(iter(routes.values())).attributes
        assert all(path.attributes is attributes for path in routes.values())
        assert all(community_text(each).isprintable() for each in attributes.ext_communities)
        assert all(key_text(family, key[skipped:]).isprintable() for key in routes)
        told = [(key, path.extra) for key, path in routes.items()]
        assert b"".join(encode_updates(family, attributes, told, as4=False, limit=65535, add_path=with_identifiers))


@pytest.mark.parametrize("ibgp", [True, False])
@given(body=st.binary(max_size=200), as4=st.booleans())
def test_any_body_of_an_UPDATE_is_decoded_or_refused(ibgp: bool, body: bytes, as4: bool) -> None:
    survive(UpdateDecoder(Interner(), ibgp=ibgp, as4=as4, families=ALL), body)


@given(st.binary(max_size=80), st.sampled_from(Family), st.booleans())
def test_any_NLRI_is_decoded_or_refused(octets: bytes, family: Family, announced: bool) -> None:
    hop = {Family.VPNV4: 12, Family.VPNV6: 24, Family.IPV6: 16}.get(family, 0 if family in FLOWSPEC else 4)
    head = family.afi.to_bytes(2, "big") + bytes((family.safi,))
    value = head + (bytes((hop,)) + b"\x0a" * hop + b"\0" if announced else b"") + octets
    attributes = bytes((0x90, 14 if announced else 15)) + len(value).to_bytes(2, "big") + value
    attributes += bytes.fromhex("4001010040020040050400000064") if announced else b""
    body = b"\0\0" + len(attributes).to_bytes(2, "big") + attributes
    survive(UpdateDecoder(Interner(), ibgp=True, as4=True, families=ALL), body)


def mutated(chance: random.Random, body: bytes) -> bytes:
    """A captured body with some octets changed, taken out, put in, or taken from another one.

    In three of four the outer lengths are made to fit again, so that what is in them is looked at.
    """
    octets = bytearray(body)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(octets)) if octets else 0
        match chance.randrange(5):
            case 0 if octets:
                octets[at] = chance.randrange(256)
            case 1 if octets:
                octets[at] ^= 1 << chance.randrange(8)
            case 2:
                del octets[at : at + chance.randint(1, 8)]
            case 3:
                octets[at:at] = chance.randbytes(chance.randint(1, 8))
            case _:
                other = chance.choice(VECTORS)
                octets[at:] = other[chance.randrange(len(other)) :]
    if chance.randrange(4) and len(octets) > 4:
        octets[:4] = b"\0\0" + (len(octets) - 4).to_bytes(2, "big")
    return bytes(octets)


def test_20000_damaged_captures_are_decoded_or_refused() -> None:
    chance = random.Random(20000)
    interner = Interner()
    decoders = [
        UpdateDecoder(interner, ibgp=ibgp, as4=as4, families=ALL) for ibgp in (True, False) for as4 in (True, False)
    ]
    found = Counter(survive(decoders[n % 4], mutated(chance, chance.choice(VECTORS))) for n in range(20000))
    assert found.keys() == {"SessionReset", "DisableFamily", "routes", "withdrawals", "nothing"}
    assert min(found.values()) > 200, found


@given(st.binary(max_size=120))
def test_any_body_of_an_OPEN_is_decoded_or_refused(body: bytes) -> None:
    for octets in (body, b"\x04\xfc\x00\x00\x5a\xc0\x00\x02\x01" + body):
        opened = refused(Open.decode, octets)
        if isinstance(opened, SessionReset):
            assert opened.code in (1, 2)
        else:
            assert Open.decode(opened.encode()[HEADER_SIZE:]).router_id == opened.router_id


@given(st.integers(0, 255), st.binary(max_size=255))
def test_any_capability_is_decoded(code: int, value: bytes) -> None:
    capability = decode_capability(code, value)
    octets = capability.encode()
    assert octets[0] == code
    assert decode_capability(code, octets[2:]).encode() == octets


@given(st.binary(max_size=10))
def test_any_ROUTE_REFRESH_is_decoded_or_refused(body: bytes) -> None:
    answer = refused(RouteRefresh.decode, body)
    if isinstance(answer, SessionReset):
        assert (answer.code, answer.subcode, answer.data[HEADER_SIZE:]) == (7, 1, body)
    else:
        assert answer.encode()[HEADER_SIZE:] == body


@given(st.binary(min_size=2, max_size=30))
def test_any_NOTIFICATION_is_decoded(body: bytes) -> None:
    assert Notification.decode(body).encode()[HEADER_SIZE:] == body


@given(st.binary(max_size=60), st.booleans())
def test_any_stream_is_cut_or_refused(octets: bytes, marked: bool) -> None:
    stream = (b"\xff" * 16 if marked else b"") + octets
    answer = refused(split, stream)
    if isinstance(answer, SessionReset):
        assert answer.code == 1
    else:
        messages, used = answer
        assert used == sum(HEADER_SIZE + len(body) for _, body in messages)
