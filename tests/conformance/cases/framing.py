"""UPDATE as a whole: its two lengths, NLRI and withdrawn routes (RFC 4271 section 6.3, RFC 7606 sections 3 to 5)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import EBGP, add, message_case, story, update_case
from tests.conformance.place import GOOD, NEW, Peering, Place
from tests.conformance.session import Failed
from tests.conformance.wire import UPDATE, attribute, message, u16

AREA = "UPDATE framing"
PREFIX = b"\x1c\x0a\x00\x00\x10"


def whole(place: Place, **changes: object) -> bytes:
    """An UPDATE with right attributes and one route."""
    told = b"".join(place.attributes("ipv4").values())
    fields: dict[str, object] = {"attributes": told, "nlri": place.nlri("ipv4", GOOD), **changes}
    return wire.update(**fields)  # type: ignore[arg-type]


LENGTHS = [
    ("withdrawn-length-above", {"withdrawn_length": 4000}),
    ("withdrawn-length-leaves-1", {"withdrawn": b"", "withdrawn_length": 2, "attributes": b"", "nlri": b"\0"}),
    ("attributes-length-above", {"attributes_length": 4000}),
    ("attributes-length-above-by-1", {"nlri": b"", "attributes_length": 1, "attributes": b""}),
]
for name, changes in LENGTHS:
    add(message_case(f"update-{name}", AREA, "RFC 4271 6.3", "established", lambda p, c=changes: whole(p, **c), "3/1"))
# A length that ends within an attribute: that one overruns, and its rest is taken for NLRI
add(
    message_case(
        "update-attributes-length-within-an-attribute",
        AREA,
        "RFC 7606 4",
        "established",
        lambda p: whole(p, attributes_length=9),
        "stays",
        "3/*",
    )
)
NLRI = {
    "33-bits": b"\x21\x0a\0\0\0\0",
    "255-bits": b"\xff" + bytes(32),
    "cut-off": b"\x18\x0a\0",
    "length-only": b"\x20",
    "good-then-cut-off": PREFIX + b"\x18\x0a",
    "good-then-33-bits": PREFIX + b"\x21\x0a\0\0\0\0",
}
for name, octets in NLRI.items():
    add(
        message_case(
            f"nlri-{name}",
            AREA,
            "RFC 4271 6.3, RFC 7606 5.3",
            "established",
            lambda p, o=octets: whole(p, nlri=o),
            "3/10",
        ),
        message_case(
            f"withdrawn-{name}",
            AREA,
            "RFC 4271 6.3, RFC 7606 5.3",
            "established",
            lambda p, o=octets: wire.update(withdrawn=o),
            "3/10",
            "3/1",
        ),
    )
STAYS = {
    "end-of-rib": lambda p: wire.end_of_rib("ipv4"),
    "end-of-rib-100-times": lambda p: wire.end_of_rib("ipv4") * 100,
    "end-of-rib-vpnv4": lambda p: wire.end_of_rib("vpnv4"),
    "attributes-without-routes": lambda p: whole(p, nlri=b""),
    "withdrawn-unknown": lambda p: wire.update(withdrawn=b"\x18\x0b\0\0\0"[:4]),
    "withdrawn-default": lambda p: wire.update(withdrawn=b"\0"),
    "withdrawn-800": lambda p: wire.update(withdrawn=b"\x20\x0b\0\0\1" * 800),
    "withdrawn-with-attributes": lambda p: whole(p, withdrawn=b"\x18\x0b\0\0", nlri=b""),
}
for name, said in STAYS.items():
    add(message_case(f"update-{name}", AREA, "RFC 4271 4.3, RFC 4724 2", "established", said, "stays"))
# Without any route an error cannot be met by treat-as-withdraw (RFC 7606 section 5.2)
for name, octets in {
    "origin": attribute(0x40, 1, b"\7"),
    "as-path": attribute(0x40, 2, b"\7"),
    "next-hop": attribute(0x40, 3, b"\7"),
    "communities": attribute(0xC0, 8, b"\7"),
}.items():
    add(
        message_case(
            f"update-without-routes-malformed-{name}",
            AREA,
            "RFC 7606 5.2",
            "established",
            lambda p, o=octets: wire.update(o),
            "3/*",
        )
    )
add(
    message_case(
        "update-without-routes-malformed-atomic-aggregate",
        AREA,
        "RFC 7606 5.2, 7.6",
        "established",
        lambda p: whole(p, attributes=b"".join(p.attributes("ipv4").values()) + attribute(0x40, 6, b"\7"), nlri=b""),
        "stays",
    )
)
add(
    update_case(
        "update-same-route-withdrawn-and-told",
        AREA,
        "RFC 4271 4.3",
        "ipv4",
        lambda p: wire.update(
            b"".join(p.attributes("ipv4").values()),
            p.nlri("ipv4", GOOD) + p.nlri("ipv4", NEW),
            p.nlri("ipv4", GOOD) + p.nlri("ipv4", NEW),
        ),
        "accepted",
    ),
    update_case(
        "update-same-route-twice",
        AREA,
        "RFC 4271 4.3",
        "ipv4",
        lambda p: p.announce("ipv4", GOOD, NEW, NEW, GOOD),
        "accepted",
    ),
    update_case(
        "update-bits-behind-the-prefix",
        AREA,
        "RFC 4271 4.3",
        "ipv4",
        lambda p: p.announce(
            "ipv4",
            nlri=b"".join(p.nlri("ipv4", each)[:-1] + bytes((p.nlri("ipv4", each)[-1] | 15,)) for each in (GOOD, NEW)),
        ),
        "accepted",
    ),
)


@story("withdrawal-of-a-route", AREA, "RFC 4271 4.3", peering=Peering(families=("ipv4",)))
async def _(place: Place) -> None:
    session = await place.establish()
    await session.send(place.announce("ipv4", 1, 2, 4))
    await place.taken("ipv4", 1, 2, 4)
    await session.send(place.withdraw("ipv4", 1, 4))
    await place.gone("ipv4", 1, 4)
    await place.stays("ipv4", 2, for_s=0.3)


@story("withdrawal-of-every-family", AREA, "RFC 4760 4", peering=EBGP)
async def _(place: Place) -> None:
    session = await place.establish()
    told = {family for code, value in session.told() for family in place.peering.families if _is(code, value, family)}
    for family in sorted(told):
        await session.send(place.announce(family, 1, 2))
    for family in sorted(told):
        await place.taken(family, 1, 2)
        await session.send(place.withdraw(family, 1))
    for family in sorted(told):
        await place.gone(family, 1)
        await place.stays(family, 2, for_s=0.1)


def _is(code: int, value: bytes, family: str) -> bool:
    afi, safi = wire.FAMILIES[family]
    return code == 1 and value == u16(afi) + b"\0" + bytes((safi,))


@story("update-of-4096-octets", AREA, "RFC 4271 4.1")
async def _(place: Place) -> None:
    session = await place.establish()
    attributes = b"".join(place.attributes("ipv4").values())
    size = 4096 - 23 - len(attributes) - 2 * 5
    filling = attribute(0xC0, 230, bytes(size - 4))
    said = wire.update(attributes + filling, place.nlri("ipv4", 1) + place.nlri("ipv4", 2))
    if len(said) != 4096:
        raise Failed(f"the case made {len(said)} octets")
    await session.send(said)
    await place.taken("ipv4", 1, 2)
    await session.send(message(UPDATE, u16(0) + u16(0)), place.announce("ipv4", 3))
    await place.taken("ipv4", 3)
