"""Binding networks, routers and ports to VPNs: `bgpvpn bind`, `bgpvpn unbind` and `bgpvpn binding`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cli.api import Api, Refused
from cli.fields import Field, body, for_create, for_set, number
from cli.objects import STATUS, Noun, Thing, show_written, titles, with_names
from cli.output import table
from cli.run import Run, format_option, names_of, pass_run, watch_option

F = TypeVar("F", bound=Callable[..., Any])

Bound = tuple[str, str]
"""What is bound: its kind, and its id."""

KINDS = ("network", "router", "port")


def _routes(type_: str, option: str) -> Callable[[Sequence[str]], list[Thing]]:
    """Return what reads routes of a binding, "PREFIX|VPN[,local_pref=N]"."""
    field = "prefix" if type_ == "prefix" else "bgpvpn_id"

    def read(texts: Sequence[str]) -> list[Thing]:
        found = []
        for text in texts:
            value, comma, preference = text.rpartition(",local_pref=")
            if not comma:
                value, comma, preference = text.rpartition(",local-pref=")
            route: Thing = {"type": type_, field: value or text}
            if comma:
                route["local_pref"] = number(f"{option} {value},local_pref", preference)
            found.append(route)
        return found

    return read


FIELDS = (
    Field(
        "--prefix",
        "prefixes",
        "A prefix behind the port. Repeatable.",
        clears=True,
        multiple=True,
        read=_routes("prefix", "--prefix"),
        metavar="CIDR[,local_pref=N]",
    ),
    Field(
        "--leak",
        "leaks",
        "A VPN whose routes are announced anew, as lying behind the port. Repeatable.",
        clears=True,
        multiple=True,
        read=_routes("bgpvpn", "--leak"),
        metavar="VPN[,local_pref=N]",
        shell_complete=names_of("bgpvpn"),
    ),
    Field("--fixed-ips/--no-fixed-ips", "advertise_fixed_ips", "Whether the addresses of the port are announced."),
    Field("--extra-routes/--no-extra-routes", "advertise_extra_routes", "Whether those of the router are announced."),
    Field(
        "--direction",
        "direction",
        "Of a port: both, the default; to-port: only announced; from-port: only imported.",
        type=click.Choice(["both", "to-port", "from-port"]),
    ),
)


def _complete(api: Api, bindings: list[Thing]) -> None:
    with_names(network="network", router="router", port="port")(api, bindings)
    vpns = titles(api, "bgpvpn") if bindings else {}
    for each in bindings:
        each["vpn"] = vpns.get(each["bgpvpn_id"], each["bgpvpn_id"])
        each["prefixes"] = [_text(route["prefix"], route) for route in each["routes"] if route["type"] == "prefix"]
        each["leaks"] = [
            _text(vpns.get(route["bgpvpn_id"], route["bgpvpn_id"]), route)
            for route in each["routes"]
            if route["type"] == "bgpvpn"
        ]


def _text(what: str, route: Thing) -> str:
    return what if route["local_pref"] is None else f"{what},local_pref={route['local_pref']}"


BINDING = Noun(
    "association",
    "binding",
    ("vpn", *KINDS, "prefixes", "leaks", "direction"),
    complete=_complete,
)


def _what_and_where(command: F) -> F:
    """Take a network, a router or a port, and a VPN."""
    for kind in reversed(KINDS):
        words = f"The name is that of a {kind}." if kind == "network" else f"That of a {kind}."
        command = click.option(f"--{kind}", "kind", flag_value=kind, default=None, help=words)(command)
    command = click.argument("vpn", metavar="VPN", shell_complete=names_of("bgpvpn"))(command)
    return click.argument("ref", metavar="NETWORK|ROUTER|PORT", shell_complete=names_of(*KINDS))(command)


@click.command()
@_what_and_where
@for_create(FIELDS)
@format_option
@pass_run
def bind(run: Run, ref: str, vpn: str, kind: str | None, **given: Any) -> None:
    """Bind a network, a router or a port to a VPN."""
    kind, id_ = _found(run.api, ref, kind)
    wanted = _with_routes(body(FIELDS, given), [])
    show_written(run, BINDING, run.api.post({f"{kind}_id": id_, **wanted}, "bgpvpns", vpn, BINDING.path))


@click.command()
@_what_and_where
@pass_run
def unbind(run: Run, ref: str, vpn: str, kind: str | None) -> None:
    """Take a network, a router or a port out of a VPN."""
    run.api.delete(BINDING.path, _binding(run.api, ref, vpn, kind)["id"])


@click.group()
def binding() -> None:
    """Bindings of networks, routers and ports to VPNs, once there are.

    `bgpvpn bind` makes one, `bgpvpn unbind` removes it.
    """


@binding.command("set")
@_what_and_where
@for_set(FIELDS)
@format_option
@pass_run
def set_(run: Run, ref: str, vpn: str, kind: str | None, **given: Any) -> None:
    """Change a binding.

    What is given replaces what is there: prefixes as a whole, leaks as a whole.
    """
    there = _binding(run.api, ref, vpn, kind)
    wanted = _with_routes(body(FIELDS, given), there["routes"])
    show_written(run, BINDING, run.api.patch(wanted, BINDING.path, there["id"]))


@binding.command("list")
@click.argument("vpn", metavar="[VPN]", required=False, shell_complete=names_of("bgpvpn"))
@watch_option
@format_option
@pass_run
def list_(run: Run, vpn: str | None, watch: bool) -> None:
    """List the bindings of a VPN, or all."""
    columns = (*BINDING.columns, *STATUS)
    run.show(lambda: BINDING.all(run.api, bgpvpn_id=vpn), lambda rows: table(rows, columns), watch=watch)


@binding.command()
@_what_and_where
@format_option
@pass_run
def show(run: Run, ref: str, vpn: str, kind: str | None) -> None:
    """Show a binding."""
    show_written(run, BINDING, _binding(run.api, ref, vpn, kind))


def _with_routes(wanted: Thing, there: list[Thing]) -> Thing:
    """Return fields with `routes` made of the prefixes and leaks that are given, and of those that stay."""
    prefixes, leaks = wanted.pop("prefixes", None), wanted.pop("leaks", None)
    if prefixes is None and leaks is None:
        return wanted
    kept = {type_: [each for each in there if each["type"] == type_] for type_ in ("prefix", "bgpvpn")}
    routes = [
        *(kept["prefix"] if prefixes is None else prefixes),
        *(kept["bgpvpn"] if leaks is None else leaks),
    ]
    return {**wanted, "routes": routes}


def _binding(api: Api, ref: str, vpn: str, kind: str | None) -> Thing:
    """Return the binding of a thing to a VPN."""
    kind, id_ = _found(api, ref, kind)
    vpn_id = api.get("bgpvpns", vpn)["id"]
    bound: list[Thing] = api.get(BINDING.path, bgpvpn_id=vpn_id, **{f"{kind}_id": id_})
    if not bound:
        raise Refused(f"{kind} {ref!r} is not bound to VPN {vpn!r}")
    return bound[0]


def _found(api: Api, ref: str, kind: str | None) -> Bound:
    """Return the one thing that has the name; UsageError if things of several kinds have it."""
    kinds = KINDS if kind is None else (kind,)
    found: list[Bound] = []
    for each in kinds:
        try:
            found.append((each, api.get(f"{each}s", ref)["id"]))
        except Refused as error:
            if error.what != "not found":
                raise
    if len(found) > 1:
        there = " and ".join(f"a {each} {ref!r}" for each, _ in found)
        raise click.UsageError(f"there is {there}; say {' or '.join(f'--{each}' for each, _ in found)}")
    if not found:
        raise Refused(f"there is no {' or '.join(kinds)} {ref!r}")
    return found[0]
