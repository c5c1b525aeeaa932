"""Policies with every condition and every change, applied to routes that hostile octets were decoded to."""

from __future__ import annotations

import ipaddress

from speaker.path import Attributes, Path
from speaker.policy import (
    Among,
    AsPathMatch,
    Changes,
    Edit,
    Facts,
    Match,
    Policy,
    PrefixRange,
    Statement,
    compiled,
    explain,
    specialised,
)
from speaker.values import Family
from speaker.wire.attribute import Interner

FACTS = Facts(address="192.0.2.2", remote_as=64512, local_as=64513)
TARGET = bytes.fromhex("0002fc0000000064")
NO_EXPORT = b"\xff\xff\xff\x01"
ZERO = Edit(add=(bytes(12),))
SOME = frozenset({1, 3, 64512, 23456, 4200000000})
INTERNER = Interner()


def _range(text: str, least: int, most: int) -> PrefixRange:
    return PrefixRange(ipaddress.ip_network(text), least, most)


def _statement(name: str, match: Match, changes: Changes | None = None) -> Statement:
    return Statement(name=name, match=match, changes=changes or Changes(local_pref=len(name)), then="next")


POLICY = Policy(
    name="everything",
    default="accept",
    statements=(
        _statement("prefixes", Match(prefixes=(_range("10.0.0.0/8", 8, 32), _range("2001:db8::/32", 32, 128)))),
        _statement("lengths", Match(prefixes=(_range("0.0.0.0/0", 0, 8), _range("::/0", 0, 64)))),
        _statement("neighbour", Match(neighbours=(ipaddress.ip_network("192.0.2.0/24"),))),
        _statement("types", Match(route_types=frozenset({2, 5}))),
        _statement("well known", Match(communities=Among(exact=frozenset({NO_EXPORT}), leading=(b"\xfc\0",)))),
        _statement("extended", Match(ext_communities=Among(leading=(b"\x80",)))),
        _statement("large", Match(large_communities=Among(leading=(b"\0\0\0\0",)))),
        _statement(
            "targets",
            Match(route_targets=Among(exact=frozenset({TARGET}))),
            Changes(route_targets=Edit(rewrite=((TARGET, TARGET[:-1] + b"\x65"),), add=(b"\1\2\3\4\5\6\0\7",))),
        ),
        _statement("contains", Match(as_path=AsPathMatch(contains=SOME)), Changes(prepend=(None, 3))),
        _statement("origin", Match(as_path=AsPathMatch(originated_in=SOME)), Changes(prepend=(4200000000, 1))),
        _statement("next to us", Match(as_path=AsPathMatch(neighbour_as=SOME)), Changes(med=0xFFFFFFFF)),
        _statement("short", Match(as_path=AsPathMatch(max_length=3)), Changes(communities=Edit(replace=()))),
        _statement(
            "hop",
            Match(next_hops=(ipaddress.ip_network("192.0.2.0/24"),)),
            Changes(large_communities=ZERO),
        ),
        Statement(name="no", match=Match(as_path=AsPathMatch(contains=frozenset({65536}))), then="reject"),
    ),
)
_DECIDE = compiled(dict.fromkeys(Family, specialised(POLICY, FACTS)), INTERNER)


def decided(family: Family, key: bytes, path: Path) -> tuple[Attributes | None, Attributes | None]:
    """What a route becomes, by the compiled policy and by the one that explains itself; None: rejected."""
    fast = _DECIDE(family, key, path)
    slow = explain(POLICY, FACTS, family, key, path, INTERNER).path
    return None if fast is None else fast.attributes, None if slow is None else slow.attributes
