"""BGP messages for tests, written and read without the project's codec: a second opinion, and transcripts for people.

`write` makes a message from words, `read` makes words of messages:

    OPEN as=64512 hold=90 id=192.0.2.1 families=vpnv4,evpn refresh as4=64512 restart=120:vpnv4+ name=pe1
    KEEPALIVE
    NOTIFICATION 6/2 0548656c6c6f
    UPDATE 00000000
    END-OF-RIB vpnv4
    ROUTE-REFRESH vpnv4 1

`restart=` is graceful restart (RFC 4724): seconds, "!" if restarting, "N" if NOTIFICATIONs leave the routes (RFC 8538),
then the families, "+" where forwarding went on.  Other capabilities: `enhanced` (refresh, RFC 7313), `long` (messages,
RFC 8654), `hop6=vpnv4` (RFC 8950), `paths=vpnv4:3` (RFC 7911), `role=3` (RFC 9234), `stale=vpnv4+:3600` (RFC 9494), and
any by its number and hexadecimal octets, `131=00ff`.  ROUTE-REFRESH has its subtype behind, unless that is 0.
"""

from __future__ import annotations

import ipaddress
import struct

FAMILIES = {
    "ipv4": (1, 1),
    "ipv6": (2, 1),
    "vpnv4": (1, 128),
    "vpnv6": (2, 128),
    "evpn": (25, 70),
    "rtc": (1, 132),
    "ipv4-flowspec": (1, 133),
    "ipv6-flowspec": (2, 133),
    "vpnv4-flowspec": (1, 134),
    "vpnv6-flowspec": (2, 134),
}
NAMES = {octets: name for name, octets in FAMILIES.items()}
MARKER = b"\xff" * 16


def message(kind: int, body: bytes = b"") -> bytes:
    """One message of any type."""
    return MARKER + struct.pack("!HB", 19 + len(body), kind) + body


KEEPALIVE = message(4)


def write(text: str) -> bytes:
    """A message from its words; KeyError or ValueError if they make none."""
    word, *rest = text.split()
    match word:
        case "OPEN":
            return message(1, _open(rest))
        case "UPDATE":
            return message(2, bytes.fromhex("".join(rest)))
        case "END-OF-RIB" if rest == ["ipv4"]:
            return message(2, bytes(4))
        case "END-OF-RIB":
            afi, safi = FAMILIES[rest[0]]
            return message(2, struct.pack("!HHBBBHB", 0, 6, 0x80, 15, 3, afi, safi))
        case "NOTIFICATION":
            code, subcode = rest[0].split("/")
            return message(3, bytes((int(code), int(subcode))) + bytes.fromhex("".join(rest[1:])))
        case "KEEPALIVE":
            return KEEPALIVE
        case "ROUTE-REFRESH":
            afi, safi = FAMILIES[rest[0]]
            return message(5, struct.pack("!HBB", afi, int("".join(rest[1:]) or 0), safi))
        case "RAW":
            return bytes.fromhex("".join(rest))
    raise ValueError(f"no such message: {text!r}")


def _open(words: list[str]) -> bytes:
    asn, hold, router_id, capabilities = 64512, 90, "192.0.2.2", b""
    for word in words:
        key, _, value = word.partition("=")
        match key:
            case "as":
                asn = int(value)
            case "hold":
                hold = int(value)
            case "id":
                router_id = value
            case "families":
                for name in value.split(","):
                    afi, safi = FAMILIES[name]
                    capabilities += _capability(1, struct.pack("!HBB", afi, 0, safi))
            case "refresh" | "enhanced" | "long":
                capabilities += _capability({"refresh": 2, "enhanced": 70, "long": 6}[key], b"")
            case "hop6":
                hops = (FAMILIES[name] for name in value.split(","))
                capabilities += _capability(5, b"".join(struct.pack("!HHH", *family, 2) for family in hops))
            case "paths":
                modes = (each.split(":") for each in value.split(","))
                octets = b"".join(struct.pack("!HBB", *FAMILIES[name], int(mode)) for name, mode in modes)
                capabilities += _capability(69, octets)
            case "role":
                capabilities += _capability(9, bytes((int(value),)))
            case "stale":
                capabilities += _capability(71, _stale(value))
            case "as4":
                capabilities += _capability(65, struct.pack("!I", int(value)))
            case "restart":
                capabilities += _capability(64, _restart(value))
            case "name":
                octets = value.encode("unicode_escape").decode().encode().decode("unicode_escape").encode()
                capabilities += _capability(73, bytes((len(octets),)) + octets + b"\0")
            case _ if key.isdecimal():
                capabilities += _capability(int(key), bytes.fromhex(value))
            case _:
                raise ValueError(f"no such field of an OPEN: {word!r}")
    parameters = bytes((2, len(capabilities))) + capabilities if capabilities else b""
    address = ipaddress.IPv4Address(router_id).packed
    return struct.pack("!BHH4sB", 4, asn, hold, address, len(parameters)) + parameters


def _capability(code: int, value: bytes) -> bytes:
    return bytes((code, len(value))) + value


def _restart(text: str) -> bytes:
    seconds, _, families = text.partition(":")
    flags = (0x8000 if "!" in seconds else 0) | (0x4000 if "N" in seconds else 0)
    octets = struct.pack("!H", int(seconds.rstrip("!N")) | flags)
    for name in families.split(",") if families else []:
        afi, safi = FAMILIES[name.rstrip("+")]
        octets += struct.pack("!HBB", afi, safi, 0x80 if name.endswith("+") else 0)
    return octets


def _stale(text: str) -> bytes:
    octets = b""
    for each in text.split(","):
        name, _, seconds = each.partition(":")
        octets += struct.pack("!HBB", *FAMILIES[name.rstrip("+")], 0x80 if name.endswith("+") else 0)
        octets += int(seconds).to_bytes(3, "big")
    return octets


def read(octets: bytes) -> list[str]:
    """The words of each of a run of whole messages; ValueError if the last one is cut off."""
    texts = []
    while octets:
        marker, length, kind = struct.unpack("!16sHB", octets[:19])
        if marker != MARKER or length > len(octets):
            raise ValueError(f"not whole messages: {octets.hex()}")
        texts.append(_read(kind, octets[19:length]))
        octets = octets[length:]
    return texts


def _read(kind: int, body: bytes) -> str:
    match kind:
        case 1:
            return _read_open(body)
        case 2 if body == bytes(4):
            return "END-OF-RIB ipv4"
        case 2 if len(body) == 10 and body[:7] == bytes((0, 0, 0, 6, 0x80, 15, 3)):
            return f"END-OF-RIB {NAMES[struct.unpack('!HB', body[7:])]}"
        case 2:
            return f"UPDATE {body.hex()}"
        case 3:
            return f"NOTIFICATION {body[0]}/{body[1]} {body[2:].hex()}".rstrip()
        case 4:
            return "KEEPALIVE"
        case 5:
            afi, subtype, safi = struct.unpack("!HBB", body)
            return f"ROUTE-REFRESH {NAMES[afi, safi]}{f' {subtype}' if subtype else ''}"
    return f"RAW {message(kind, body).hex()}"


def _read_open(body: bytes) -> str:
    version, asn, hold, router_id, length = struct.unpack("!BHH4sB", body[:10])
    assert version == 4, version
    extended = length == 255 and body[10] == 255  # RFC 9072
    if extended:
        length, body = struct.unpack("!H", body[11:13])[0], body[3:]
    assert length == len(body) - 10, body.hex()
    words = [f"OPEN as={asn} hold={hold} id={ipaddress.IPv4Address(router_id)}"]
    families, rest = [], body[10:]
    while rest:
        kind, size, head = (rest[0], struct.unpack("!H", rest[1:3])[0], 3) if extended else (*rest[:2], 2)
        assert kind == 2, kind
        capabilities, rest = rest[head : head + size], rest[head + size :]
        while capabilities:
            code, size = capabilities[:2]
            value, capabilities = capabilities[2 : 2 + size], capabilities[2 + size :]
            match code:
                case 1:
                    afi, _, safi = struct.unpack("!HBB", value)
                    families.append(NAMES[afi, safi])
                case 2 | 6 | 70 if not value:
                    words.append({2: "refresh", 6: "long", 70: "enhanced"}[code])
                case 5:
                    hops = struct.iter_unpack("!HHH", value)
                    words.append("hop6=" + ",".join(NAMES[afi, safi] for afi, safi, _ in hops))
                case 9:
                    words.append(f"role={value[0]}")
                case 69:
                    modes = struct.iter_unpack("!HBB", value)
                    words.append("paths=" + ",".join(f"{NAMES[afi, safi]}:{mode}" for afi, safi, mode in modes))
                case 71:
                    words.append(f"stale={_read_stale(value)}")
                case 64:
                    words.append(f"restart={_read_restart(value)}")
                case 65:
                    words.append(f"as4={int.from_bytes(value, 'big')}")
                case 73:
                    words.append(f"name={value[1 : 1 + value[0]].decode()}")
                case _:
                    words.append(f"{code}={value.hex()}")
    if families:
        words.insert(1, f"families={','.join(families)}")
    return " ".join(words)


def _read_restart(value: bytes) -> str:
    (head,) = struct.unpack("!H", value[:2])
    families = [struct.unpack("!HBB", value[at : at + 4]) for at in range(2, len(value), 4)]
    names = ",".join(NAMES[afi, safi] + ("+" if flags & 0x80 else "") for afi, safi, flags in families)
    return f"{head & 0xFFF}{'!' if head & 0x8000 else ''}{'N' if head & 0x4000 else ''}:{names}"


def _read_stale(value: bytes) -> str:
    families = [struct.unpack("!HBBBH", value[at : at + 7]) for at in range(0, len(value), 7)]
    return ",".join(
        f"{NAMES[afi, safi]}{'+' if flags & 0x80 else ''}:{high << 16 | low}"
        for afi, safi, flags, high, low in families
    )
