"""What is the same for every kind of object: listing, showing, deleting, and printing what was made or changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click

from cli.api import Api, ApiError, Refused
from cli.fields import Field, body, for_create, for_set
from cli.output import fields, table
from cli.run import Run, format_option, names_of, pass_run, plural, watch_option

Thing = dict[str, Any]

STATUS = ("status", "reason")
PROJECT = Field("--project", "project_id", "The project that it belongs to.", fixed=True, metavar="PROJECT")
OF_PROJECT = Field("--project", "project_id", "Only those of a project.", metavar="PROJECT")


class Noun:
    """A kind of object as people see it."""

    def __init__(
        self,
        kind: str,
        title: str,
        columns: tuple[str, ...],
        *,
        more: tuple[str, ...] = (),
        filters: tuple[Field, ...] = (),
        complete: Callable[[Api, list[Thing]], None] = lambda api, things: None,
        words: Mapping[str, Callable[[Any], Any]] | None = None,
        found_by: str = "",
    ) -> None:
        """`complete` adds to answers what other answers know, `words` is how fields are shown to people.

        `more` are the columns of --long; `found_by` is a field that names an object as its name does.
        """
        self.kind = kind
        self.title = title
        self.path = plural(kind)
        self.columns = columns
        self.more = more
        self.filters = filters
        self.complete = complete
        self.words = words or {}
        self.found_by = found_by

    def all(self, api: Api, **filters: str | None) -> list[Thing]:
        """Return all objects that fit."""
        things: list[Thing] = api.get(self.path, **filters)
        self.complete(api, things)
        return things

    def one(self, api: Api, ref: str) -> Thing:
        """Return the object with this id or name."""
        thing: Thing = api.get(self.path, self.id_of(api, ref))
        self.complete(api, [thing])
        return thing

    def id_of(self, api: Api, ref: str) -> str:
        """Return what the daemon finds the object by."""
        found = api.get(self.path, **{self.found_by: ref}) if self.found_by else []
        if len(found) > 1:
            ids = ", ".join(each["id"] for each in found)
            raise Refused(f"there are {len(found)} {plural(self.title)} {ref!r}; say which by its id: {ids}")
        return found[0]["id"] if found else ref

    def row(self, thing: Thing) -> Thing:
        """Return an object as people read it."""
        shown = {name: self.words[name](value) if name in self.words else value for name, value in thing.items()}
        return {**shown, "name": thing["name"] or thing["id"]} if "name" in thing else shown


def titles(api: Api, kind: str) -> dict[str, str]:
    """Return what people call the objects of a kind, by id."""
    return {each["id"]: each.get("name") or each["id"] for each in api.get(plural(kind))}


def with_names(**kinds: str) -> Callable[[Api, list[Thing]], None]:
    """Return what adds the names of other objects: with_names(network="network") adds `network` from `network_id`."""

    def complete(api: Api, things: list[Thing]) -> None:
        for name, kind in kinds.items():
            ids = [thing[f"{name}_id"] for thing in things]
            called = titles(api, kind) if any(ids) else {}
            for thing, id_ in zip(things, ids, strict=True):
                thing[name] = called.get(id_, id_)

    return complete


with_network = with_names(network="network")


def show_written(run: Run, noun: Noun, thing: Thing) -> None:
    """Print an object that was made or changed."""
    noun.complete(run.api, [thing])
    run.show(lambda: thing, lambda thing: fields(noun.row(thing)))


NAME = Field("--name", "name", "A new name.", metavar="NAME")


def set_command(noun: Noun, options: Iterable[Field]) -> click.Command:
    """Return the command that changes an object."""
    options = (NAME, *options)

    @click.command("set", help=f"Change a {noun.title}.\n\nWhat is given replaces what is there, a list as a whole.")
    @click.argument("ref", metavar=noun.title.upper(), shell_complete=names_of(noun.kind))
    @for_set(options)
    @format_option
    @pass_run
    def command(run: Run, ref: str, **given: Any) -> None:
        wanted = body(options, given)
        show_written(run, noun, run.api.patch(wanted, noun.path, noun.id_of(run.api, ref)))

    return command


def list_command(noun: Noun) -> click.Command:
    """Return the command that lists objects."""

    @click.command("list", help=f"List {plural(noun.title)}.")
    @for_create(noun.filters)
    @click.option("--property", "properties", multiple=True, metavar="FIELD=VALUE", help="Only with this field.")
    @click.option("--long", "more", is_flag=True, help="With more columns.")
    @watch_option
    @format_option
    @pass_run
    def command(run: Run, properties: tuple[str, ...], more: bool, watch: bool, **given: Any) -> None:
        filters = dict(_property(text) for text in properties) | body(noun.filters, given)
        columns = (*noun.columns, *(noun.more if more else ()), *STATUS)
        run.show(lambda: noun.all(run.api, **filters), lambda all_: table(map(noun.row, all_), columns), watch=watch)

    return command


def _property(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise click.UsageError(f"--property takes FIELD=VALUE, not {text!r}")
    return name, value


def show_command(noun: Noun, name: str = "show") -> click.Command:
    """Return the command that shows an object."""

    @click.command(name, help=f"Show a {noun.title}.")
    @click.argument("ref", metavar="NAME", shell_complete=names_of(noun.kind))
    @watch_option
    @format_option
    @pass_run
    def command(run: Run, ref: str, watch: bool) -> None:
        run.show(lambda: noun.one(run.api, ref), lambda thing: fields(noun.row(thing)), watch=watch)

    return command


def delete_command(noun: Noun, what_goes_too: str = "") -> click.Command:
    """Return the command that deletes objects."""

    @click.command("delete", help=f"Delete {plural(noun.title)}{what_goes_too}.")
    @click.argument("refs", metavar="NAME...", nargs=-1, required=True, shell_complete=names_of(noun.kind))
    @pass_run
    def command(run: Run, refs: tuple[str, ...]) -> None:
        each_of(refs, lambda ref: run.api.delete(noun.path, noun.id_of(run.api, ref)))

    return command


def each_of(refs: Iterable[str], do: Callable[[str], None]) -> None:
    """Do something with each, also when it fails with some; every failure is told, the last sets the exit status."""
    failures: list[ApiError] = []
    for ref in refs:
        try:
            do(ref)
        except ApiError as error:
            failures.append(error)
    for failure in failures[:-1]:
        failure.show()
    if failures:
        raise failures[-1]
