"""Making, finding and removing our devices, and the switches of the node that they need."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from pathlib import Path

from bgpvpn.dataplane import encode, links, rules
from bgpvpn.dataplane.encode import DELLINK, GETLINK, NEWADDR, ip_address
from bgpvpn.dataplane.links import NOWHERE, Device
from bgpvpn.dataplane.linux import AFIS
from bgpvpn.dataplane.rows import UNREACHABLE_METRIC, BridgeLink, Link, Refusal, TunnelLink, VrfLink, VxlanLink
from bgpvpn.dataplane.sockets import Requests
from bgpvpn.dataplane.wire import CREATE, REPLACE, Failure, Request
from bgpvpn.dataplane.words import ip

_SYSCTL = Path("/proc/sys/net")  # of the network namespace of whoever opens a file below it


class Refused(Exception):
    """An operation cannot be done; caught where the operations are gone through."""

    def __init__(self, reason: str, number: int | None = None, waits: bool = False) -> None:
        super().__init__(reason)
        self.refusal = Refusal(reason, number, waits)


class Devices:
    """The devices of the namespace that the requests go to."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self.others_tables: dict[int, str] = {}  # of VRF devices that are not ours, and their names, when last read
        self.worked_on: set[int] = set()  # indexes, until cleared by who reads it
        self.removed: set[int] = set()  # likewise

    def find(self, name: str) -> Device | None:
        """Return the device with a name, None when there is none."""
        return self._get(links.by_name(name))

    def find_alternative(self, name: str) -> Device | None:
        """Return the device with an alternative name, None when there is none."""
        return self._get(links.by_alternative(name))

    def at(self, index: int) -> Device | None:
        """Return the device with an index, None when there is none."""
        return self._get(links.by_index(index)) if index else None

    def _get(self, body: bytes) -> Device | None:
        (answer,) = self._requests.ask([(GETLINK, 0, body)])
        match answer:
            case bytes():
                return links.device(answer)
            case Failure() if answer.errno != errno.ENODEV:
                raise OSError(answer.errno, f"netlink: {answer.words}")
        return None

    def all(self, master: int = 0) -> dict[int, Device]:
        """Return all devices, or those in another device, by index."""
        found = self._requests.dump(
            GETLINK,
            links.by_master(master) if master else links.by_index(0),
            lambda messages: [links.device(message.body) for message in messages],
        )
        if not master:
            tables = ((links.vrf_table(device), device.name) for device in found if not device.ours)
            self.others_tables = {table: name for table, name in tables if table is not None}
        return {device.index: device for device in found}

    def row(self, device: Device, names: Mapping[int, str]) -> Link | None:
        """Return the row of a device, as in `links.row`."""
        takes_mpls = device.kind not in ("gre", "ip6gre") or _read(f"mpls/conf/{device.name}/input") == "1"
        return links.row(device, names, takes_mpls)

    def make(self, name: str, link: Link) -> int:
        """Make a device equal to a row and return its index."""
        there = self.find(name)
        if there is not None and not there.ours:
            raise Refused(f"{name}: somebody else has a device of this name", errno.EEXIST)
        master, made = self._master(name, link), False
        if there is not None:
            row = links.row(there, {})
            if row is None or links.fixed(row) != links.fixed(link):
                self._remove(there)
                there = None
        if there is None:
            if isinstance(link, VrfLink) and (other := self.find(self.others_tables.get(link.table, ""))) is not None:
                raise Refused(f"{name}: table {link.table} is that of {other.name} already", errno.EEXIST)
            self._do(f"{name}: cannot be made", links.creation(name, link), clash=_clash(link))
            there, made = self.find(name), True
            if there is None:
                raise Refused(f"{name}: was removed while it was made", errno.ENODEV)
        self.worked_on.add(there.index)
        self._do(f"{name}: cannot be set", *links.settings(there, link, master, made))
        self._switch(name, link)
        self._do(f"{name}: cannot be set up", links.going_up(there.index))
        if isinstance(link, BridgeLink) and link.gateway:
            # Neighbour discovery asks from a link-local address.  Made of the gateway's MAC it is the same everywhere,
            # so the kernel must not look for duplicates, as it would if it made one itself.
            address = ip_address(there.index, links.link_local(link.mac or there.mac), 64)
            self._do(f"{name}: no link-local address", (NEWADDR, CREATE | REPLACE, address))
        return there.index

    def remove(self, name: str) -> None:
        """Remove a device if it is there and ours."""
        there = self.find(name)
        if there is not None and there.ours:
            self._remove(there)

    def without_bridges(self) -> None:
        """The last bridge without a VRF that is known is gone: so goes the VRF of all of them, if none is left."""
        there = self.find(NOWHERE)
        if there is not None and there.ours and not self.all(there.index):
            self._remove(there)
            self._do(NOWHERE, *_ends(None))

    def without_vrfs(self) -> None:
        """The last VRF of the node's is gone: packets are routed as before the first, if no other of ours is left."""
        if self.find(NOWHERE) is None and (failure := rules.as_before(self._requests)):
            raise Refused(f"cannot take away the rule for VRFs: {failure.words}", failure.errno)

    def _remove(self, device: Device) -> None:
        self.worked_on.add(device.index)
        self._do(f"{device.name}: cannot be removed", (DELLINK, 0, links.by_index(device.index)))
        self.removed.add(device.index)

    def _master(self, name: str, link: Link) -> int:
        master = links.master_of(link)
        if master is None:
            return self._nowhere() if isinstance(link, BridgeLink) else 0
        device = self.find(master)
        if device is None:
            raise Refused(f"{name}: {master}, that it goes into, is not there", errno.ENODEV)
        if not device.ours:
            raise Refused(f"{name}: {master}, that it goes into, is somebody else's", errno.EEXIST)
        return device.index

    def _nowhere(self) -> int:
        self._do(f"{NOWHERE}: cannot have an end", *_ends(UNREACHABLE_METRIC))  # first, so that it never leads anywhere
        there = self.find(NOWHERE)
        return there.index if there is not None and there.ours and there.up else self.make(NOWHERE, links.NOWHERE_LINK)

    def _do(self, what: str, *requests: Request, clash: str = "") -> None:
        for request in requests:
            for failure in self._requests.do([request]).values():
                words = clash if clash and failure.errno == errno.EEXIST else failure.words
                raise Refused(f"{what}: {words}", failure.errno)

    def _switch(self, name: str, link: Link) -> None:
        match link:
            case VrfLink():
                if failure := rules.vrfs_first(self._requests):
                    raise Refused(f"{name}: cannot put the rule for VRFs first: {failure.words}", failure.errno)
                _write(name, "ipv6/conf/all/forwarding", 1)  # IPv6 has no such switch for a device of its own
            case TunnelLink():
                _write(name, f"mpls/conf/{name}/input", 1)
            case BridgeLink():
                _write(name, f"ipv4/neigh/{name}/proxy_delay", 0)  # else an answer waits for up to 0.8 s


def _ends(wanted: int | None) -> list[Request]:
    table = links.NOWHERE_LINK.table
    return [
        request
        for afi in AFIS
        for request in encode.requests(("unreachable", (table, afi), wanted, UNREACHABLE_METRIC), lambda _: 0)
    ]


def raise_labels(stop: int) -> None:
    """Let the kernel have label routes up to a label; one without MPLS refuses them one by one.  OSError."""
    path = "mpls/platform_labels"
    room = _read(path)
    if room is not None and int(room) < stop:
        (_SYSCTL / path).write_text(str(stop))


def _read(path: str) -> str | None:
    try:
        return (_SYSCTL / path).read_text().strip()
    except OSError:
        return None


def _write(name: str, path: str, value: int) -> None:
    if _read(path) == str(value):
        return
    try:
        (_SYSCTL / path).write_text(str(value))
    except OSError as error:
        setting = "net." + path.replace("/", ".")
        raise Refused(f"{name}: cannot set {setting}: {error.strerror}", error.errno) from error


def _clash(link: Link) -> str:
    match link:
        case VxlanLink():
            return f"another device has VNI {link.vni} with port {link.port} already"
        case TunnelLink():
            remote = ip(link.remote) if any(link.remote) else "anyone"
            return f"another tunnel from {ip(link.local)} to {remote} is there already"
    return ""
