"""OPEN: version, AS, hold time, identifier, parameters, capabilities (RFC 4271 4.2 and 6.2, RFC 5492, RFC 9072)."""

from __future__ import annotations

from tests.conformance import wire
from tests.conformance.case import EBGP, IBGP, Case, add, open_case, reaction_to_open, require, story
from tests.conformance.place import PEER_AS, PEER_ROUTER_ID, Peering, Place
from tests.conformance.session import Failed, capabilities
from tests.conformance.wire import capability, extended_parameter, extended_parameters, multiprotocol, parameter

AREA = "OPEN"
CAPABILITIES = "capabilities"
IGNORED_OR_MALFORMED = ("established", "2/0")


def usual(place: Place) -> bytes:
    """The capabilities of a right OPEN."""
    return multiprotocol("ipv4") + wire.four_octet_as(place.asn)


def body(place: Place, **changes: object) -> bytes:
    """The body of an OPEN that is right but for the changes."""
    fields: dict[str, object] = {
        "asn": place.asn,
        "hold_s": 90,
        "router_id": place.router_id,
        "parameters": parameter(2, usual(place)),
        **changes,
    }
    return wire.open_body(**fields)  # type: ignore[arg-type]


def add_open(name: str, rfc: str, changes: dict[str, object], *reactions: str, peering: Peering = EBGP) -> None:
    add(open_case(f"open-{name}", rfc, lambda place: body(place, **changes), *reactions, peering=peering))


add_open("right-ebgp", "RFC 4271 4.2", {}, "established")
add_open("right-ibgp", "RFC 4271 4.2", {}, "established", peering=IBGP)
for version in (0, 3, 5, 255):
    add_open(f"version-{version}", "RFC 4271 6.2", {"version": version}, "2/1:0004")

no_as4 = parameter(2, multiprotocol("ipv4"))
for asn in (64999, 1, 65535):
    add_open(f"as-{asn}-without-as4", "RFC 4271 6.2", {"asn": asn, "parameters": no_as4}, "2/2")
add_open("as-0", "RFC 7607 2", {"asn": 0, "parameters": no_as4}, "2/2")
add_open("as-trans-without-as4", "RFC 6793 4.1", {"asn": 23456, "parameters": no_as4}, "2/2")
add_open("as-trans-with-as4", "RFC 6793 4.2.1", {"asn": 23456}, "established")
for asn in (0, 64999, 4200000000):
    add_open(
        f"as4-{asn}",
        "RFC 7607 2" if asn == 0 else "RFC 6793 4.1",
        {"parameters": parameter(2, multiprotocol("ipv4") + wire.four_octet_as(asn))},
        "2/2",
    )
add_open("as-of-the-other-kind-of-session", "RFC 4271 6.2", {"asn": PEER_AS, "parameters": no_as4}, "2/2")

for hold_s in (1, 2):
    add_open(f"hold-time-{hold_s}", "RFC 4271 6.2", {"hold_s": hold_s}, "2/6")
for hold_s in (0, 3, 65535):
    add_open(f"hold-time-{hold_s}", "RFC 4271 4.2", {"hold_s": hold_s}, "established")

add_open("identifier-0", "RFC 6286 2.2", {"router_id": bytes(4)}, "2/3")
add_open("identifier-own-ibgp", "RFC 6286 2.2", {"router_id": PEER_ROUTER_ID}, "2/3", peering=IBGP)
add_open("identifier-own-ebgp", "RFC 6286 2.1", {"router_id": PEER_ROUTER_ID}, "established")
for text in ("224.0.0.1", "255.255.255.255", "127.0.0.1", "0.0.0.1"):
    add_open(f"identifier-{text}", "RFC 6286 2.1", {"router_id": wire.ip(text)}, "established")

# Optional parameters
for kind in (3, 77, 254):
    add_open(f"parameter-{kind}", "RFC 4271 6.2", {"parameters": parameter(kind, b"\1\2")}, "2/4")
add_open("parameter-1", "RFC 4271 6.2, RFC 5492 5", {"parameters": parameter(1, b"\0")}, "2/4", "2/5")
add_open("no-parameters", "RFC 4760 8", {"parameters": b""}, "2/2", "established", peering=IBGP)
add_open("parameter-without-capability", "RFC 5492 4", {"parameters": parameter(2, b"")}, "established")
PARAMETERS = {
    "too-long": parameter(2, b"\2\0", length=9),
    "type-only": b"\2",
    "second-cut-off": parameter(2, b"\2\0") + b"\2",
    "second-too-long": parameter(2, b"\2\0") + b"\2\4\2\0",
}
for name, octets in PARAMETERS.items():
    add_open(f"parameter-{name}", "RFC 4271 6.2", {"parameters": octets}, "2/0")
for name, difference in {"above": 1, "far-above": 200}.items():
    octets = parameter(2, multiprotocol("ipv4"))
    add_open(
        f"parameters-length-{name}",
        "RFC 4271 6.2",
        {"parameters": octets, "length": len(octets) + difference},
        "2/0",
        "1/2",
    )


def add_parameters(name: str, rfc: str, made: object, *reactions: str) -> None:
    """A case about the optional parameters, made for the place."""

    def said(place: Place) -> bytes:
        return body(place, parameters=made(place))  # type: ignore[operator]

    add(open_case(f"open-{name}", rfc, said, *reactions))


add_parameters(
    "a-parameter-for-each-capability",
    "RFC 5492 4",
    lambda p: parameter(2, multiprotocol("ipv4")) + parameter(2, wire.four_octet_as(p.asn)) + parameter(2, b"\2\0"),
    "established",
)
add_parameters(
    "parameters-of-253-octets",
    "RFC 4271 4.2",
    lambda p: parameter(2, usual(p)) + parameter(2, capability(200, bytes(253 - 2 - len(usual(p)) - 4))),
    "established",
)


# Extended optional parameters
def add_extended(name: str, made: object, *reactions: str) -> None:
    def said(place: Place) -> bytes:
        return body(place, parameters=b"")[:-1] + made(place)  # type: ignore[operator]

    add(open_case(f"open-extended-{name}", "RFC 9072 2", said, *reactions))


add_extended("short", lambda p: extended_parameters(extended_parameter(2, usual(p))), "established")
add_extended(
    "long",
    lambda p: extended_parameters(
        extended_parameter(2, usual(p) + b"".join(capability(200 + n, bytes(200)) for n in range(5)))
    ),
    "established",
)
add_extended(
    "several",
    lambda p: extended_parameters(extended_parameter(2, usual(p)) + extended_parameter(2, capability(200, bytes(250)))),
    "established",
)
add_extended(
    "plain-length-1", lambda p: extended_parameters(extended_parameter(2, usual(p)), plain_length=1), "established"
)
add_extended("empty", lambda p: extended_parameters(b""), "established", "2/2")
add_extended("length-above", lambda p: extended_parameters(extended_parameter(2, usual(p)), length=200), "2/0", "1/2")
add_extended("parameter-too-long", lambda p: extended_parameters(extended_parameter(2, usual(p), length=999)), "2/0")
add_extended("parameter-cut-off", lambda p: extended_parameters(b"\2\0"), "2/0")
add_extended("parameter-77", lambda p: extended_parameters(extended_parameter(77, b"\0")), "2/4")
add_extended("cut-off", lambda p: b"\xff\xff\0", "2/0", "1/2")


# Capabilities
def add_capability(
    name: str, rfc: str, more: bytes, *reactions: str, peering: Peering = EBGP, instead: bool = False
) -> None:
    def said(place: Place) -> bytes:
        return body(place, parameters=parameter(2, more if instead else usual(place) + more))

    add(open_case(f"capability-{name}", rfc, said, *reactions, peering=peering, area=CAPABILITIES))


for code in (0, 30, 66, 128, 200, 255):
    add_capability(f"unknown-{code}", "RFC 5492 3", capability(code, b"\1\2\3"), "established")
add_capability("unknown-empty", "RFC 5492 3", capability(201), "established")
add_capability("unknown-200-octets", "RFC 5492 3", capability(201, bytes(200)), "established")
add_capability("unknown-often", "RFC 5492 4", capability(201, b"\1") * 60, "established")
add_capability("code-only", "RFC 4271 6.2", b"\2", "2/0")
add_capability("too-long", "RFC 4271 6.2", capability(200, b"\0", length=9), "2/0")
add_capability("last-too-long-by-one", "RFC 4271 6.2", capability(2, b"", length=1), "2/0")

LENGTHS: dict[str, tuple[int, tuple[int, ...], str]] = {
    "multiprotocol": (1, (0, 1, 3, 5), "RFC 4760 8"),
    "route-refresh": (2, (1, 4), "RFC 2918 2"),
    "extended-next-hop": (5, (1, 5, 7), "RFC 8950 4"),
    "extended-message": (6, (1,), "RFC 8654 3"),
    "role": (9, (0, 2), "RFC 9234 4.1"),
    "graceful-restart": (64, (0, 1, 3, 5, 7), "RFC 4724 3"),
    "as4": (65, (0, 2, 3, 5), "RFC 6793 3"),
    "add-path": (69, (0, 1, 3, 5), "RFC 7911 4"),
    "enhanced-refresh": (70, (1,), "RFC 7313 3.1"),
    "long-lived": (71, (1, 6, 8), "RFC 9494 3"),
    "hostname": (73, (0, 1), "RFC 5492 4"),
}
for name, (code, sizes, rfc) in LENGTHS.items():
    for size in sizes:
        add_capability(
            f"{name}-of-{size}-octets", rfc, capability(code, b"\1" * size), *IGNORED_OR_MALFORMED, "2/2", "2/7"
        ) if code == 65 else add_capability(
            f"{name}-of-{size}-octets", rfc, capability(code, b"\1" * size), *IGNORED_OR_MALFORMED
        )
add_capability("hostname-overrun", "RFC 5492 4", capability(73, b"\xc8abc\0"), *IGNORED_OR_MALFORMED)
add_capability("hostname-not-utf-8", "RFC 5492 4", capability(73, b"\4\xff\xfe\x1b[\0"), "established")

for code, value, name in [
    (1, b"\0\1\0\1", "multiprotocol"),
    (2, b"", "route-refresh"),
    (6, b"", "extended-message"),
    (64, b"\0\x78\0\1\1\0", "graceful-restart"),
    (70, b"", "enhanced-refresh"),
]:
    add_capability(f"{name}-repeated", "RFC 5492 4", capability(code, value) * 3, "established")
add_capability("multiprotocol-reserved-octet", "RFC 4760 8", capability(1, b"\0\2\xff\1"), "established")
add_capability("multiprotocol-unknown-family", "RFC 4760 8", capability(1, b"\x12\x34\0\x99"), "established")
add_capability(
    "multiprotocol-40-families",
    "RFC 4760 8",
    b"".join(capability(1, bytes((0, n, 0, 200))) for n in range(40)),
    "established",
)
add_capability("add-path-mode-0", "RFC 7911 4", capability(69, b"\0\1\1\0"), "established")
add_capability("add-path-mode-4", "RFC 7911 4", capability(69, b"\0\1\1\4"), "established")
add_capability("add-path-family-not-told", "RFC 7911 4", capability(69, b"\0\2\1\3"), "established")
add_capability("extended-next-hop-unknown", "RFC 8950 4", capability(5, b"\0\x63\0\x63\0\x63"), "established")
add_capability("graceful-restart-family-not-told", "RFC 4724 3", wire.graceful(10, {"evpn": True}), "established")


async def _no_family(place: Place) -> None:
    session = await place.connect()
    said = body(place, parameters=parameter(2, capability(1, b"\0\x99\0\x99") + wire.four_octet_as(place.asn)))
    await session.send(wire.message(wire.OPEN, said))
    require(await reaction_to_open(session), ("2/7", "established"))


add(Case("capability-no-family-in-common", CAPABILITIES, "RFC 5492 3", _no_family))

# Roles
ROLES = ["provider", "route-server", "route-server-client", "customer", "peer"]
COUNTERPARTS = {
    "provider": "customer",
    "customer": "provider",
    "peer": "peer",
    "route-server": "route-server-client",
    "route-server-client": "route-server",
}
ROLE_AREA = "roles (RFC 9234)"


def add_role(name: str, ours: str, told: bytes, reaction: str, *, strict: bool = False) -> None:
    def said(place: Place) -> bytes:
        return body(place, parameters=parameter(2, usual(place) + told))

    peering = Peering(role=ours, strict_role=strict)
    made = open_case(
        f"role-{name}", "RFC 9234 4.2", said, reaction, peering=peering, area=ROLE_AREA, needs=(9,), needs_option="role"
    )
    add(made)


for its in ROLES:
    for number, theirs in enumerate(ROLES):
        fits = COUNTERPARTS[its] == theirs
        if fits or theirs in ("customer", its):
            add_role(f"{its}-and-{theirs}", its, capability(9, bytes((number,))), "established" if fits else "2/11")
add_role("unknown", "provider", capability(9, b"\x09"), "2/11")
add_role("told-twice-alike", "provider", capability(9, b"\3") * 2, "established")
add_role("told-twice-unlike", "provider", capability(9, b"\3") + capability(9, b"\4"), "2/11")
add_role("not-told", "provider", b"", "established")
add_role("not-told-strict", "provider", b"", "2/11", strict=True)


@story("open-of-the-peer-is-right", AREA, "RFC 4271 4.2, RFC 4760 8, RFC 6793 3")
async def _(place: Place) -> None:
    session = await place.connect()
    octets = session.heard(wire.OPEN)[0].body
    asn, hold_s = int.from_bytes(octets[1:3], "big"), int.from_bytes(octets[3:5], "big")
    if (octets[0], asn, octets[5:9]) != (4, PEER_AS, PEER_ROUTER_ID):
        raise Failed(f"version {octets[0]}, AS {asn}, identifier {octets[5:9].hex()}")
    if hold_s in (1, 2):
        raise Failed(f"hold time {hold_s}")
    told = capabilities(octets)
    if (65, PEER_AS.to_bytes(4, "big")) not in told:
        raise Failed("no capability for 4-octet AS numbers, or of another AS")
    if (1, b"\0\1\0\1") not in told:
        raise Failed("IPv4 unicast is configured and not told")
    if len(told) != len(set(told)):
        raise Failed("a capability is told twice")
