"""Users' interfaces in our bridges: marked, put in, taken out, and fetched from other network namespaces.

An interface stays the user's: it gets alternative names that say whose port it is and where it came from, and loses
them again.  One that lives in another namespace comes to ours, under a name made of where it came from, for as long
as it is attached.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bgpvpn.dataplane import links
from bgpvpn.dataplane.devices import Devices, Refused
from bgpvpn.dataplane.encode import DELLINKPROP, NEWLINKPROP
from bgpvpn.dataplane.links import Device
from bgpvpn.dataplane.rows import Attached
from bgpvpn.dataplane.sockets import Requests
from bgpvpn.dataplane.wire import Request

_PORT, _FROM = "bgpvpn-port-", "bgpvpn-from-"
_NAME_OCTETS = 127  # of an alternative name
_NAMESPACES = Path("/run/netns")


def row(device: Device, names: Mapping[int, str]) -> tuple[str, Attached] | None:
    """Return the port that a device is marked as, and its row; None for any other device."""
    ports = [name[len(_PORT) :] for name in device.names if name.startswith(_PORT)]
    if not ports:
        return None
    interface, netns = _origin(device)
    return ports[0], Attached(interface, netns, names.get(device.master, ""))


def _origin(device: Device) -> tuple[str, str]:
    for name in device.names:
        if name.startswith(_FROM):
            interface, _, netns = name[len(_FROM) :].partition("/")  # no interface has a slash in its name
            return interface, netns
    return device.name, ""


def _former(port: str, device: Device, wanted: Attached) -> list[str]:
    """Return the marks of an attached interface that this one replaces, while the interface stays where it is.

    One that several ports share is called what it is, and one with a single port like that port: the mark changes
    when a second port comes, or goes.
    """
    if _origin(device) != (wanted.interface, wanted.netns):
        return []
    shared = f"{wanted.netns}/{wanted.interface}"
    others = [name for name in device.names if name.startswith(_PORT) and name != _PORT + port]
    return [name for name in others if shared in (port, name[len(_PORT) :])]


class Attachments:
    """Puts interfaces into bridges; `home` is a descriptor of our own namespace."""

    def __init__(self, requests: Requests, devices: Devices, home: int) -> None:
        self._requests = requests
        self._devices = devices
        self._home = home

    def attach(self, port: str, wanted: Attached) -> tuple[int, Attached]:
        """Put the interface of a port into its bridge; return its index and its row."""
        marked = self._devices.find_alternative(_PORT + port)
        if marked is not None and _origin(marked) != (wanted.interface, wanted.netns):
            self._give_back(port, marked)
            marked = None
        bridge = self._devices.find(wanted.bridge)
        if bridge is None or not bridge.ours:
            raise Refused(f"port {port}: bridge {wanted.bridge} is not there", errno.ENODEV)
        device = marked or self._fetched(port, wanted)
        former = _former(port, device, wanted)
        self._check(port, device, wanted, bridge, former)
        self._devices.worked_on.add(device.index)
        if marked is None:
            names = [_PORT + port]
            if wanted.netns and not former:
                names.append(f"{_FROM}{wanted.interface}/{wanted.netns}")
            self._do(port, [links.naming(NEWLINKPROP, device.index, *names)])
        if former:
            self._do(port, [links.naming(DELLINKPROP, device.index, *former)])
        try:
            self._do(port, [links.into(device.index, bridge.index), links.going_up(device.index)])
        except Refused:
            if marked is None and (left := self._devices.at(device.index)) is not None:
                self._give_back(port, left)
            raise
        return device.index, wanted

    def detach(self, port: str) -> int | None:
        """Take the interface of a port out of its bridge, if it is there, and give it back; return its index."""
        device = self._devices.find_alternative(_PORT + port)
        if device is None:
            return None
        self._give_back(port, device)
        return device.index

    def _fetched(self, port: str, wanted: Attached) -> Device:
        if not wanted.netns:
            device = self._devices.find(wanted.interface)
            if device is None:
                raise Refused(f"port {port}: there is no interface {wanted.interface}", errno.ENODEV, waits=True)
            return device
        name = _name_here(wanted)
        if len(f"{_FROM}{wanted.interface}/{wanted.netns}".encode()) > _NAME_OCTETS:
            raise Refused(f"port {port}: the name of namespace {wanted.netns} is too long", errno.ENAMETOOLONG)
        device = self._devices.find(name)
        if device is not None:
            return device  # fetched before, and not yet marked when we were stopped
        with _opened(wanted.netns) as namespace:
            if namespace is None:
                raise Refused(f"port {port}: there is no network namespace {wanted.netns}", errno.ENOENT, waits=True)
            with Requests(namespace) as there:
                away = Devices(there).find(wanted.interface)
                if away is None:
                    raise Refused(
                        f"port {port}: there is no interface {wanted.interface} in namespace {wanted.netns}",
                        errno.ENODEV,
                        waits=True,
                    )
                self._do(port, [links.moving(away.index, self._home, name)], there)
        device = self._devices.find(name)
        if device is None:
            raise Refused(f"port {port}: {wanted.interface} was taken while it was fetched", errno.ENODEV, waits=True)
        return device

    def _check(self, port: str, device: Device, wanted: Attached, bridge: Device, former: Sequence[str]) -> None:
        named = f"port {port}: {wanted.interface}"
        if device.ours:
            raise Refused(f"{named} is a device of our own", errno.EINVAL)
        for name in device.names:
            if name.startswith(_PORT) and name != _PORT + port and name not in former:
                raise Refused(f"{named} is port {name[len(_PORT) :]} already", errno.EBUSY, waits=True)
        if device.master not in (0, bridge.index):
            master = self._devices.at(device.master)
            if master is not None and not (master.ours and (former or _PORT + port in device.names)):
                raise Refused(f"{named} belongs to {master.name}", errno.EBUSY, waits=True)

    def _give_back(self, port: str, device: Device) -> None:
        """Undo what `attach` did, in one system call where it must not be left half done."""
        self._devices.worked_on.add(device.index)
        master = self._devices.at(device.master)
        requests = []
        if master is not None and master.ours:
            requests.append(links.into(device.index, 0))
        marks = [name for name in device.names if name.startswith((_PORT, _FROM))]
        requests.append(links.naming(DELLINKPROP, device.index, *marks))
        interface, netns = _origin(device)
        with _opened(netns) as namespace:
            if namespace is not None:
                requests.append(links.moving(device.index, namespace, interface))
            self._do(port, requests)

    def _do(self, port: str, requests: list[Request], to: Requests | None = None) -> None:
        for failure in (to or self._requests).do(requests).values():
            if failure.errno != errno.ENODEV:
                raise Refused(f"port {port}: {failure.words}", failure.errno)
            raise Refused(f"port {port}: its interface has gone", failure.errno, waits=True)


def _name_here(wanted: Attached) -> str:
    return "bv-p" + hashlib.blake2s(f"{wanted.netns}/{wanted.interface}".encode(), digest_size=5).hexdigest()


@contextmanager
def _opened(netns: str) -> Iterator[int | None]:
    """Open a named namespace; None when there is none of that name, or it is our own ("")."""
    try:
        descriptor = os.open(_NAMESPACES / netns, os.O_RDONLY) if netns else None
    except FileNotFoundError:
        descriptor = None
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
