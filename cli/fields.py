"""Options that fill the fields of a request, for `create` and for `set`.

An option that is not given is no field: `create` takes the daemon's default, `set` leaves what is there. For `set` a
list replaces the list that is there, and --no-OPTION empties what can be empty; beside a list, as OpenStack's users
write it, --no-OPTION says no more than the list does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


class Field:
    """An option and the field that it fills; a list if it may be given several times."""

    def __init__(
        self,
        option: str,
        field: str,
        help: str,
        *,
        clears: bool = False,
        fixed: bool = False,
        read: Callable[[Any], Any] | None = None,
        **attributes: Any,
    ) -> None:
        """`clears`: `set` has --no-OPTION; `fixed`: `set` does not have it; `read` makes the field of what is given.

        `attributes` are those of click.option.
        """
        self.option = option
        self.field = field
        self.help = help
        self.clears = clears
        self.fixed = fixed
        self.read = read
        self.attributes = attributes

    @property
    def several(self) -> bool:
        return bool(self.attributes.get("multiple"))


def for_create(fields: Iterable[Field]) -> Callable[[F], F]:
    """Decorate a command with the options of `create`."""
    return _options([_option(field) for field in fields])


def for_set(fields: Iterable[Field]) -> Callable[[F], F]:
    """Decorate a command with the options of `set`; none of them is required."""
    options = []
    for field in fields:
        if field.fixed:
            continue
        options.append(_option(field, required=False))
        if field.clears:
            words = "Leave none." if field.several else "Take it away."
            option = f"--no-{field.option.removeprefix('--')}"
            options.append(click.option(option, f"no_{field.field}", is_flag=True, help=words))
    return _options(options)


def body(fields: Iterable[Field], given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a request from the options that were given; UsageError if two contradict each other."""
    found: dict[str, Any] = {}
    for field in fields:
        value, cleared = given.get(field.field), given.get(f"no_{field.field}")
        if value is not None and value != ():
            if cleared and not field.several:
                raise click.UsageError(f"{field.option} and --no-{field.option.removeprefix('--')} exclude each other")
            found[field.field] = field.read(value) if field.read else list(value) if field.several else value
        elif cleared:
            found[field.field] = None if not field.several else field.read(()) if field.read else []
    return found


def pairs(option: str, text: str, keys: Sequence[str]) -> dict[str, str]:
    """Read "KEY=VALUE,..." with these keys, which may have dashes; UsageError names the option and what is wrong."""
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        key = name.replace("-", "_")
        if not equals or not value or key not in keys or key in found:
            known = ", ".join(f"{each.replace('_', '-')}=..." for each in keys)
            raise click.UsageError(f"{option} takes {known}, each once, and not {part!r}")
        found[key] = value
    return found


def number(option: str, text: str) -> int:
    """Read a number that is a part of an option; UsageError names the option and the text."""
    try:
        return int(text)
    except ValueError:
        raise click.UsageError(f"{option} takes a number, not {text!r}") from None


def _option(field: Field, **others: Any) -> Callable[[F], F]:
    return click.option(
        field.option, field.field, **{"help": field.help, "default": None, **field.attributes, **others}
    )


def _options(options: list[Callable[[F], F]]) -> Callable[[F], F]:
    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate
