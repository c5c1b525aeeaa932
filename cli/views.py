"""What became of the wishes: `bgpvpn show` and `bgpvpn events`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click

from cli.api import Refused
from cli.objects import STATUS, titles
from cli.output import as_json, cell, escaped, fields, table
from cli.run import Run, format_option, names_of, pass_run, watch_option
from cli.vpns import show as show_vpn

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

MOST_ROUTES = 1000

SESSIONS = (
    *("peer", "address", "remote_as", "state", "since_s", "synced", "families", "routes_in", "routes_out"),
    *("routes_rejected", "without_policy", "held_off", "last_error"),
)
ROUTES = (
    *("family", "nlri", "source", "path_id", "stale", "next_hop", "label", "vni", "local_pref", "route_targets"),
    "imported_by",
)
SELDOM = ("path_id", "stale", "routes_rejected", "without_policy", "held_off")
"""Shown where a route or a session has one."""

VPNS = ("name", "vpns", "ports", "table", "label", "routes", "vni", "macs", "vteps", *STATUS)
KERNEL = ("object", "state", "reason")
REFUSED = ("row", "reason")


class _Show(click.Group):
    """Views by their names; any other word is the name of a VPN."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            args = ["vpn", *args]
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except Refused as error:
            if ctx.invoked_subcommand != "vpn" or error.what != "not found":
                raise
            views = ", ".join(name for name in self.commands if name != "vpn")
            raise Refused(f"{error.message}, and the views are {views}") from error

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return super().shell_complete(ctx, incomplete) + names_of("bgpvpn")(ctx, self.params[0], incomplete)


@click.group(cls=_Show, subcommand_metavar="NAME | VIEW [ARGS]...")
@format_option
def show() -> None:
    """Show a VPN, or one of the views.

    `bgpvpn show blue` is short for `bgpvpn show vpn blue`, which also shows a VPN that has the name of a view.
    """


show.add_command(show_vpn)


@show.command()
@watch_option
@format_option
@pass_run
def status(run: Run, watch: bool) -> None:
    """What the node says of itself.

    "synced" is yes when it has heard all that its peers have to say.
    """
    run.show(lambda: run.api.get("status"), fields, watch=watch)


@show.command()
@watch_option
@format_option
@pass_run
def sessions(run: Run, watch: bool) -> None:
    """The BGP sessions, one for each peer.

    "synced" is yes when all that the peer has to say was heard. What its policies rejected, and why the session is held
    off, are columns when there is such a thing. --format json has what was agreed, limits, and more.
    """
    run.show(lambda: run.api.get("sessions"), lambda rows: _table(rows, SESSIONS), watch=watch)


def _table(rows: list[dict[str, Any]], columns: Sequence[str]) -> str:
    return table(rows, [each for each in columns if each not in SELDOM or any(row.get(each) for row in rows)])


@show.command()
@click.option("--family", metavar="FAMILY", help="Only of this address family.")
@click.option("--rt", metavar="RT", help="Only with this route target.")
@click.option("--prefix", metavar="PREFIX", help="Only to this prefix.")
@click.option("--vpn", metavar="VPN", help="Only what this VPN imports.", shell_complete=names_of("bgpvpn"))
@click.option(
    "--source",
    metavar="PEER|local",
    help="Only from this peer, by its name or address, or our own.",
    shell_complete=names_of("peer"),
)
@click.option("--received", is_flag=True, help="What peers told, before the import policies.")
@click.option("--limit", type=int, default=MOST_ROUTES, metavar="N", show_default=True, help="At most so many.")
@watch_option
@format_option
@pass_run
def routes(run: Run, limit: int, received: bool, watch: bool, **filters: str | None) -> None:
    """The BGP routes that VPNs of this node import, and its own.

    With --received those of peers as they came, before the import policies.
    """

    def text(rows: list[dict[str, Any]]) -> str:
        if len(rows) >= limit:
            click.echo(f"these are the first {limit}; --limit shows more", err=True)
        return _table(rows, ROUTES)

    asked = {**filters, "received": "yes" if received else None}
    run.show(lambda: run.api.get("routes", limit=str(limit), **asked), text, watch=watch)


@show.command()
@click.argument("peer", shell_complete=names_of("peer"))
@format_option
@pass_run
def malformed(run: Run, peer: str) -> None:
    """The last messages of a peer that broke the protocol, octet by octet.

    The newest first. PEER is a name or an address.
    """

    def text(messages: list[dict[str, Any]]) -> str:
        return "\n\n".join(map(_dumped, messages)) or "none"

    run.show(lambda: run.api.get("sessions", peer, "malformed"), text)


def _dumped(message: Mapping[str, Any]) -> str:
    """Return a message as lines of 16 octets, behind what is wrong with it."""
    octets = str(message["message"])
    lines = [f"{message['ago_s']} s ago, {message['length']} octets: {escaped(str(message['reason']))}"]
    if message["offending"]:
        lines.append(f"  wrong: {escaped(str(message['offending']))}")
    for at in range(0, len(octets), 32):
        pairs = " ".join(octets[here : here + 2] for here in range(at, min(at + 32, len(octets)), 2))
        lines.append(f"  {at // 2:04x}  {escaped(pairs)}")
    if message["length"] * 2 > len(octets):
        lines.append(f"  and {message['length'] - len(octets) // 2} octets more")
    return "\n".join(lines)


@show.command()
@watch_option
@format_option
@pass_run
def vpns(run: Run, watch: bool) -> None:
    """What was made of the VPNs: segments with their VRFs and EVIs."""

    def text(rows: list[dict[str, Any]]) -> str:
        ports = titles(run.api, "port")
        return table([_instance(row, ports) for row in rows], VPNS)

    run.show(lambda: run.api.get("instances"), text, watch=watch)


def _instance(row: dict[str, Any], ports: dict[str, str]) -> dict[str, Any]:
    """Return a segment, its VRF and its EVI as one row, with the status of the first of them that is not active."""
    parts = [row, row.get("vrf") or {}, row.get("evi") or {}]
    statuses = [part["status"] for part in parts if "status" in part]
    status = next((each for each in statuses if each["state"] != "active"), statuses[0])
    called = [ports.get(id_, id_) for id_ in row["ports"]]
    return {**parts[1], **parts[2], **row, "ports": called, "status": status}


@show.command()
@watch_option
@format_option
@pass_run
def kernel(run: Run, watch: bool) -> None:
    """What the kernel took, and what it refused and why."""

    def text(answer: dict[str, Any]) -> str:
        tables = [table(answer["objects"], KERNEL)]
        if refused := answer.get("refused"):
            tables.append(table(refused, REFUSED))
        rest = {name: value for name, value in answer.items() if name not in ("objects", "refused")}
        return "\n\n".join([*tables, fields(_unfolded(rest))])

    run.show(lambda: run.api.get("kernel"), text, watch=watch)


def _unfolded(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of fields as fields: counters.added."""
    found: dict[str, Any] = {}
    for name, value in answer.items():
        if isinstance(value, Mapping):
            found |= {f"{name}.{inner}": each for inner, each in _unfolded(value).items()}
        else:
            found[name] = value
    return found


@click.command()
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after so many.")
@format_option
@pass_run
def events(run: Run, count: int | None) -> None:
    """Show events as they happen.

    One line for each, until Ctrl-C.
    """
    with contextlib.suppress(KeyboardInterrupt), run.api.events() as happening:
        for event in islice(happening, count):
            click.echo(as_json(event, on_one_line=True) if run.form == "json" else cell(event))
