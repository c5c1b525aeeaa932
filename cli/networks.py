"""Networks and their subnets: `bgpvpn network` and `bgpvpn subnet`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click

from cli.api import Api, Refused
from cli.fields import Field, body, for_create, for_set
from cli.objects import (
    OF_PROJECT,
    PROJECT,
    STATUS,
    Noun,
    Thing,
    delete_command,
    each_of,
    list_command,
    set_command,
    show_command,
    show_written,
    with_network,
)
from cli.output import table
from cli.run import Run, completing, format_option, names_of, pass_run, watch_option

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

FIELDS = (
    Field("--mtu", "mtu", "The MTU of its segment.", clears=True, type=int, metavar="OCTETS"),
    Field("--external/--internal", "external", "Whether routers lead to it; it is in no VPN then."),
    Field(
        "--fallback-mac",
        "fallback_mac",
        "The router, not ours, that gets what no VPN has a route for.",
        clears=True,
        metavar="MAC",
    ),
    Field(
        "--host-addresses/--no-host-addresses",
        "host_addresses",
        "Whether its ports may have addresses in no subnet, each by itself.",
    ),
    PROJECT,
)

NETWORK = Noun(
    "network",
    "network",
    ("name", "subnets", "mtu"),
    more=("external", "fallback_mac", "host_addresses", "project_id", "id"),
    filters=(OF_PROJECT,),
    words={"subnets": lambda subnets: [_subnet_text(each) for each in subnets]},
)

SUBNET_FIELDS = (
    Field("--gateway", "gateway_ip", "Answered by every node with a port there.", clears=True, metavar="IP"),
    Field("--address-scope", "address_scope", "Where its addresses are known.", metavar="SCOPE"),
    Field("--name", "name", "A name.", metavar="NAME"),
    PROJECT,
)


def _subnet_text(subnet: Thing) -> str:
    return str(subnet["cidr"]) + (f" gateway {subnet['gateway_ip']}" if subnet["gateway_ip"] else "")


SUBNET = Noun("subnet", "subnet", ("network", "cidr", "gateway_ip", "address_scope", "name"), complete=with_network)


class _InOrder(click.Command):
    """A command that knows in what order --subnet and --gateway came, as `ctx.meta["subnets"]`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        given, _, order = self.make_parser(ctx).parse_args(list(args))
        subnets: list[dict[str, str]] = []
        values = {name: iter(given.get(name) or ()) for name in ("subnet", "gateway")}
        for param in order:
            if param.name == "subnet":
                subnets.append({"cidr": next(values["subnet"])})
            elif param.name == "gateway":
                gateway = next(values["gateway"])
                if not subnets or "gateway_ip" in subnets[-1]:
                    if ctx.resilient_parsing:  # a word is being completed
                        break
                    raise click.UsageError(f"--gateway {gateway} follows no --subnet of its own", ctx)
                subnets[-1]["gateway_ip"] = gateway
        ctx.meta["subnets"] = subnets
        return super().parse_args(ctx, args)


@click.group()
def network() -> None:
    """Networks of tenants."""


@network.command(cls=_InOrder)
@click.argument("name")
@click.option("--subnet", multiple=True, metavar="CIDR", expose_value=False, help="Its addresses. Repeatable.")
@click.option("--gateway", multiple=True, metavar="IP", expose_value=False, help="The gateway of the --subnet before.")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, name: str, **given: Any) -> None:
    """Make a network with its subnets."""
    wanted = {"name": name, "subnets": click.get_current_context().meta["subnets"], **body(FIELDS, given)}
    show_written(run, NETWORK, run.api.post(wanted, NETWORK.path))


network.add_command(set_command(NETWORK, FIELDS))
network.add_command(list_command(NETWORK))
network.add_command(show_command(NETWORK))
network.add_command(delete_command(NETWORK, " that have no ports, with their subnets"))


@click.group()
def subnet() -> None:
    """Subnets of networks.

    Each is known by its network and its CIDR.
    """


@subnet.command("create")
@click.argument("network", metavar="NETWORK", shell_complete=names_of("network"))
@click.argument("cidr", metavar="CIDR")
@for_create(SUBNET_FIELDS)
@format_option
@pass_run
def create_subnet(run: Run, network: str, cidr: str, **given: Any) -> None:
    """Add a subnet to a network."""
    wanted = {"network_id": network, "cidr": cidr, **body(SUBNET_FIELDS, given)}
    show_written(run, SUBNET, run.api.post(wanted, SUBNET.path))


@subnet.command("set")
@click.argument("network", metavar="NETWORK", shell_complete=names_of("network"))
@click.argument("cidr", metavar="CIDR")
@for_set(SUBNET_FIELDS)
@format_option
@pass_run
def set_subnet(run: Run, network: str, cidr: str, **given: Any) -> None:
    """Change a subnet."""
    id_ = _subnet_id(run.api, network, cidr)
    show_written(run, SUBNET, run.api.patch(body(SUBNET_FIELDS, given), SUBNET.path, id_))


@subnet.command("list")
@click.argument("network", metavar="[NETWORK]", required=False, shell_complete=names_of("network"))
@watch_option
@format_option
@pass_run
def list_subnets(run: Run, network: str | None, watch: bool) -> None:
    """List the subnets of a network, or all."""
    columns = (*SUBNET.columns, *STATUS)
    run.show(lambda: SUBNET.all(run.api, network_id=network), lambda rows: table(rows, columns), watch=watch)


@subnet.command("delete")
@click.argument("network", metavar="NETWORK", shell_complete=names_of("network"))
@click.argument("cidrs", metavar="CIDR...", nargs=-1, required=True)
@pass_run
def delete_subnets(run: Run, network: str, cidrs: tuple[str, ...]) -> None:
    """Delete subnets in which no port has an address."""
    each_of(cidrs, lambda cidr: run.api.delete(SUBNET.path, _subnet_id(run.api, network, cidr)))


def _subnet_id(api: Api, network: str, cidr: str) -> str:
    """Return the id of a subnet of a network."""
    id_ = api.get(NETWORK.path, network)["id"]
    found = api.get(SUBNET.path, network_id=id_, cidr=cidr)
    if not found:
        raise Refused(f"network {network!r} has no subnet {cidr!r}")
    return str(found[0]["id"])


def subnet_ref(api: Api, text: str) -> str:
    """Return what the daemon knows a subnet by: an id or a name as it is, NETWORK/CIDR looked up."""
    network, slash, cidr = text.partition("/")
    return _subnet_id(api, network, cidr) if slash else text


def complete_subnets(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete NETWORK/CIDR."""
    from click.shell_completion import CompletionItem

    with contextlib.suppress(click.ClickException, LookupError, TypeError):
        found = SUBNET.all(completing(ctx))
        words = [f"{each['network']}/{each['cidr']}" for each in found]
        return [CompletionItem(word, help="subnet") for word in words if word.startswith(incomplete)]
    return []
