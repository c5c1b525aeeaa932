"""Ports: `bgpvpn port`."""

from __future__ import annotations

from typing import Any

import click

from cli.fields import Field, body, for_create
from cli.objects import (
    OF_PROJECT,
    PROJECT,
    Noun,
    delete_command,
    list_command,
    set_command,
    show_command,
    show_written,
    with_network,
)
from cli.run import Run, format_option, names_of, pass_run

OF_NETWORK: dict[str, Any] = {"metavar": "NETWORK", "shell_complete": names_of("network")}

FIELDS = (
    Field("--network", "network_id", "Its network; without one it is a port by itself.", fixed=True, **OF_NETWORK),
    Field("--interface", "interface", "The interface of this node.", required=True, metavar="IF"),
    Field("--netns", "netns", "The network namespace of the interface, as `ip netns` has it.", metavar="NAME"),
    Field("--mac", "mac_address", "The MAC address of the tenant.", required=True, metavar="MAC"),
    Field(
        "--ip",
        "ip_addresses",
        "An address of the tenant, with /LENGTH on a port by itself. Repeatable.",
        clears=True,
        multiple=True,
        metavar="IP",
    ),
    Field(
        "--gateway",
        "gateway_ips",
        "A gateway that the node answers for, on a port by itself. Repeatable.",
        clears=True,
        multiple=True,
        metavar="IP",
    ),
    Field("--enable/--disable", "admin_state_up", "Whether it is in use."),
    PROJECT,
)


PORT = Noun(
    "port",
    "port",
    ("name", "network", "interface", "mac_address", "ip_addresses"),
    more=("netns", "gateway_ips", "admin_state_up", "project_id", "id"),
    filters=(
        Field("--network", "network_id", "Only those of a network.", **OF_NETWORK),
        OF_PROJECT,
    ),
    complete=with_network,
)


@click.group()
def port() -> None:
    """Ports: interfaces of this node that belong to tenants."""


@port.command()
@click.argument("name")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, name: str, **given: Any) -> None:
    """Make a port."""
    show_written(run, PORT, run.api.post({"name": name, **body(FIELDS, given)}, PORT.path))


port.add_command(set_command(PORT, FIELDS))
port.add_command(list_command(PORT))
port.add_command(show_command(PORT))
port.add_command(delete_command(PORT))
