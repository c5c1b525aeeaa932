"""The door to the Linux kernel: rows read, written and watched over rtnetlink, in the network namespace of the opener.

    encode, decode, links   rows as messages and back (pure)
    sockets                 batches, dumps, notifications
    devices, attachments    what takes several steps: our devices, users' interfaces
    reading, watch          what is there, and what others change

Everything is synchronous.  A row that the kernel refuses is a `Refusal`; a kernel that does not answer is an OSError.
"""

from __future__ import annotations

import errno
import functools
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import groupby

from bgpvpn.dataplane import attachments, encode, links, words
from bgpvpn.dataplane.attachments import Attachments
from bgpvpn.dataplane.devices import Devices, Refused, raise_labels
from bgpvpn.dataplane.encode import FAMILY_OF_LENGTH, GETROUTE, ROUTE, RTA_DST, RTN_UNICAST
from bgpvpn.dataplane.reading import Reading
from bgpvpn.dataplane.rows import EVERYTHING, Actual, BridgeLink, Link, Operation, Refusal, RouteTable, Scope, VrfLink
from bgpvpn.dataplane.sockets import ATTEMPTS, BATCH, TRANSIENT, Requests
from bgpvpn.dataplane.watch import Known, Row, Watch
from bgpvpn.dataplane.wire import ERROR, Failure, Request, attribute, echo, failure

_GONE = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL, errno.ENXIO})
"""What the kernel says to the removal of something that is not there."""

_TOGETHER = 4096  # requests gathered before they are sent
_FIB_MATCH = 0x2000  # RTM_F_FIB_MATCH
_NO_WAY_OUT = 0x1 | 0x10  # RTNH_F_DEAD, RTNH_F_LINKDOWN


class Netlink:
    """The `Dataplane` of a Linux kernel; `labels`, when given, are those that the kernel shall have room for."""

    def __init__(self, labels: range | None = None) -> None:
        if labels:
            raise_labels(labels.stop)
        self._home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._requests = Requests()
        self._known = Known()
        self._watch = Watch(self._known, self._requests.port)
        self._devices = Devices(self._requests)
        self._attachments = Attachments(self._requests, self._devices, self._home)
        self._reading = Reading(self._requests, self._devices, self._known)
        self._sent: Counter[str] = Counter()

    def fileno(self) -> int:
        """Return the descriptor that can be read when `disturbed` has something to say."""
        return self._watch.fileno()

    def close(self) -> None:
        self._watch.close()
        self._requests.close()
        os.close(self._home)

    def messages(self) -> dict[str, int]:
        return dict(self._sent)

    def observe(self, scopes: Collection[Scope] = EVERYTHING) -> Actual:
        links, attached = self._known.links, self._known.attached
        actual = self._reading.actual(scopes)
        self._compare(
            links if "link" not in actual.rows else None, attached if "attachment" not in actual.rows else None
        )
        return actual

    def foreign(self) -> list[str]:
        links, attached = self._known.links, self._known.attached
        found = self._reading.foreign()
        self._compare(links, attached)
        return found

    def _compare(self, links: object, attached: object) -> None:
        """Tell of changes that were read on the way only: the notifications behind them say what is known by now."""
        if links not in (None, self._known.links):
            self._watch.scopes.add("all")
        if attached not in (None, self._known.attached):
            self._watch.scopes.add("attachment")

    def apply(self, operations: Sequence[Operation]) -> dict[int, Refusal]:
        self._watch.note()
        refused: dict[int, Refusal] = {}
        try:
            for singly, run in groupby(enumerate(operations), lambda each: each[1][0] in ("link", "attachment")):
                if not singly:
                    refused |= self._together(list(run))
                    continue
                for at, operation in run:
                    self._sent[operation[0]] += 1
                    try:
                        self._singly(operation)
                    except Refused as error:
                        refused[at] = error.refusal
        finally:
            self._watch.note(_done(operations), self._devices.worked_on)
            self._devices.worked_on.clear()
        return refused

    def _singly(self, operation: Operation) -> None:
        kind, key, wanted, believed = operation
        known = self._known
        if kind == "attachment":
            if wanted is not None:
                index, attached = self._attachments.attach(key, wanted)
                known.attached[index] = (key, attached)
            elif (gone := self._attachments.detach(key)) is not None:
                known.attached.pop(gone, None)
            return
        if wanted is None:
            self._devices.remove(key)
        else:
            known.links[self._devices.make(key, wanted)] = (key, wanted)
            moved = isinstance(believed, BridgeLink) and believed.master != links.master_of(wanted)
            if self._devices.removed or moved:  # it was made anew, or set down and up again on its way to another VRF
                self._watch.scopes.add("all")
        for index in self._devices.removed:
            known.links.pop(index, None)
        if wanted is None and _in_no_vrf(believed) and not any(_in_no_vrf(link) for _, link in known.links.values()):
            self._devices.without_bridges()
        if self._devices.removed and not any(isinstance(link, VrfLink) for _, link in known.links.values()):
            self._devices.without_vrfs()
        self._devices.removed.clear()

    def _together(self, run: Sequence[tuple[int, Operation]]) -> dict[int, Refusal]:
        refused: dict[int, Refusal] = {}
        for start in range(0, len(run), _TOGETHER):
            refused |= self._batch(run[start : start + _TOGETHER])
        return refused

    def _batch(self, run: Sequence[tuple[int, Operation]]) -> dict[int, Refusal]:
        refused: dict[int, Refusal] = {}
        requests: list[Request] = []
        of: list[tuple[int, Operation]] = []
        index = functools.cache(self._index)
        for at, operation in run:
            try:
                made = encode.requests(operation, index)
            except Refused as error:
                if operation[2] is not None:  # the removal of what stood on a device that is gone is done
                    refused[at] = error.refusal
                continue
            self._sent[operation[0]] += len(made)
            requests += made
            of += [(at, operation)] * len(made)
        taken: list[tuple[int, Operation]] = []
        for position, why in self._requests.do(requests).items():
            at, operation = of[position]
            kind, key, wanted, believed = operation
            if why.errno in _GONE and requests[position][0] in encode.REMOVALS:
                continue
            if why.errno == errno.EEXIST and kind in encode.EXCLUSIVE and believed is None:
                taken.append((at, operation))
                refused[at] = Refusal(f"{words.row(kind, key)}: somebody else has it already", why.errno)
                continue
            said = "" if wanted is None else f" {words.content(wanted)}"
            refused[at] = Refusal(f"{words.row(kind, key)}{said}: {why.words}", why.errno)
        if taken:  # or it is ours, and who believes that it is not there is mistaken
            there = self.observe({operation[0] for _, operation in taken}).rows
            again = [
                (at, (kind, key, wanted, there[kind][key]))
                for at, (kind, key, wanted, _) in taken
                if key in there[kind]
            ]
            for at, _ in again:
                del refused[at]
            refused |= self._batch(again)
        for at, (kind, key, wanted, _) in run:
            if kind == "address" and at not in refused:
                self._known.addresses.pop(key, None)
                if wanted is not None:
                    self._known.addresses[key] = wanted
        return refused

    def _index(self, name: str) -> int:
        device = self._devices.find(name)
        if device is None:
            raise Refused(f"{name} is not there", errno.ENODEV)
        if not device.ours:
            raise Refused(f"{name} is somebody else's device", errno.EEXIST)
        return device.index

    def write_routes(self, at: RouteTable, changes: Mapping[int | None, Sequence[bytes]]) -> dict[bytes, Refusal]:
        self._watch.note()
        if at not in self._known.taken:
            self._reading.table(at)
        taken = self._known.taken[at]
        refused: dict[bytes, Refusal] = {}
        most = BATCH // encode.route_size(at[1])
        messages: list[bytes] = []
        for nexthop, prefixes in changes.items():
            if taken and nexthop is not None:
                for prefix in prefixes:
                    if prefix in taken:
                        reason = f"{words.route(at, prefix)}: a route of protocol {taken[prefix]} is there already"
                        refused[prefix] = Refusal(reason, errno.EEXIST)
                prefixes = [prefix for prefix in prefixes if prefix not in taken]
            messages += encode.routes(at, nexthop, prefixes)
            while len(messages) >= most:
                refused |= self._write(at, messages[:most])
                del messages[:most]
        return refused | self._write(at, messages)

    def _write(self, at: RouteTable, messages: list[bytes]) -> dict[bytes, Refusal]:
        refused: dict[bytes, Refusal] = {}
        for attempt in range(ATTEMPTS):
            if not messages:
                break
            self._sent["routes"] += len(messages)
            answers = self._requests.exchange(b"".join(messages))
            messages = []
            for answer in answers:
                why = failure(answer) if answer.type == ERROR else None
                if why is None:
                    continue
                message = echo(answer)
                if why.errno in TRANSIENT and attempt < ATTEMPTS - 1:
                    messages.append(message)
                elif not (why.errno in _GONE and encode.removes(message)):
                    prefix = encode.prefix_of(message)
                    refused[prefix] = Refusal(f"{words.route(at, prefix)}: {why.words}", why.errno)
        return refused

    def reachable(self, addresses: Iterable[bytes]) -> set[bytes]:
        asked = list(addresses)
        answers = self._requests.ask(
            [
                (
                    GETROUTE,
                    0,
                    ROUTE.pack(FAMILY_OF_LENGTH[len(address)], len(address) * 8, 0, 0, 0, 0, 0, 0, _FIB_MATCH)
                    + attribute(RTA_DST, address),
                )
                for address in asked
            ]
        )
        return {address for address, answer in zip(asked, answers, strict=True) if _leads_somewhere(answer)}

    def disturbed(self) -> set[Scope]:
        self._watch.note()
        scopes, touched = self._watch.taken()
        for index in touched:
            scopes |= self._changed(index)
        return scopes

    def _changed(self, index: int) -> set[Scope]:
        """Compare a device that something was told of with what is known of it."""
        device = self._devices.at(index)
        if device is None:
            return set()  # that is told by itself
        master = self._devices.at(device.master)
        names = {device.master: master.name} if master is not None else {}
        if index in self._known.links:
            return set() if self._known.links[index] == (device.name, self._devices.row(device, names)) else {"all"}
        return set() if self._known.attached.get(index) == attachments.row(device, names) else {"attachment"}


def _in_no_vrf(link: Link | None) -> bool:
    return isinstance(link, BridgeLink) and link.master is None


def _done(operations: Sequence[Operation]) -> set[Row]:
    """Return what the notifications that the kernel sends of our forwarding entries say."""
    done: set[Row] = set()
    for kind, key, wanted, believed in operations:
        if kind in ("fdb", "flood"):
            done.add((kind, key, wanted))
            if believed is not None:
                done.add((kind, key, None))
    return done


def _leads_somewhere(answer: bytes | Failure | None) -> bool:
    if not isinstance(answer, bytes):
        return False
    *_, kind, flags = ROUTE.unpack_from(answer)
    return kind == RTN_UNICAST and not flags & _NO_WAY_OUT
