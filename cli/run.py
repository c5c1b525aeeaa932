"""What all commands share: where the daemon is, how answers are printed, and completion of names."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from cli.api import SOCKET, Api
from cli.output import as_json

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMPLETION_S = 0.5
REDRAW_S = 0.5  # at most so often, however much happens
REFRESH_S = 10.0  # at least so often: counters and ages move without an event

F = TypeVar("F", bound=Callable[..., Any])


class Run:
    """One invocation of the command."""

    def __init__(self) -> None:
        self.api = Api()
        self.form = "table"  # or "json"

    def show(self, fetch: Callable[[], Any], text: Callable[[Any], str], *, watch: bool = False) -> None:
        """Print what `fetch` returns, as JSON or as `text` has it; with `watch` again at each change, until Ctrl-C."""
        if self.form == "json":
            text = partial(as_json, on_one_line=watch)
        if not watch:
            click.echo(text(fetch()))
            return
        seen = ""
        with contextlib.suppress(KeyboardInterrupt):
            for _ in self._changes():
                now = text(fetch())
                if now != seen:
                    click.clear()  # of a terminal only
                    click.echo(now)
                    seen = now

    def _changes(self) -> Iterator[None]:
        """Yield when events are listened to, then after each burst of them, and now and then; raise how it ends.

        They are read in a thread of their own and only noted, so that a burst of them is one yield.
        """
        import threading
        import time

        changed = threading.Event()
        failures: list[click.ClickException] = []

        def read() -> None:
            try:
                with self.api.events() as events:
                    changed.set()
                    for _ in events:
                        changed.set()
            except click.ClickException as error:
                failures.append(error)
                changed.set()

        threading.Thread(target=read, daemon=True).start()
        while True:
            changed.wait(REFRESH_S)
            changed.clear()
            if failures:
                raise failures[0]
            yield
            time.sleep(REDRAW_S)


def pass_run(command: F) -> F:
    """Give a command its Run, before its options."""
    return cast(F, click.make_pass_decorator(Run)(command))


def _set_form(ctx: click.Context, _: click.Parameter, form: str | None) -> None:
    if form is not None:
        ctx.ensure_object(Run).form = form


def format_option(command: F) -> F:
    """Take -f after the subcommand as well as before it."""
    return click.option(
        "-f",
        "--format",
        type=click.Choice(["table", "json"]),
        expose_value=False,
        callback=_set_form,
        help="How to print; the default is table.",
    )(command)


def watch_option(command: F) -> F:
    """Take --watch."""
    return click.option("--watch", is_flag=True, help="Show it again whenever it changes, until Ctrl-C.")(command)


def plural(kind: str) -> str:
    """Return what several objects of a kind are called, in the paths of the API too."""
    return f"{kind.removesuffix('y')}ies" if kind.endswith("y") else f"{kind}s"


def completing(ctx: click.Context) -> Api:
    """Return the daemon that is asked while a word is completed."""
    given = ctx.find_root().params
    return Api(given.get("api") or SOCKET, COMPLETION_S, token_file=given.get("token_file"))


def names_of(*kinds: str) -> Callable[[click.Context, click.Parameter, str], list[CompletionItem]]:
    """Return the completion of names of these kinds; it is silent and short when the daemon is not there."""

    def complete(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        try:
            api = completing(ctx)
            names = [(each["name"], kind) for kind in kinds for each in api.get(plural(kind))]
        except (click.ClickException, LookupError, TypeError):
            return []
        return [CompletionItem(name, help=kind) for name, kind in names if name and name.startswith(incomplete)]

    return complete
