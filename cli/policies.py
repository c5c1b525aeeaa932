"""Policies: `bgpvpn policy`, made of files, and tried before they are used."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import IO, Any

import click

from cli.api import Api
from cli.objects import Noun, Thing, delete_command, each_of, list_command, show_command, show_written
from cli.output import cell, escaped
from cli.run import Run, format_option, names_of, pass_run


def _counted(api: Api, policies: list[Thing]) -> None:
    """Add how many statements each has."""
    for each in policies:
        each["statements"] = len(each["statement"])


POLICY = Noun("policy", "policy", ("name", "default", "statements"), complete=_counted)
VERDICTS = ("accepted", "changed", "rejected")


@click.group()
def policy() -> None:
    """What becomes of the routes of peers.

    A policy is written in a file, TOML or JSON, as a [[policy]] of bgpvpn.toml, which says what it can be. Those that
    are in that file are shown, and changed only there. What `bgpvpn -f json policy show` prints can be given back.

    Two are always there, and are not shown: accept and reject.
    """


_file = click.argument("file", type=click.File("rb"), default="-", metavar="[FILE]")


@policy.command()
@_file
@format_option
@pass_run
def create(run: Run, file: IO[bytes]) -> None:
    """Make the policies in a file; without one, of standard input."""
    policies = _read(file)
    each_of(map(str, range(len(policies))), lambda number: _made(run, policies[int(number)]))


def _made(run: Run, wanted: dict[str, Any]) -> None:
    show_written(run, POLICY, run.api.post(wanted, POLICY.path))


@policy.command("set")
@click.argument("ref", metavar="POLICY", shell_complete=names_of("policy"))
@_file
@format_option
@pass_run
def set_(run: Run, ref: str, file: IO[bytes]) -> None:
    """Change a policy to what is in a file; without one, in standard input.

    Peers that use it keep their sessions.
    """
    policies = _read(file)
    if len(policies) != 1:
        raise click.UsageError(f"{len(policies)} policies are in the file; one is wanted")
    wanted = {"default": "reject", "statement": [], **policies[0]}
    show_written(run, POLICY, run.api.patch(wanted, POLICY.path, ref))


def _read(file: IO[bytes]) -> list[dict[str, Any]]:
    """Return the policies that a file has: one, a list, or [[policy]] sections."""
    import tomllib

    octets = file.read()
    try:
        found = json.loads(octets)
    except ValueError:
        try:
            found = tomllib.loads(octets.decode())
        except ValueError as error:
            raise click.UsageError(f"the policy is neither JSON nor TOML: {error}") from None
    if isinstance(found, dict):
        found = found["policy"] if list(found) == ["policy"] else [found]
    if not isinstance(found, list) or not found or not all(isinstance(each, dict) for each in found):
        raise click.UsageError("there is no policy in the file")
    return [_as_written(each) for each in found]


def _as_written(found: dict[str, Any]) -> dict[str, Any]:
    """Return a policy without what `policy show -f json` adds, so that this can be changed and given back."""
    return (
        {name: found[name] for name in found if name not in ADDED} if found.keys() >= {"status", "revision"} else found
    )


ADDED = ("id", "status", "statements", "revision", "created_at", "updated_at")

ROUTE = (
    click.option("--rd", metavar="RD", help="The route distinguisher of a VPN or EVPN route."),
    click.option("--mac", metavar="MAC", help="Of an EVPN route of type 2."),
    click.option("--route-type", type=int, metavar="N", help="Of an EVPN route: 2, 3 or 5."),
    click.option("--as-path", metavar="AS...", help='As "64500 64501".'),
    click.option("--community", "communities", multiple=True, metavar="COMMUNITY", help="Repeatable."),
    click.option("--ext-community", "ext_communities", multiple=True, metavar="COMMUNITY", help="Repeatable."),
    click.option("--large-community", "large_communities", multiple=True, metavar="COMMUNITY", help="Repeatable."),
    click.option("--route-target", "route_targets", multiple=True, metavar="RT", help="Repeatable."),
    click.option("--next-hop", metavar="IP"),
    click.option("--local-pref", type=int, metavar="N"),
    click.option("--med", type=int, metavar="N"),
    click.option("--neighbour", metavar="IP", help="The address of the peer that the policy is for."),
    click.option("--neighbour-as", type=int, metavar="AS", help="Its AS; ours without."),
)


def _route(command: Any) -> Any:
    for option in reversed(ROUTE):
        command = option(command)
    return command


@policy.command()
@click.argument("ref", metavar="POLICY", shell_complete=names_of("policy"))
@click.option("--peer", metavar="PEER", help="Try it on the routes of this peer.", shell_complete=names_of("peer"))
@click.option("--direction", type=click.Choice(["in", "out"]), default="in", help="What it told, or would be told.")
@click.option("--family", metavar="FAMILY", help="The family of the route; with --peer only this one.")
@click.option("--prefix", metavar="PREFIX", help="Where the route leads to; with --peer only routes to it.")
@click.option("--limit", type=int, default=1000, metavar="N", show_default=True, help="At most so many routes.")
@_route
@format_option
@pass_run
def test(
    run: Run,
    ref: str,
    peer: str | None,
    direction: str,
    family: str | None,
    prefix: str | None,
    limit: int,
    **route: Any,
) -> None:
    """Try a policy, and change nothing.

    On a route that the options describe, or with --peer on those that the node really has: which are accepted as they
    are, changed, or rejected, and by which statement.
    """
    given = {name: list(value) if isinstance(value, tuple) else value for name, value in route.items()}
    given = {name: value for name, value in given.items() if value not in (None, [])}
    if peer is not None:
        if given:
            raise click.UsageError("a route is described, or --peer says whose are tried, not both")
        asked: dict[str, Any] = {"peer": peer, "direction": direction, "prefix": prefix}
    else:
        if "as_path" in given:
            given["as_path"] = _as_numbers(str(given["as_path"]))
        asked = {"route": given if prefix is None else {**given, "prefix": prefix}}
    asked |= {"limit": limit} if family is None else {"limit": limit, "family": family}
    run.show(lambda: run.api.post(asked, POLICY.path, ref, "test"), _told)


def _as_numbers(text: str) -> list[int]:
    try:
        return [int(word) for word in text.split()]
    except ValueError:
        raise click.UsageError(f"--as-path takes AS numbers, as '64500 64501', not {text!r}") from None


def _told(routes: list[dict[str, Any]]) -> str:
    lines = [line for route in routes for line in _about(route, every_statement=len(routes) == 1)]
    counts = Counter(route["verdict"] for route in routes)
    if len(routes) != 1:
        lines.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    return "\n".join(map(escaped, lines))


def _about(route: Mapping[str, Any], *, every_statement: bool) -> Iterator[str]:
    by = "by default" if route["by"] == "default" else f"by statement {route['by']}"
    identifier = "" if route["path_id"] is None else f" path {route['path_id']}"
    yield f"{route['verdict']} {by}: {route['family']} {route['nlri']}{identifier} from {route['source']}"
    for change in route["changes"]:
        yield f"  {change['field']}: {cell(change['old'])} -> {cell(change['new'])}, by statement {change['by']}"
    if every_statement:
        for each in route["statements"]:
            why = f"holds, {each['then']}" if each["matches"] else f"does not hold: {each['lacking']}"
            yield f"  statement {each['statement']} {why}"


policy.add_command(list_command(POLICY))
policy.add_command(show_command(POLICY))
policy.add_command(delete_command(POLICY))
