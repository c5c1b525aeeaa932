"""What is mutated: messages of real routers, and our own of every family and combination of capabilities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import attrs

from speaker.path import AS_CONFED_SEQUENCE, AS_SEQUENCE, AS_SET, Attributes
from speaker.session import ROLES, Send, Session, Settings
from speaker.values import Family
from speaker.wire.attribute import Interner
from speaker.wire.capability import Fqdn, Unknown
from speaker.wire.message import KEEPALIVE, Notification, Open, RouteRefresh
from speaker.wire.update import encode_updates, encode_withdrawals, end_of_rib

CAPTURES = Path(__file__).resolve().parents[1] / "vectors/captures.jsonl"

RD = bytes.fromhex("0000fc0000000001")
MAC = bytes.fromhex("fa163e000001")
ESI = bytes.fromhex("00112233445566778899")
TAG = bytes(4)
V4 = [bytes((10, 1, 2, 3)), bytes((192, 0, 2, 1))]
V6 = [bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("fd000000000000000000000000000009")]
LABELS = [bytes.fromhex("003e91"), bytes.fromhex("000011"), bytes.fromhex("fffff1")]

Route = tuple[bytes, bytes]


def _prefixes(width: int) -> list[bytes]:
    address = bytes(range(16, 16 + width // 8))
    found = []
    for length in (0, 1, 7, 8, 9, 24, width // 2 + 3, width - 1, width):
        octets = bytearray(address[: (length + 7) // 8])
        if length & 7:
            octets[-1] &= 0xFF << 8 - (length & 7) & 0xFF
        found.append(bytes(octets) + bytes((length,)))
    return found


def _evpn() -> list[Route]:
    found: list[Route] = [(b"\x01" + RD + ESI + TAG, LABELS[0])]
    for ip in (b"", V4[0], V6[0]):
        key = b"\x02" + RD + TAG + b"\x30" + MAC + bytes((len(ip) * 8,)) + ip
        found += [(key, ESI + LABELS[0]), (key[:-1] + b"\x20" if ip else key, bytes(10) + LABELS[0] + LABELS[1])]
    for ip in (V4[0], V6[0]):
        sized = bytes((len(ip) * 8,)) + ip
        found += [(b"\x03" + RD + TAG + sized, b""), (b"\x04" + RD + ESI + sized, b"")]
        whole = ip[: len(ip) // 2] + bytes(len(ip) // 2)
        found.append((b"\x05" + RD + TAG + bytes((len(ip) * 4,)) + whole, bytes(10) + bytes(len(ip)) + LABELS[2]))
    return found


_COMPONENTS_4 = [
    "01180a0102",  # destination 10.1.2.0/24
    "0210c000",  # source
    "038106",  # IP protocol = 6
    "0303068111",  # = 6 or = 17
    "0491c0de",  # a port of 2 octets
    "050300d50400",
    "068150",
    "078108",
    "088100",
    "098112",
    "0a911000",
    "0b812e",
    "0c8101",
]
_COMPONENTS_6 = ["01400020010db800000001", "0240200db80000", "038106", "0d8101", "0da1000fffff", "058150"]


def _flows(components: list[str], front: bytes) -> list[Route]:
    parts = [bytes.fromhex(each) for each in components]
    found = [(front + part, b"") for part in parts]
    found.append((front + b"".join(parts[:3]), b""))
    found.append((front + b"\x05" + b"\x01\x50" * 150 + b"\x81\x50", b""))  # longer than 240 octets
    return found


ROUTES: dict[Family, list[Route]] = {
    Family.IPV4: [(prefix, b"") for prefix in _prefixes(32)],
    Family.IPV6: [(prefix, b"") for prefix in _prefixes(128)],
    Family.VPNV4: [(RD + prefix, LABELS[n % 3]) for n, prefix in enumerate(_prefixes(32))],
    Family.VPNV6: [(RD + prefix, LABELS[n % 3]) for n, prefix in enumerate(_prefixes(128))],
    Family.EVPN: _evpn(),
    Family.RTC: [
        (b"\0", b""),
        (bytes.fromhex("0000fc00") + b"\x20", b""),
        (bytes.fromhex("0000fc000002fc0000000064") + b"\x60", b""),
    ],
    Family.IPV4_FLOWSPEC: _flows(_COMPONENTS_4, b""),
    Family.IPV6_FLOWSPEC: _flows(_COMPONENTS_6, b""),
    Family.VPNV4_FLOWSPEC: _flows(_COMPONENTS_4, RD),
    Family.VPNV6_FLOWSPEC: _flows(_COMPONENTS_6, RD),
}
"""Keys and extra parts, as speaker.path has them."""

EXT_COMMUNITIES = tuple(
    bytes.fromhex(each)
    for each in (
        "0002fc0000000064",  # route targets of the three forms
        "0102c00002010064",
        "0202fffffffe0064",
        "0003fc0000000064",  # route origin
        "030c000000000008",  # encapsulation
        "0600010000000007",  # MAC mobility
        "0603fa163e000001",  # router's MAC
        "030d000000000000",  # default gateway
        "0602fa163e000001",  # ES-import
        "060100000003e910",  # ESI label
        "010bc00002010064",  # VRF route import
        "8006000049742400",  # traffic rates, actions, redirection and marking of flow specifications
        "8007000000000003",
        "8008fc0000000064",
        "800900000000002e",
        "4004fc0000989680",  # link bandwidth
        "ffffffffffffffff",
    )
)

_FULL = Attributes(
    next_hop=V4[1],
    origin=2,
    as_path=((AS_SEQUENCE, (65010, 4200000000, 23456)), (AS_SET, (1, 65535, 65536)), (AS_SEQUENCE, (7,))),
    med=0,
    local_pref=100,
    atomic_aggregate=True,
    aggregator=(4200000000, V4[0]),
    communities=(0xFFFFFF01, 0xFFFF0007, 65010 << 16 | 1),
    ext_communities=EXT_COMMUNITIES,
    large_communities=((4200000000, 1, 2), (0, 0, 0)),
    originator_id=V4[1],
    cluster_list=(V4[0], V4[1]),
    pmsi=(0, 6, LABELS[0], V4[1]),
    only_to_customer=64512,
    unknown=((0xE0, 199, b"\x01\x02"), (0xD0, 200, bytes(300))),
)
_SMALL = Attributes(next_hop=V4[1], local_pref=100, ext_communities=EXT_COMMUNITIES[:1])
_CONFEDERATED = Attributes(
    communities=(0xFFFF0006,),
    next_hop=V4[1],
    local_pref=0,
    as_path=((AS_CONFED_SEQUENCE, (65001, 65002)), (AS_SEQUENCE, (3,))),
)


@attrs.frozen
class Form:
    """What of a session tells how its UPDATEs are to be read."""

    as4: bool
    add_path: bool


FORMS = tuple(Form(as4, add_path) for as4 in (True, False) for add_path in (True, False))


def updates(form: Form) -> Iterator[bytes]:
    """UPDATEs of ours in all families."""
    for family, routes in ROUTES.items():
        yield end_of_rib(family)
        told = [(number.to_bytes(4, "big") * form.add_path + key, extra) for number, (key, extra) in enumerate(routes)]
        yield from encode_withdrawals(family, [key for key, _ in told], add_path=form.add_path)
        for attributes in (_FULL, _SMALL, _CONFEDERATED):
            for hop in (V4[1], V6[0]):
                made = attrs.evolve(attributes, next_hop=hop, paths={})
                some = told if attributes is _FULL else told[:2]
                yield from encode_updates(family, made, some, as4=form.as4, limit=65535, add_path=form.add_path)


def opens() -> Iterator[bytes]:
    """OPENs of ours: with every capability on and off, and one that needs the form of RFC 9072."""
    every = tuple(Family)
    for families in (every, (Family.VPNV4,), (Family.IPV4, Family.VPNV6, Family.EVPN)):
        for full in (False, True):
            settings = Settings(
                local_as=4200000001 if full else 64513,
                remote_as=64512,
                router_id=V4[1],
                families=families,
                restart_time_s=120 if full else 0,
                long_lived_s=3600 if full else 0,
                host_name="pe1.example" if full else "",
                role=ROLES[len(families) % 5] if full else None,
                add_path_receive=frozenset(families) if full else frozenset(),
                add_path_send=frozenset(families) if full else frozenset(),
            )
            session = Session(settings, Interner(), restarting=full, forwarding=frozenset(families))
            yield from (each.octets for each in session.connected(0.0) if isinstance(each, Send))
    yield Open(64513, 0, V4[1]).encode()
    yield Open(23456, 3, V4[1], (Unknown(131, bytes(200)), Unknown(0, b""), Fqdn("x" * 64, "é" * 32))).encode()


def others() -> Iterator[bytes]:
    """All other messages."""
    yield KEEPALIVE
    yield from (
        Notification(*each).encode()
        for each in ((6, 2, b"\x05Hello"), (6, 4, b"\xff\x1b[2J"), (6, 1), (3, 1, bytes(99)))
    )
    yield from (RouteRefresh(family, subtype).encode() for family in Family for subtype in (0, 1, 2, 255))


def captures(form: Form) -> Iterator[bytes]:
    """UPDATEs of real routers."""
    for line in CAPTURES.read_text().splitlines():
        told = json.loads(line)
        if Form(told["negotiated"]["as4"], bool(told["negotiated"]["addpath"])) == form:
            yield bytes.fromhex(told["hex"])
