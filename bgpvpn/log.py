"""The log (rim): lines on standard error as text or JSON, written by a thread so that a slow reader stops nobody.

    loggers --> queue of 10,000 lines --> thread --> stderr

What does not fit into the queue is dropped and counted; the count is the next line that does.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import os
import queue
import sys
import threading
from typing import Any

import structlog

WAITING_LINES = 10_000
STOP_S = 0.5


class _Dropping(logging.handlers.QueueHandler):
    """Puts records into a bounded queue, and never waits."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        super().__init__(lines)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                words = f"lines=dropped count={self.dropped}"
                self.queue.put_nowait(logging.makeLogRecord({"msg": words, "levelno": 30, "levelname": "WARNING"}))
                self.dropped = 0
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


class Writer:
    """Writes the lines of a queue to standard error, in a thread of its own."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.lines: queue.Queue[logging.LogRecord | None] = queue.Queue(WAITING_LINES)
        self._formatter = formatter
        self._descriptor = sys.stderr.fileno()
        self._thread = threading.Thread(target=self._write, name="log", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write out what waits, for a second at most: nobody may be reading any more."""
        with contextlib.suppress(queue.Full):
            self.lines.put(None, timeout=STOP_S)
        self._thread.join(STOP_S)

    def _write(self) -> None:
        while (record := self.lines.get()) is not None:
            octets = f"{self._formatter.format(record)}\n".encode(errors="backslashreplace")
            # Not through sys.stderr: the end of the process would wait for a write that it is stuck in.
            with contextlib.suppress(OSError):
                while octets:
                    octets = octets[os.write(self._descriptor, octets) :]


def start(level: str, style: str) -> Writer:
    """Begin to log; `style` is text or json. Call `stop` of what is returned to write out what waits."""
    renderer: Any = structlog.processors.JSONRenderer() if style == "json" else _text
    processors: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
    ]
    writer = Writer(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [_Dropping(writer.lines)]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return writer


def _text(logger: object, name: str, event: Any) -> str:
    return f"{event['timestamp']} {event['level']:<7} {event['event']}"
