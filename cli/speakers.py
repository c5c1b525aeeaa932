"""Dynamic routing: `bgpvpn speaker`."""

from __future__ import annotations

from typing import Any

import click

from cli.api import Api, Refused
from cli.fields import Field, body, for_create
from cli.objects import (
    OF_PROJECT,
    PROJECT,
    Noun,
    Thing,
    delete_command,
    each_of,
    list_command,
    set_command,
    show_command,
    show_written,
    titles,
)
from cli.output import table
from cli.peers import PEER
from cli.run import Run, format_option, names_of, pass_run, watch_option


def _flag(option: str, field: str, help: str) -> Field:
    return Field(f"--{option}/--no-{option}", field, help)


FIELDS = (
    Field("--local-as", "local_as", "Our AS towards its peers.", fixed=True, required=True, type=int, metavar="AS"),
    Field("--ip-version", "ip_version", "4, the default, or 6.", fixed=True, type=int, metavar="4|6"),
    _flag(
        "advertise-floating-ip-host-routes",
        "advertise_floating_ip_host_routes",
        "Whether floating addresses are told; without a word they are.",
    ),
    _flag(
        "advertise-tenant-networks",
        "advertise_tenant_networks",
        "Whether subnets behind routers are told; without a word they are.",
    ),
    _flag(
        "advertise-fixed-ip-host-routes",
        "advertise_fixed_ip_host_routes",
        "Whether addresses of ports on this node behind routers are told; without a word they are not.",
    ),
    Field(
        "--network",
        "networks",
        "An external network whose routers count. Repeatable.",
        clears=True,
        multiple=True,
        metavar="NETWORK",
        shell_complete=names_of("network"),
    ),
    Field(
        "--peer",
        "peers",
        "A peer that is told. Repeatable.",
        clears=True,
        multiple=True,
        metavar="PEER",
        shell_complete=names_of("peer"),
    ),
    PROJECT,
)


def _complete(api: Api, speakers: list[Thing]) -> None:
    for field, kind in (("networks", "network"), ("peers", "peer")):
        called = titles(api, kind) if any(each[field] for each in speakers) else {}
        for each in speakers:
            each[field] = [called.get(id_, id_) for id_ in each[field]]


SPEAKER = Noun(
    "speaker",
    "speaker",
    ("name", "local_as", "ip_version", "networks", "peers"),
    more=(
        *("advertise_floating_ip_host_routes", "advertise_tenant_networks", "advertise_fixed_ip_host_routes"),
        *("project_id", "id"),
    ),
    filters=(OF_PROJECT,),
    complete=_complete,
)
ADVERTISEMENT = Noun("advertisement", "advertisement", ("destination", "next_hop"))
ROUTES = ("destination", "next_hop", "why")
LEARNED = ("destination", "next_hop", "peer", "as_path", "best", "why")

_speaker = click.argument("ref", metavar="SPEAKER", shell_complete=names_of("speaker"))


@click.group()
def speaker() -> None:
    """Dynamic routing: which addresses of tenants are told to which peers."""


@speaker.command()
@click.argument("name")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, name: str, **given: Any) -> None:
    """Make a speaker."""
    show_written(run, SPEAKER, run.api.post({"name": name, **body(FIELDS, given)}, SPEAKER.path))


speaker.add_command(set_command(SPEAKER, FIELDS))
speaker.add_command(list_command(SPEAKER))
speaker.add_command(show_command(SPEAKER))
speaker.add_command(delete_command(SPEAKER, " with their advertisements"))


@speaker.group()
def add() -> None:
    """Give a speaker a network or a peer."""


@speaker.group()
def remove() -> None:
    """Take a network or a peer from a speaker."""


def _id(run: Run, kind: str, ref: str) -> str:
    if kind == "peer":
        return str(run.api.get(PEER.path, PEER.id_of(run.api, ref))["id"])
    return str(run.api.get(f"{kind}s", ref)["id"])


def _members(kind: str) -> None:
    """Make the commands that add and remove networks or peers."""

    @add.command(kind, help=f"Give a speaker a {kind}.")
    @_speaker
    @click.argument("member", metavar=kind.upper(), shell_complete=names_of(kind))
    @format_option
    @pass_run
    def add_one(run: Run, ref: str, member: str) -> None:
        there = run.api.get(SPEAKER.path, ref)
        ids = [*there[f"{kind}s"], _id(run, kind, member)]
        show_written(run, SPEAKER, run.api.patch({f"{kind}s": ids}, SPEAKER.path, there["id"]))

    @remove.command(kind, help=f"Take a {kind} from a speaker.")
    @_speaker
    @click.argument("member", metavar=kind.upper(), shell_complete=names_of(kind))
    @format_option
    @pass_run
    def remove_one(run: Run, ref: str, member: str) -> None:
        there, id_ = run.api.get(SPEAKER.path, ref), _id(run, kind, member)
        if id_ not in there[f"{kind}s"]:
            raise Refused(f"speaker {ref!r} has no {kind} {member!r}")
        ids = [each for each in there[f"{kind}s"] if each != id_]
        show_written(run, SPEAKER, run.api.patch({f"{kind}s": ids}, SPEAKER.path, there["id"]))


_members("network")
_members("peer")


@speaker.command()
@_speaker
@click.argument("destination", metavar="CIDR")
@click.option("--next-hop", required=True, metavar="IP", help="Where it leads.")
@format_option
@pass_run
def advertise(run: Run, ref: str, destination: str, next_hop: str) -> None:
    """Tell the peers of a speaker a route.

    One that is told already gets the next hop that is given.
    """
    found = run.api.get(ADVERTISEMENT.path, speaker_id=ref, destination=destination)
    if found:
        written = run.api.patch({"next_hop": next_hop}, ADVERTISEMENT.path, found[0]["id"])
    else:
        wanted = {"speaker_id": ref, "destination": destination, "next_hop": next_hop}
        written = run.api.post(wanted, ADVERTISEMENT.path)
    show_written(run, ADVERTISEMENT, written)


@speaker.command()
@_speaker
@click.argument("destinations", metavar="CIDR...", nargs=-1, required=True)
@pass_run
def withdraw(run: Run, ref: str, destinations: tuple[str, ...]) -> None:
    """Tell the peers of a speaker no more of routes that were advertised."""
    id_ = run.api.get(SPEAKER.path, ref)["id"]

    def one(destination: str) -> None:
        found = run.api.get(ADVERTISEMENT.path, speaker_id=id_, destination=destination)
        if not found:
            raise Refused(f"speaker {ref!r} advertises no {destination!r} that somebody asked for")
        run.api.delete(ADVERTISEMENT.path, found[0]["id"])

    each_of(destinations, one)


@speaker.command()
@_speaker
@watch_option
@format_option
@pass_run
def routes(run: Run, ref: str, watch: bool) -> None:
    """What a speaker tells its peers and why, and what they told it."""

    def text(answer: dict[str, Any]) -> str:
        advertised, learned = table(answer["advertised"], ROUTES), table(answer["learned"], LEARNED)
        return f"advertised:\n{advertised}\n\nlearned:\n{learned}"

    run.show(lambda: run.api.get(SPEAKER.path, ref, "routes"), text, watch=watch)
