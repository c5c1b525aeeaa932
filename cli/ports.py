"""Ports: `bgpvpn port`."""

from __future__ import annotations

from typing import Any

import click

from cli.fields import Field, body, for_create, number, pairs
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

OVS_KEYS = ("bridge", "port", "vlan", "fallback_port", "fallback_src_mac")


def _plug(text: str) -> dict[str, Any]:
    """Read where an interface meets Open vSwitch: "bridge=br-mpls,port=1,vlan=2"."""
    found: dict[str, Any] = pairs("--ovs", text, OVS_KEYS)
    return {key: number("--ovs vlan", value) if key == "vlan" else value for key, value in found.items()}


FIELDS = (
    Field("--network", "network_id", "Its network; without one it is a port by itself.", fixed=True, **OF_NETWORK),
    Field("--interface", "interface", "The interface of this node; tap and the id without.", metavar="IF"),
    Field("--netns", "netns", "The network namespace of the interface, as `ip netns` has it.", metavar="NAME"),
    Field(
        "--ovs",
        "ovs",
        "Frames with a VLAN on a port of an Open vSwitch bridge; the interface is made then."
        " Also fallback-port=P, fallback-src-mac=MAC.",
        clears=True,
        read=_plug,
        metavar="bridge=BR,port=P[,vlan=N]",
    ),
    Field("--host", "host", "The node that it is on; this one without.", metavar="HOST"),
    Field("--device-owner", "device_owner", "What it is for; network:... is not announced.", metavar="TEXT"),
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
    more=("netns", "ovs", "host", "device_owner", "gateway_ips", "admin_state_up", "project_id", "id"),
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
