"""How octets come: one by one, many at once, too fast, not read (RFC 4271 sections 4.1 and 6, by way of TCP)."""

from __future__ import annotations

import asyncio

from tests.conformance import wire
from tests.conformance.case import story
from tests.conformance.place import Peering, Place
from tests.conformance.wire import KEEPALIVE, UPDATE, capability, keepalive, refresh

AREA = "transport"
PEERING = Peering(families=("ipv4", "ipv6", "vpnv4", "evpn"))


@story("octet-by-octet-open", AREA, "RFC 4271 4.1", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.connect()
    await session.trickle(session.open() + keepalive())
    await session.message(KEEPALIVE)
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)


@story("octet-by-octet-update", AREA, "RFC 4271 4.1", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    await session.trickle(
        place.announce("ipv4", 1) + keepalive() + place.announce("evpn", 1) + place.announce("ipv6", 1)
    )
    await place.taken("ipv4", 1)
    await place.taken("ipv6", 1)


@story("cut-within-the-header", AREA, "RFC 4271 4.1", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    octets = place.announce("ipv4", 1) + place.announce("ipv4", 2)
    for end in (1, 15, 17, 18, 19, 20):
        await session.send(octets[:end])
        await asyncio.sleep(0.05)
        octets = octets[end:]
    await session.send(octets)
    await place.taken("ipv4", 1, 2)


@story("all-at-once", AREA, "RFC 4271 4.1", peering=PEERING)
async def _(place: Place) -> None:
    """OPEN, KEEPALIVE and routes in one segment, before anything was read."""
    session = place.session()
    await session.connect(place.subject.address, place.subject.port)
    routes = b"".join(place.announce("ipv4", each) for each in range(1, 15))
    await session.send(session.open() + keepalive() + routes + wire.end_of_rib("ipv4"))
    await place.taken("ipv4", *range(1, 15))


@story("keepalives-10000", AREA, "RFC 4271 4.4", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(keepalive() * 10_000, place.announce("ipv4", 1))
    await place.taken("ipv4", 1)


@story("updates-5000", AREA, "RFC 4271 4.3", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    flapping = place.announce("ipv4", 1) + place.withdraw("ipv4", 1)
    await session.send(flapping * 2500, place.announce("ipv4", 2))
    await place.taken("ipv4", 2, within_s=20)
    await place.gone("ipv4", 1)


@story("updates-of-one-octet-attributes-2000", AREA, "RFC 4271 4.3", peering=PEERING)
async def _(place: Place) -> None:
    """The attributes of each differ: nothing that is kept for each may grow without end."""
    session = await place.establish()
    said = (place.announce("ipv4", 1, change={"med": wire.attribute(0x80, 4, wire.u32(each))}) for each in range(2000))
    await session.send(b"".join(said), place.announce("ipv4", 2))
    await place.taken("ipv4", 1, 2, within_s=20)


@story("refreshes-2000", AREA, "RFC 2918 4", peering=PEERING, needs=(2,))
async def _(place: Place) -> None:
    session = await place.establish(capabilities=(capability(2),))
    await session.send(refresh("ipv4") * 1000 + refresh("vpnv4") * 1000, place.announce("ipv4", 1))
    await place.taken("ipv4", 1, within_s=20)


@story("malformed-updates-1000", AREA, "RFC 7606 2", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    wrong = place.announce("ipv4", 1, change={"origin": wire.attribute(0x40, 1, b"\x09")})
    await session.send(wrong * 1000, place.announce("ipv4", 2))
    await place.taken("ipv4", 2, within_s=20)
    await place.gone("ipv4", 1)


@story("not-reading-while-asking", AREA, "RFC 4271 8.2.2", peering=PEERING, needs=(2,), slow=True)
async def _(place: Place) -> None:
    """A peer that asks for all again and again and does not read what comes."""
    session = await place.establish(capabilities=(capability(2),))
    session.pause()
    for _ in range(20):
        await session.send(refresh("ipv4") * 100)
        await asyncio.sleep(0.05)
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1, within_s=20)
    session.resume()
    await session.lives(1)


@story("routes-800-in-one-message", AREA, "RFC 4271 4.3", peering=PEERING)
async def _(place: Place) -> None:
    session = await place.establish()
    many = b"".join(b"\x20\x0b\x01" + wire.u16(place.number * 8 % 60000 + each) for each in range(780))
    said = place.announce("ipv4", nlri=many + place.nlri("ipv4", 1))
    await session.send(said, wire.update(withdrawn=many))
    await place.taken("ipv4", 1)
    await session.send(place.announce("ipv4", 2))
    await place.taken("ipv4", 2)


@story("its-messages-are-whole", AREA, "RFC 4271 4.1", peering=Peering(ibgp=True))
async def _(place: Place) -> None:
    """What it sends can be read, and has attributes whose flags are right."""
    session = await place.establish(capabilities=(capability(2),))
    await session.send(place.announce("ipv4", 1))
    await place.taken("ipv4", 1)
    await session.lives(0.5)
    assert not session.junk, session.junk.hex()
    for each in session.heard(UPDATE):
        withdrawn = int.from_bytes(each.body[:2], "big")
        size = int.from_bytes(each.body[2 + withdrawn : 4 + withdrawn], "big")
        assert 4 + withdrawn + size <= len(each.body), each.body.hex()
        found = wire.attributes_of(each.body[4 + withdrawn :][:size])
        assert not found or 15 in found or {1, 2, 5} <= found.keys(), each.body.hex()
