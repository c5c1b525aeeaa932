"""Floating addresses: `bgpvpn floating-ip`."""

from __future__ import annotations

from typing import Any

import click

from cli.fields import Field, body, for_create, for_set
from cli.objects import OF_PROJECT, PROJECT, Noun, delete_command, list_command, show_command, show_written, with_names
from cli.run import Run, format_option, names_of, pass_run

FIELDS = (
    Field(
        "--port",
        "port_id",
        "The port that it stands for.",
        clears=True,
        metavar="PORT",
        shell_complete=names_of("port"),
    ),
    Field("--fixed-ip", "fixed_ip", "Which of its addresses; the first without.", clears=True, metavar="IP"),
    Field(
        "--router",
        "router_id",
        "The router that leads to it; that of the port's subnet without.",
        clears=True,
        metavar="ROUTER",
        shell_complete=names_of("router"),
    ),
    PROJECT,
)

FLOATING_IP = Noun(
    "floating_ip",
    "floating-ip",
    ("address", "network", "port", "fixed_ip", "router"),
    more=("project_id", "id"),
    filters=(OF_PROJECT,),
    complete=with_names(network="network", port="port", router="router"),
    found_by="address",
)


@click.group("floating-ip")
def floating_ip() -> None:
    """Addresses of external networks that stand for tenants' ports.

    Each is known by its address.
    """


@floating_ip.command()
@click.argument("network", shell_complete=names_of("network"))
@click.argument("address")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, network: str, address: str, **given: Any) -> None:
    """Make a floating address in an external network."""
    wanted = {"network_id": network, "address": address, **body(FIELDS, given)}
    show_written(run, FLOATING_IP, run.api.post(wanted, FLOATING_IP.path))


@floating_ip.command("set")
@click.argument("ref", metavar="ADDRESS")
@for_set(FIELDS)
@format_option
@pass_run
def set_(run: Run, ref: str, **given: Any) -> None:
    """Change what a floating address stands for.

    Without a port it has no --fixed-ip either.
    """
    wanted = body(FIELDS, given)
    if "port_id" in wanted:
        wanted.setdefault("fixed_ip", None)
    id_ = FLOATING_IP.id_of(run.api, ref)
    show_written(run, FLOATING_IP, run.api.patch(wanted, FLOATING_IP.path, id_))


floating_ip.add_command(list_command(FLOATING_IP))
floating_ip.add_command(show_command(FLOATING_IP))
floating_ip.add_command(delete_command(FLOATING_IP))
