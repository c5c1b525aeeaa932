"""Keeps the plugs of our ports in Open vSwitch (rim): its database and flows are read and brought up to them.

    want --------------------+
    ovsdb-client monitor ----+--> looked at anew --> ovs-vsctl --> ovs-ofctl bundle --> reasons
    ovs-ofctl monitor -------+          ^                 |
                                        +---- back-off ---+

Nothing is remembered of what was done: what is ours is marked there (`ovsdb.MARK`, the cookies of `openflow`). So it is
all the same whether a plug is new, Open vSwitch was started anew with other numbers and no flows, or somebody removed
what is not theirs, as Neutron's agent does with flows when it starts. Where no port has a plug, nothing of it is used.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from bgpvpn.dataplane import openflow, ovsdb
from bgpvpn.dataplane.openflow import Flows, Surroundings
from bgpvpn.dataplane.ovsdb import Found, OvsError
from bgpvpn.dataplane.plugs import Plug

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
"""How long Open vSwitch may take for an answer."""

PAUSE_S = 0.05
"""What comes within this time is looked at as one."""

RETRY_S = (0.25, 5.0)
"""The first and the longest pause before Open vSwitch is asked again, or watched again."""


class Ovs:
    """Open vSwitch on this node, by the sockets in its `run_dir`; used inside a running event loop."""

    def __init__(self, run_dir: str, node: Surroundings, changed: Callable[[], None] = lambda: None) -> None:
        """`changed` is called whenever reasons are others."""
        self._run_dir = run_dir
        self._node = node
        self._changed = changed
        self._plugs: Mapping[str, Plug] = {}
        self._reasons: dict[str, str] = {}
        self._trouble = ""
        self._bridges: set[str] | None = None  # where flows of ours may be; None: anywhere
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._watches: dict[str, asyncio.Task[None]] = {}  # by what is watched: a bridge, or "" for the database

    def want(self, plugs: Mapping[str, Plug]) -> None:
        """Have exactly these plugs, by interface."""
        self._plugs = plugs
        self._due.set()
        if self._task is None and plugs:
            self._task = asyncio.create_task(self._keep())

    def reason(self, interface: str) -> str:
        """Say what a plug waits for, "" if it is there."""
        return self._trouble or self._reasons.get(interface, f"{interface} is about to be plugged into Open vSwitch")

    def troubles(self) -> list[str]:
        """Say what is not as it is wanted."""
        if self._trouble:
            return [self._trouble]
        waiting = [reason for name in self._plugs if (reason := self.reason(name))]
        return [f"{len(waiting)} interfaces are not in Open vSwitch: {waiting[0]}"] if waiting else []

    async def stop(self) -> None:
        """Stop looking; what is in Open vSwitch stays."""
        tasks = [task for task in (self._task, *self._watches.values()) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._task, self._watches = None, {}

    async def clear(self) -> list[str]:
        """Take out all that is ours, if there is an Open vSwitch; return what that failed for."""
        if not self._is_there():
            return []
        self._plugs, self._bridges = {}, None
        try:
            return [f"{bridge}: {error}" for bridge, error in (await self._sync()).items()]
        except OvsError as error:
            return [str(error)]

    async def _keep(self) -> None:
        retry_s = RETRY_S[0]
        while True:
            await self._due.wait()
            await asyncio.sleep(PAUSE_S)
            self._due.clear()
            before = (self._trouble, self._reasons)
            trouble, failed = "", True
            try:
                failed = bool(await self._sync())
            except OvsError as error:
                trouble = str(error)
            except Exception as error:
                log.exception("ovs=failed")
                trouble = f"an error of bgpvpnd, which the log tells: {error!r}"
            if trouble != self._trouble:
                log.warning("ovs=%s reason=%r", "unavailable" if trouble else "available", trouble)
            self._trouble = trouble
            if failed:
                asyncio.get_running_loop().call_later(retry_s, self._due.set)
            retry_s = min(2 * retry_s, RETRY_S[1]) if failed else RETRY_S[0]
            if before != (self._trouble, self._reasons):
                self._changed()

    async def _sync(self) -> dict[str, str]:
        """Bring Open vSwitch up to the plugs; return why flows of bridges are not. OvsError: it lets us do nothing."""
        plugs = self._plugs
        found = ovsdb.read(await self._vsctl("--format=json", *ovsdb.LIST))
        places = {name: ovsdb.place(plug, found) for name, plug in plugs.items()}
        if words := ovsdb.wishes(plugs, places, found):
            # Whether ovs-vswitchd has done it, the database tells: it need not be there to be told.
            await self._vsctl("--no-wait", *words)
            found = ovsdb.read(await self._vsctl("--format=json", *ovsdb.LIST))
            places = {name: ovsdb.place(plug, found) for name, plug in plugs.items()}
        failures = await self._flow(plugs, places, found)
        reasons = {name: place.reason or failures.get(plugs[name].at.bridge, "") for name, place in places.items()}
        for name, reason in reasons.items():
            if reason and self._reasons.get(name) != reason:
                log.warning("interface=%s ovs=waiting reason=%r", name, reason)
        self._reasons = reasons
        if self._task is not None:
            used = {plug.at.bridge for plug in plugs.values()} & found.bridges
            self._watch({"", *used} if plugs else set())
        return failures

    async def _flow(self, plugs: Mapping[str, Plug], places: Mapping[str, ovsdb.Place], found: Found) -> dict[str, str]:
        """Bring the flows of every bridge up to the plugs; return why that failed for some."""
        wanted: dict[str, list[Flows]] = {}
        for name, plug in plugs.items():
            numbers = places[name].numbers
            if numbers is not None:
                wanted.setdefault(plug.at.bridge, []).append(openflow.flows(plug, numbers, self._node))
        failures = {}
        for bridge in (found.bridges if self._bridges is None else self._bridges | wanted.keys()) & found.bridges:
            try:
                await self._flow_in(bridge, openflow.together(wanted.get(bridge, [])))
            except OvsError as error:
                failures[bridge] = str(error)
        self._bridges = {*wanted, *failures}
        return failures

    async def _flow_in(self, bridge: str, wanted: Flows) -> None:
        said = await self._ofctl("dump-flows", bridge, f"cookie={openflow.MARK:#x}/{openflow.MASK:#x}")
        present = {int(cookie, 16) for cookie in re.findall(r"cookie=(0x[0-9a-f]+), duration", said)}
        lines = openflow.changes(wanted, present)
        if lines:
            await self._ofctl("bundle", bridge, "-", given="\n".join([*lines, ""]))
            log.info("bridge=%s flows=written changes=%d", bridge, len(lines))

    # Watching

    def _watch(self, wanted: set[str]) -> None:
        for bridge in self._watches.keys() - wanted:
            self._watches.pop(bridge).cancel()
        for bridge in wanted - self._watches.keys():
            # It would make a socket to be told by, where we may not write.
            words = ["ovs-ofctl", "--unixctl=none", "-O", openflow.VERSIONS, "monitor", self._bridge(bridge)]
            words += [f"watch:!add,!modify,table={table}" for table in openflow.TABLES]
            if not bridge:
                words = ["ovsdb-client", "monitor", self._database, "Open_vSwitch", *ovsdb.WATCHED]
            self._watches[bridge] = asyncio.create_task(self._follow(words))

    async def _follow(self, words: list[str]) -> None:
        """Look anew whenever a program says something, beginning with what there is, and when it ends."""
        loop = asyncio.get_running_loop()
        pause_s = RETRY_S[0]
        while True:
            started_at = loop.time()
            with contextlib.suppress(OSError):
                process = await asyncio.create_subprocess_exec(
                    *words,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,  # ovs-ofctl tells all of it there
                )
                assert process.stdout is not None
                try:
                    while await process.stdout.read(1 << 16):
                        self._due.set()
                finally:
                    await _ended(process)
            self._due.set()
            if loop.time() - started_at > RETRY_S[1]:
                pause_s = RETRY_S[0]
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, RETRY_S[1])

    # Asking

    def _is_there(self) -> bool:
        return Path(self._run_dir, "db.sock").exists()

    @property
    def _database(self) -> str:
        return f"unix:{self._run_dir}/db.sock"

    def _bridge(self, name: str) -> str:
        return f"unix:{self._run_dir}/{name}.mgmt"

    async def _vsctl(self, *words: str) -> str:
        return await _said(["ovs-vsctl", f"--db={self._database}", *words])

    async def _ofctl(self, verb: str, bridge: str, *words: str, given: str = "") -> str:
        return await _said(["ovs-ofctl", "-O", openflow.VERSIONS, verb, self._bridge(bridge), *words], given)


async def _said(words: Sequence[str], given: str = "") -> str:
    """Return what a program says; OvsError if it fails, with what it says then, or takes too long."""
    program = words[0]
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise OvsError(f"Open vSwitch: {program} cannot be started: {error.strerror}") from error
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, complaint = await process.communicate(given.encode())
    except TimeoutError:
        raise OvsError(f"Open vSwitch: {program} had no answer for {TIMEOUT_S:g} s") from None
    finally:
        await _ended(process)
    if process.returncode:
        lines = complaint.decode(errors="replace").strip().splitlines() or [f"ended with status {process.returncode}"]
        raise OvsError(f"Open vSwitch: {lines[0]}")
    return said.decode(errors="replace")


async def _ended(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()
    await process.wait()
