"""Rules: what a single text, number or flag of a user may be, and its one form.

A rule takes what was given, returns it normalised, and refuses with ValueError, whose text says what it takes and shows
the value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from speaker.terms import PrefixLimit
from speaker.values import Family, Mac

Rule = Callable[[Any], Any]


def text(value: Any) -> str:
    """Text of at most 255 characters, none of them for control."""
    if not isinstance(value, str):
        raise ValueError(f"takes text, not {value!r}")
    if len(value) > 255:
        raise ValueError(f"takes at most 255 characters, not {len(value)}")
    if not value.isprintable():
        raise ValueError(f"takes no control characters: {value!r}")
    return value


def name(value: Any) -> str:
    """What people call a thing; no slash, because names stand in URLs, where "." and ".." mean folders."""
    if "/" in text(value) or value in (".", ".."):
        raise ValueError(f"takes no '/' and neither '.' nor '..': {value!r}")
    return str(value)


def identifier(value: Any) -> str:
    """What programs call a thing."""
    if re.fullmatch(r"[A-Za-z0-9._:-]{1,64}", text(value)) is None or value in (".", ".."):
        raise ValueError(f"takes 1 to 64 letters, digits, dots, colons, dashes and underlines, not {value!r}")
    return str(value)


def flag(value: Any) -> bool:
    """True or false, and nothing that passes for it."""
    if not isinstance(value, bool):
        raise ValueError(f"takes true or false, not {value!r}")
    return value


def number(low: int, high: int) -> Callable[[Any], int]:
    """Return the rule for whole numbers from low to high."""

    def rule(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"takes a number from {low} to {high}, not {value!r}")
        return value

    return rule


def choice(*words: str) -> Callable[[Any], str]:
    """Return the rule for one of these words."""

    def rule(value: Any) -> str:
        if value not in words:
            raise ValueError(f"takes {', '.join(words[:-1])} or {words[-1]}, not {value!r}")
        return str(value)

    return rule


def choice_of_numbers(*numbers: int) -> Callable[[Any], int]:
    """Return the rule for one of these numbers."""

    def rule(value: Any) -> int:
        if value not in numbers or isinstance(value, bool):
            raise ValueError(f"takes {' or '.join(map(str, numbers))}, not {value!r}")
        return int(value)

    return rule


def local_pref(value: Any) -> int:
    """A degree of preference (RFC 4271 section 5.1.5)."""
    return number(0, 0xFFFFFFFF)(value)


def local_pref_range(value: Any) -> tuple[int, int]:
    """The lowest and the highest degree of preference."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"takes the lowest and the highest LOCAL_PREF, not {value!r}")
    low, high = map(local_pref, value)
    if low > high:
        raise ValueError(f"begins above its end: {value!r}")
    return low, high


def optional(rule: Rule) -> Rule:
    """Return a rule that lets None through."""
    return lambda value: None if value is None else rule(value)


def several(rule: Callable[[Any], object]) -> Callable[[Any], tuple[str, ...]]:
    """Return the rule for a list of texts; it drops repetitions and keeps the order."""

    def each(items: Any) -> tuple[str, ...]:
        if isinstance(items, str) or not isinstance(items, Iterable):
            raise ValueError(f"takes a list, not {items!r}")
        return tuple(dict.fromkeys(str(rule(text(item))) for item in items))

    return each


def address(value: Any) -> str:
    """The address of a host that others can reach."""
    normal = peer_address(value)
    if ipaddress.ip_address(normal).is_loopback:
        raise ValueError(f"{value!r} is a loopback address")
    return normal


def peer_address(value: Any) -> str:
    """The address of a host, this one included."""
    try:
        parsed = ipaddress.ip_address(text(value))
    except ValueError:
        raise ValueError(f"{value!r} is not an IP address") from None
    if getattr(parsed, "scope_id", None):
        raise ValueError(f"{value!r} names an interface; an address by itself is wanted")
    if parsed.is_multicast or parsed.is_unspecified or parsed.is_link_local:
        raise ValueError(f"{value!r} is a multicast, unspecified or link-local address")
    if parsed.version == 4 and parsed.packed[0] in (0, *range(240, 256)):
        raise ValueError(f"{value!r} is in 0.0.0.0/8 or 240.0.0.0/4, which are reserved (RFC 6890)")
    return str(parsed)


def address_with_length(value: Any) -> str:
    """The address of a host, alone or with the length of its subnet: "10.0.0.5", "10.0.0.5/24"."""
    host, slash, length = text(value).partition("/")
    normal = address(host)
    if not slash:
        return normal
    try:
        interface = ipaddress.ip_interface(f"{normal}/{length}")
    except ValueError:
        raise ValueError(f"{value!r} has no valid prefix length") from None
    if not is_host(interface.ip, interface.network):
        raise ValueError(f"{value!r} is the network's own or broadcast address")
    return str(interface)


def prefix(value: Any) -> str:
    """A prefix of unicast addresses; bits beyond its length become 0."""
    try:
        network = ipaddress.ip_network(text(value), strict=False)
    except ValueError:
        raise ValueError(f"{value!r} is not a prefix") from None
    if network.is_multicast or getattr(network.network_address, "scope_id", None):
        raise ValueError(f"{value!r} is not a prefix of unicast addresses")
    return str(network)


def is_host(
    host: ipaddress.IPv4Address | ipaddress.IPv6Address, network: ipaddress.IPv4Network | ipaddress.IPv6Network
) -> bool:
    """Tell whether an address is in a subnet and may be somebody's there."""
    if host not in network:
        return False
    if network.version == 6 or network.prefixlen >= 31:
        return True
    return host not in (network.network_address, network.broadcast_address)


def mac(value: Any) -> str:
    """The MAC address of one station."""
    parsed = Mac.parse(text(value))
    if parsed.wire[0] & 1 or not any(parsed.wire):
        raise ValueError(f"{value!r} is not the MAC address of one station")
    return str(parsed)


def interface(value: Any) -> str:
    """The name of a network device, as the kernel takes it (dev_valid_name)."""
    if re.fullmatch(r"[^\s/:]{1,15}", text(value)) is None or value in (".", "..") or len(value.encode()) > 15:
        raise ValueError(f"{value!r} is not the name of a network interface")
    return str(value)


def ovs_port(value: Any) -> str:
    """A port of a bridge of Open vSwitch, by its OpenFlow number or its name."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(number(1, 0xFEFF)(value))
    return str(number(1, 0xFEFF)(int(value))) if text(value).isdecimal() else interface(value)


def namespace(value: Any) -> str:
    """The name of a network namespace, as `ip netns` shows it; "" is the daemon's own."""
    if "/" in text(value) or value in (".", ".."):
        raise ValueError(f"takes a name as `ip netns` shows it, not {value!r}")
    return str(value)


def as_number(value: Any) -> int:
    """The number of an autonomous system."""
    asn = number(1, 0xFFFFFFFF)(value)
    if asn == 23456:
        raise ValueError("AS 23456 stands for others (RFC 6793) and is nobody's own")
    return asn


def hold_time(value: Any) -> int:
    """Seconds after which a silent peer is given up; 0: never (RFC 4271 section 4.2)."""
    seconds = number(0, 65535)(value)
    if seconds in (1, 2):
        raise ValueError(f"takes 0 or at least 3 seconds, not {seconds} (RFC 4271 section 4.2)")
    return seconds


def families(value: Any) -> tuple[str, ...]:
    """Address families, at least one."""
    names = several(lambda text: Family.parse(text).text)(value)
    if not names:
        raise ValueError("takes at least one family")
    return names


def some_families(value: Any) -> tuple[str, ...]:
    """Address families, or none."""
    return several(lambda text: Family.parse(text).text)(value)


def range_or_address(value: Any) -> str:
    """Where a peer is, or a prefix in which any number of them are."""
    if "/" not in text(value):
        return peer_address(value)
    network = ipaddress.ip_network(prefix(value))
    if network.is_link_local or network.is_unspecified:
        raise ValueError(f"{value!r} is a prefix in which no peer can be")
    return str(network)


def policies(value: Any) -> str | dict[str, str]:
    """The name of a policy, or a table of names by family."""
    if isinstance(value, str):
        return identifier(value)
    if not isinstance(value, Mapping) or not value:
        raise ValueError(f"takes the name of a policy, or a table of them by family, not {value!r}")
    return {Family.parse(text(family)).text: identifier(each) for family, each in value.items()}


EVERY_FAMILY = "all"


def prefix_limits(value: Any) -> dict[str, PrefixLimit]:
    """How many routes a peer may tell: a limit for every family, or a table of them by family, "all" for the others."""
    if not isinstance(value, Mapping) or "most" in value:
        return {EVERY_FAMILY: _prefix_limit(value)}
    return {
        family if family == EVERY_FAMILY else Family.parse(text(family)).text: _prefix_limit(each)
        for family, each in value.items()
    }


def _prefix_limit(value: Any) -> PrefixLimit:
    if isinstance(value, PrefixLimit):
        return value
    by: dict[str, Rule] = {
        "most": number(1, 0xFFFFFFFF),
        "warn_percent": number(1, 100),
        "action": choice("block", "warn", "restart"),
        "restart_s": _restart_s,
    }
    if not isinstance(value, Mapping):
        return PrefixLimit(most=by["most"](value))
    for key in value:
        if key not in by:
            raise ValueError(f"{key!r} is not known; there are {', '.join(by)}")
    if "most" not in value:
        raise ValueError("'most' is wanted")
    found = {}
    for key, each in value.items():
        try:
            found[key] = by[key](each)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None
    return PrefixLimit(**found)


def _restart_s(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86400:
        raise ValueError(f"takes 1 to 86400 seconds, not {value!r}")
    return float(value)
