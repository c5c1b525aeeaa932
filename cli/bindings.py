"""Binding networks and ports to VPNs: `bgpvpn bind` and `bgpvpn unbind`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from cli.api import Api, Refused
from cli.output import fields
from cli.run import Run, format_option, names_of, pass_run

F = TypeVar("F", bound=Callable[..., Any])

Bound = tuple[str, str]  # "network" or "port", and its id


def _what_and_where(command: F) -> F:
    """Take a network or port, and a VPN."""
    command = click.option(
        "--network/--port", "is_network", default=None, help="What it is, when a network and a port have the name."
    )(command)
    command = click.argument("vpn", metavar="VPN", shell_complete=names_of("bgpvpn"))(command)
    return click.argument("ref", metavar="NETWORK|PORT", shell_complete=names_of("network", "port"))(command)


@click.command()
@_what_and_where
@click.option("--prefix", "prefixes", multiple=True, metavar="CIDR", help="A prefix behind the port. Repeatable.")
@click.option("--no-fixed-ips", is_flag=True, help="Do not announce the addresses of the port.")
@format_option
@pass_run
def bind(run: Run, ref: str, vpn: str, is_network: bool | None, prefixes: tuple[str, ...], no_fixed_ips: bool) -> None:
    """Bind a network or a port to a VPN."""
    kind, id_ = _found(run.api, ref, is_network)
    wanted = {f"{kind}_id": id_, "advertise_fixed_ips": not no_fixed_ips}
    wanted["routes"] = [{"type": "prefix", "prefix": prefix} for prefix in prefixes]
    made = run.api.post(wanted, "bgpvpns", vpn, "associations")
    run.show(lambda: made, lambda made: fields({"vpn": vpn, kind: ref, **made}))


@click.command()
@_what_and_where
@pass_run
def unbind(run: Run, ref: str, vpn: str, is_network: bool | None) -> None:
    """Take a network or a port out of a VPN."""
    kind, id_ = _found(run.api, ref, is_network)
    vpn_id = run.api.get("bgpvpns", vpn)["id"]
    bound = run.api.get("associations", bgpvpn_id=vpn_id, **{f"{kind}_id": id_})
    if not bound:
        raise Refused(f"{kind} {ref!r} is not bound to VPN {vpn!r}")
    run.api.delete("associations", bound[0]["id"])


def _found(api: Api, ref: str, is_network: bool | None) -> Bound:
    """Return the one thing that has the name; UsageError if a network has it and a port as well."""
    kinds = ("network", "port") if is_network is None else ("network",) if is_network else ("port",)
    found: list[Bound] = []
    for kind in kinds:
        try:
            found.append((kind, api.get(f"{kind}s", ref)["id"]))
        except Refused as error:
            if error.what != "not found":
                raise
    if len(found) > 1:
        raise click.UsageError(f"there is a network {ref!r} and a port {ref!r}; say --network or --port")
    if not found:
        raise Refused(f"there is no {' or '.join(kinds)} {ref!r}")
    return found[0]
