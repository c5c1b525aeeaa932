"""The log (rim): lines on standard error as text or JSON, written by a thread so that a slow reader stops nobody.

    loggers --> queue of 10,000 lines --> thread --> stderr

What does not fit into the queue is dropped and counted; the count is the next line that does.
"""

from __future__ import annotations

import logging
import logging.handlers
import queue
import sys
from typing import Any

import structlog

WAITING_LINES = 10_000


class _Dropping(logging.handlers.QueueHandler):
    """Puts records into a bounded queue, and never waits."""

    def __init__(self, lines: queue.Queue[Any]) -> None:
        super().__init__(lines)
        self.dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            if self.dropped:
                count, self.dropped = self.dropped, 0
                words = f"lines=dropped count={count}"
                self.queue.put_nowait(logging.makeLogRecord({"msg": words, "levelno": 30, "levelname": "WARNING"}))
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1


def start(level: str, style: str) -> logging.handlers.QueueListener:
    """Begin to log; `style` is text or json. Call `stop` of what is returned to write out what waits."""
    stderr = logging.StreamHandler(sys.stderr)
    renderer: Any = structlog.processors.JSONRenderer() if style == "json" else _text
    processors: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    stderr.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=processors,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    lines: queue.Queue[Any] = queue.Queue(WAITING_LINES)
    listener = logging.handlers.QueueListener(lines, stderr)
    listener.start()
    root = logging.getLogger()
    root.handlers[:] = [_Dropping(lines)]
    root.setLevel(level.upper())
    logging.getLogger("asyncio").setLevel(logging.WARNING)
    return listener


def _text(logger: object, name: str, event: Any) -> str:
    line = f"{event['timestamp']} {event['level']:<7} {event['event']}"
    return f"{line}\n{event['exception']}" if event.get("exception") else line
