"""A policy tried before it is used: what it would make of routes, and by which statement; nothing is changed."""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from bgpvpn import policies, rules
from bgpvpn.objects import IntentError
from bgpvpn.views import Plain, Row, about, path_plain
from speaker.path import AS_SEQUENCE, Attributes, Path
from speaker.policy import Explanation, Facts, Policy, explain
from speaker.values import Family, Mac, RouteDistinguisher, key_text, prefix_bytes
from speaker.wire.attribute import Interner, make

NOBODY = "192.0.2.1"
"""The neighbour and the next hop of a route of which nothing else is said (RFC 5737)."""


def of_rows(
    policy: Policy,
    rows: Iterable[Row],
    facts: Facts,
    *,
    prefix: str | None,
    most: int,
) -> list[Plain]:
    """Return what a policy would make of routes that are held; ValueError if the prefix is none."""
    is_about = None if prefix is None else about(ipaddress.ip_network(prefix, strict=False))
    wanted = (row for row in rows if is_about is None or is_about(row.family, row.key))
    interner = Interner()
    return [
        {
            "source": row.source,
            "path_id": row.path_id,
            **_told(policy, facts, row.family, row.key, row.path, interner),
        }
        for row in islice(wanted, most)
    ]


def of_route(policy: Policy, given: Mapping[str, Any], family: str | None, local_as: int) -> Plain:
    """Return what a policy would make of a route in words (FIELDS); IntentError names what is wrong."""
    reading = _Given(given)
    wanted = reading.family(family)
    facts = Facts(
        address=reading.one("neighbour", rules.peer_address, NOBODY),
        remote_as=reading.one("neighbour_as", rules.as_number, local_as),
        local_as=local_as,
    )
    interner = Interner()
    key, attributes = reading.key(wanted), reading.attributes(interner)
    return {"source": facts.address, "path_id": None} | _told(
        policy, facts, wanted, key, attributes.path(b""), interner
    )


def _told(policy: Policy, facts: Facts, family: Family, key: bytes, path: Path, interner: Interner) -> Plain:
    found = explain(policy, facts, family, key, path, interner)
    verdict = "rejected" if found.path is None else "accepted" if found.path is path else "changed"
    return {
        "family": family.text,
        "nlri": key_text(family, key),
        "verdict": verdict,
        "by": found.decided_by or "default",
        "changes": [] if found.path is None else list(_changes(found, path, family)),
        "statements": [
            {"statement": each.statement, "matches": not each.lacking, "lacking": each.lacking, "then": each.then}
            for each in found.seen
        ],
    }


def _changes(found: Explanation, path: Path, family: Family) -> Iterable[Plain]:
    """Yield each field that is another in the end, with the statement that changed it last."""
    before = path_plain(path, family)
    assert found.path is not None, "a rejected route is not changed"
    after = path_plain(found.path, family)
    for field in after:
        if before[field] != after[field]:
            by = ""
            for seen in found.seen:
                if (
                    path_plain(Path(seen.before, path.extra), family)[field]
                    != (path_plain(Path(seen.after, path.extra), family)[field])
                ):
                    by = seen.statement
            yield {"field": field, "old": before[field], "new": after[field], "by": by}


class _Given:
    """One reading of a route that somebody made up."""

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.given = given
        for field in given:
            if field not in FIELDS:
                raise IntentError(f"route.{field}", None, f"is not known; there are {', '.join(FIELDS)}")

    def one(self, field: str, rule: rules.Rule, default: Any = None) -> Any:
        """Return a field as a rule has it."""
        value = self.given.get(field)
        if value is None:
            return default
        try:
            return rule(value)
        except ValueError as error:
            raise IntentError(f"route.{field}", value, str(error)) from None

    def several(self, field: str, rule: rules.Rule) -> list[Any]:
        """Return a list whose members are as a rule has them."""
        value = self.given.get(field) or []
        if not isinstance(value, list):
            raise IntentError(f"route.{field}", value, "takes a list")
        found = []
        for each in value:
            try:
                found.append(_whole(rule, each))
            except ValueError as error:
                raise IntentError(f"route.{field}", each, str(error)) from None
        return found

    def family(self, text: str | None) -> Family:
        """Return the family, which has to be one of which a route can be made up."""
        if text is None:
            raise IntentError("family", None, "is wanted with a route")
        try:
            family = Family.parse(text)
        except ValueError as error:
            raise IntentError("family", text, str(error)) from None
        if family not in MADE_UP:
            names = ", ".join(each.text for each in MADE_UP)
            raise IntentError("family", text, f"a route can be given of {names}; try others with a peer")
        return family

    def key(self, family: Family) -> bytes:
        """Return the NLRI key (see speaker.path)."""
        prefix = self.one("prefix", rules.prefix)
        rd: bytes = self.one("rd", lambda text: RouteDistinguisher.parse(text).wire, bytes(8))
        if family is Family.EVPN:
            return self._evpn_key(prefix, rd)
        if prefix is None:
            raise IntentError("route.prefix", None, "is wanted")
        if ipaddress.ip_network(prefix).version != (4 if family.afi == 1 else 6):
            raise IntentError("route.prefix", prefix, f"is not a prefix of {family.text}")
        return (rd if family in (Family.VPNV4, Family.VPNV6) else b"") + prefix_bytes(prefix)

    def _evpn_key(self, prefix: str | None, rd: bytes) -> bytes:
        mac: bytes | None = self.one("mac", lambda text: Mac.parse(rules.text(text)).wire)
        kind = self.one("route_type", rules.number(1, 255), 2 if mac is not None else 5)
        network = None if prefix is None else ipaddress.ip_network(prefix)
        packed = b"" if network is None else network.network_address.packed
        if kind == 2 and mac is not None and (network is None or network.prefixlen == network.max_prefixlen):
            return b"\x02" + rd + bytes(4) + b"\x30" + mac + bytes((8 * len(packed),)) + packed
        if kind == 3 and network is not None and network.prefixlen == network.max_prefixlen:
            return b"\x03" + rd + bytes(4) + bytes((8 * len(packed),)) + packed
        if kind == 5 and network is not None:
            return b"\x05" + rd + bytes(4) + bytes((network.prefixlen,)) + packed
        raise IntentError(
            "route.route_type", kind, "2 takes a mac, with an address as prefix or without; 3 an address; 5 a prefix"
        )

    def attributes(self, interner: Interner) -> Attributes:
        """Return what the route says."""
        numbers = tuple(self.several("as_path", rules.as_number))
        targets = self.several("route_targets", policies.route_target)
        return make(
            interner,
            next_hop=ipaddress.ip_address(self.one("next_hop", rules.address, NOBODY)).packed,
            as_path=((AS_SEQUENCE, numbers),) if numbers else (),
            med=self.one("med", rules.number(0, 0xFFFFFFFF)),
            local_pref=self.one("local_pref", rules.number(0, 0xFFFFFFFF)),
            communities=tuple(int.from_bytes(each, "big") for each in self.several("communities", policies.community)),
            ext_communities=(*targets, *self.several("ext_communities", policies.ext_community)),
            large_communities=tuple(
                struct.unpack("!III", each) for each in self.several("large_communities", policies.large_community)
            ),
        )


MADE_UP = (Family.IPV4, Family.IPV6, Family.VPNV4, Family.VPNV6, Family.EVPN)
FIELDS = (
    "prefix",
    "rd",
    "route_type",
    "mac",
    "as_path",
    "communities",
    "ext_communities",
    "large_communities",
    "route_targets",
    "next_hop",
    "local_pref",
    "med",
    "neighbour",
    "neighbour_as",
)


def _whole(rule: rules.Rule, value: Any) -> Any:
    found = rule(value)
    if rule in policies.OCTETS and len(found) < policies.OCTETS[rule]:
        raise ValueError(f"{value!r} stands for many; one is wanted")
    return found
