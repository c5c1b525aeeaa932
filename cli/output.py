"""What the command prints: JSON, tables, and lines; every text is shown with its control characters escaped.

A table for a terminal is drawn with rich. Anywhere else it is plain: one line for each row under a line of column
names, no borders, nothing cut off, columns two or more spaces apart, "-" for what is not there.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

NOTHING = "-"

SHORT = 16  # as wide as an IPv4 prefix; on a narrow terminal, wider columns give way first

STYLES = {
    "active": "green",
    "established": "green",
    "pending": "yellow",
    "down": "red",
    "error": "bold red",
    "failed": "bold red",
}


def escaped(text: str) -> str:
    """Return text in which what a terminal would act on is written as in Python: \\x1b, \\u202e."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _code(ord(c)) for c in text)


def _code(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def as_json(value: Any, *, on_one_line: bool = False) -> str:
    """Return JSON in ASCII."""
    return json.dumps(value, indent=None if on_one_line else 2)


def cell(value: Any) -> str:
    """Return a value in one line: lists joined by commas, fields of things as name=value."""
    match value:
        case None | "" | []:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case list():
            return ",".join(cell(each) for each in value)
        case Mapping():
            return " ".join(f"{escaped(str(name))}={cell(each)}" for name, each in value.items()) or NOTHING
        case _:
            return escaped(str(value))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return rows as a table; a field that a row does not have is shown as nothing."""
    cells = [[cell(row.get(column)) for column in columns] for row in map(flat, rows)]
    return _drawn(columns, cells) if sys.stdout.isatty() else _plain(columns, cells)


def fields(thing: Mapping[str, Any]) -> str:
    """Return one thing as a table with a line for each field, and for each thing of several in one: name[0]."""
    rows = []
    for name, value in flat(thing).items():
        if isinstance(value, list) and value and all(isinstance(each, Mapping) for each in value):
            rows += [{"field": f"{name}[{number}]", "value": each} for number, each in enumerate(value)]
        else:
            rows.append({"field": name, "value": value})
    return table(rows, ("field", "value"))


def flat(thing: Mapping[str, Any]) -> dict[str, Any]:
    """Return the thing with what its status says as fields of its own, `status` and `reason`."""
    found: dict[str, Any] = {}
    for name, value in thing.items():
        if name == "status" and isinstance(value, Mapping):
            found |= {"status": value.get("state"), "reason": value.get("reason")}
        else:
            found[name] = value
    return found


def _plain(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    lines = [columns, *cells]
    widths = [max(len(line[number]) for line in lines) for number in range(len(columns))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _drawn(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        width = max(len(line[number]) for line in [columns, *cells])
        drawn.add_column(column, overflow="fold", no_wrap=width <= SHORT)
    for line in cells:
        drawn.add_row(*(Text(text, STYLES.get(text.lower(), "")) for text in line))
    console = Console()
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().removesuffix("\n")
