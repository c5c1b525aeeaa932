"""Keeping nodes as they are wanted: threads that say to each node all that it shall have (rim).

Nothing is remembered of what changed, only that something did: a node is told everything that is wanted at the moment
(`PUT /v1/intent`), works out the difference itself, and changes all of it at once.  So a node that was away has
everything with the first push that arrives, in whatever order things happened.

    soon()  --(COALESCE_S)-->  due  --> read the serial, find out what is wanted, push with the serial
                                ^             | no answer, refused: again later, 1 s, 2 s, ... BACKOFF_S
                                |             | somebody else pushed in between (409): again at once
                                +-------------+ done: again after the interval, unless another process did meanwhile
"""

from __future__ import annotations

import dataclasses
import logging
import os
import random
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from bgpvpn.openstack.client import NodeApi, RefusedError, UnreachableError

LOG = logging.getLogger(__name__)

COALESCE_S = 0.1
BACKOFF_S = 60.0
MOST_THREADS = 16
SHOWN = 10
"""How many refused objects the log names at a time."""

Body = dict[str, Any]
"""Of `PUT /v1/intent`: lists of objects by kind, and `keep`."""


@dataclasses.dataclass
class _Target:
    """One node."""

    name: str
    api: NodeApi
    due: float
    dirty: bool = False
    busy: bool = False
    failures: int = 0
    trouble: str = ""
    serial: str = ""  # of our last push
    pushed: Body | None = None
    refused: frozenset[tuple[str, str, str]] = frozenset()


class Pushing:
    """The nodes and their threads, which start with `start`, or with `soon` in a process that was forked since."""

    def __init__(
        self,
        owner: str,
        nodes: Mapping[str, NodeApi],
        wanted: Callable[[str, float], Body],
        interval_s: float,
    ) -> None:
        """`wanted` returns what a node shall have, as it was at a time (monotonic) or later; it runs in threads."""
        self.owner = owner
        self._wanted = wanted
        self._interval_s = interval_s
        self._nodes = dict(nodes)
        self._changed = threading.Condition()
        self._targets: dict[str, _Target] = {}
        self._started = False
        self._stopped = False
        os.register_at_fork(after_in_child=self._forked)

    def start(self) -> None:
        """Start the threads of this process, if they do not run; every node is looked at at once."""
        with self._changed:
            if self._started or self._stopped or not self._nodes:
                return
            self._started = True
            now = time.monotonic()
            self._targets = {name: _Target(name, api, now) for name, api in self._nodes.items()}
            for number in range(min(len(self._targets), MOST_THREADS)):
                threading.Thread(target=self._run, name=f"bgpvpn-push-{number}", daemon=True).start()

    def soon(self) -> None:
        """Something changed; returns at once."""
        self.start()
        with self._changed:
            due = time.monotonic() + COALESCE_S
            for target in self._targets.values():
                target.dirty = True
                if not target.failures:  # one that does not answer keeps its own pace
                    target.due = min(target.due, due)
            self._changed.notify_all()

    def stop(self) -> None:
        """End the threads, when what they do is done."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _forked(self) -> None:
        """In a new process there are no threads, and whoever held the lock is not there."""
        self._changed = threading.Condition()
        self._started = False

    def _run(self) -> None:
        while (target := self._next()) is not None:
            delay_s = self._interval_s
            try:
                delay_s = self._push(target)
            except Exception as error:
                target.dirty = True
                target.failures += 1
                delay_s = min(BACKOFF_S, 2.0 ** (target.failures - 1)) * random.uniform(0.75, 1.25)
                self._tell_trouble(target, error)
            with self._changed:
                target.busy = False
                target.due = time.monotonic() + (min(delay_s, COALESCE_S) if self._in_a_hurry(target) else delay_s)
                self._changed.notify_all()

    def _in_a_hurry(self, target: _Target) -> bool:
        return target.dirty and not target.failures

    def _next(self) -> _Target | None:
        """Wait for a node that is due, and take it; None: it is over."""
        with self._changed:
            while not self._stopped:
                free = [target for target in self._targets.values() if not target.busy]
                first = min(free, key=lambda target: target.due, default=None)
                now = time.monotonic()
                if first is not None and first.due <= now:
                    first.busy = True
                    return first
                self._changed.wait(None if first is None else first.due - now)
        return None

    def _push(self, target: _Target) -> float:
        """Bring a node up to what is wanted; return after how many seconds to look again."""
        dirty, target.dirty = target.dirty, False
        there = target.api.ask("GET", f"/v1/intent?owner={quote(self.owner)}")
        if not dirty and target.pushed is not None and there["age_s"] is not None and there["age_s"] < self._interval_s:
            self._tell_back(target)
            return self._interval_s - float(there["age_s"]) + random.uniform(0, self._interval_s / 10)
        body = self._wanted(target.name, time.monotonic())
        if dirty and body == target.pushed and there["serial"] == target.serial:
            self._tell_back(target)
            return self._interval_s
        try:
            done = target.api.ask(
                "PUT", "/v1/intent", {"owner": self.owner, "refused": "skip", "serial": there["serial"], **body}
            )
        except RefusedError as error:
            if (error.status, error.where) != (409, "serial"):
                raise
            target.dirty = True
            return random.uniform(0, COALESCE_S)
        target.serial, target.pushed = done["serial"], body
        self._tell_back(target)
        self._tell_done(target, done)
        return self._interval_s * random.uniform(0.9, 1.1)

    def _tell_done(self, target: _Target, done: Any) -> None:
        counts = {what: len(things) for what, things in done["changed"].items()}
        if any(counts.values()):
            LOG.info("node=%s made=%d changed=%d removed=%d", target.name, *counts.values())
        refused = frozenset((each["kind"], each["id"], each["message"]) for each in done["refused"])
        for kind, id_, message in sorted(refused - target.refused)[:SHOWN]:
            LOG.warning("node=%s refuses %s %s: %s", target.name, kind, id_, message)
        if len(refused) != len(target.refused):
            LOG.warning("node=%s refused=%d", target.name, len(refused))
        target.refused = refused

    def _tell_trouble(self, target: _Target, error: Exception) -> None:
        """Log what is wrong, once until it is something else."""
        trouble = f"{type(error).__name__}: {error}"
        if trouble != target.trouble:
            known = isinstance(error, UnreachableError | RefusedError)
            LOG.warning(
                "node=%s is not as it is wanted: %s", target.name, error if known else trouble, exc_info=not known
            )
        target.trouble = trouble

    def _tell_back(self, target: _Target) -> None:
        if target.failures:
            LOG.info("node=%s answers again after %d failures", target.name, target.failures)
        target.failures, target.trouble = 0, ""
