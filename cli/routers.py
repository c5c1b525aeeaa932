"""Tenants' routers: `bgpvpn router`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import click

from cli.api import Api, Refused
from cli.fields import Field, body, for_create
from cli.networks import complete_subnets, subnet_ref
from cli.objects import (
    OF_PROJECT,
    PROJECT,
    Noun,
    Thing,
    delete_command,
    list_command,
    set_command,
    show_command,
    show_written,
    with_names,
)
from cli.run import Run, format_option, names_of, pass_run


def _ids(texts: Sequence[str]) -> list[str]:
    run = click.get_current_context().find_object(Run)
    assert run is not None
    return [subnet_ref(run.api, text) for text in texts]


def _routes(texts: Sequence[str]) -> list[dict[str, str]]:
    """Read extra routes, "DESTINATION=NEXTHOP"."""
    found = []
    for text in texts:
        destination, equals, nexthop = text.partition("=")
        if not equals:
            raise click.UsageError(f"--route takes DESTINATION=NEXTHOP, not {text!r}")
        found.append({"destination": destination, "nexthop": nexthop})
    return found


FIELDS = (
    Field(
        "--subnet",
        "subnet_ids",
        "A subnet whose gateway it is: NETWORK/CIDR, or its name. Repeatable.",
        clears=True,
        multiple=True,
        read=_ids,
        metavar="SUBNET",
        shell_complete=complete_subnets,
    ),
    Field(
        "--route",
        "routes",
        "A route to what is behind a host of its subnets. Repeatable.",
        clears=True,
        multiple=True,
        read=_routes,
        metavar="CIDR=IP",
    ),
    Field(
        "--gateway-network",
        "gateway_network_id",
        "The external network that it leads to.",
        clears=True,
        metavar="NETWORK",
        shell_complete=names_of("network"),
    ),
    Field(
        "--gateway-ip",
        "gateway_ips",
        "Its address there. Repeatable.",
        clears=True,
        multiple=True,
        metavar="IP",
    ),
    Field("--enable/--disable", "admin_state_up", "Whether it is in use."),
    PROJECT,
)


def _complete(api: Api, routers: list[Thing]) -> None:
    with_names(gateway_network="network")(api, routers)
    cidrs = {each["id"]: each["cidr"] for each in api.get("subnets")}
    for router in routers:
        router["subnets"] = [cidrs.get(id_, id_) for id_ in router["subnet_ids"]]


ROUTER = Noun(
    "router",
    "router",
    ("name", "subnets", "routes", "gateway_network", "gateway_ips"),
    more=("admin_state_up", "project_id", "id"),
    filters=(OF_PROJECT,),
    complete=_complete,
    words={"routes": lambda routes: [f"{each['destination']}={each['nexthop']}" for each in routes]},
)


@click.group()
def router() -> None:
    """Routers of tenants: the gateways of subnets, and their way out.

    A subnet is NETWORK/CIDR, or a name.
    """


@router.command()
@click.argument("name")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, name: str, **given: Any) -> None:
    """Make a router."""
    show_written(run, ROUTER, run.api.post({"name": name, **body(FIELDS, given)}, ROUTER.path))


router.add_command(set_command(ROUTER, FIELDS))
router.add_command(list_command(ROUTER))
router.add_command(show_command(ROUTER))
router.add_command(delete_command(ROUTER))


@router.group()
def add() -> None:
    """Give a router a subnet."""


@router.group()
def remove() -> None:
    """Take a subnet from a router."""


def _changing(group: click.Group, change: Callable[[list[str], str, Thing], list[str]], help: str) -> None:
    @group.command("subnet", help=help)
    @click.argument("ref", metavar="ROUTER", shell_complete=names_of("router"))
    @click.argument("subnet", metavar="SUBNET", shell_complete=complete_subnets)
    @format_option
    @pass_run
    def command(run: Run, ref: str, subnet: str) -> None:
        there = run.api.get(ROUTER.path, ref)
        found = run.api.get("subnets", subnet_ref(run.api, subnet))
        ids = change(there["subnet_ids"], subnet, found)
        show_written(run, ROUTER, run.api.patch({"subnet_ids": ids}, ROUTER.path, there["id"]))


def _with(ids: list[str], _: str, subnet: Thing) -> list[str]:
    return [*ids, subnet["id"]]


def _without(ids: list[str], text: str, subnet: Thing) -> list[str]:
    if subnet["id"] not in ids:
        raise Refused(f"the router has no interface in subnet {text!r}")
    return [id_ for id_ in ids if id_ != subnet["id"]]


_changing(add, _with, "Make a router the gateway of a subnet.")
_changing(remove, _without, "Let a router be the gateway of a subnet no more.")
