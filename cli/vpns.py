"""BGP VPNs: `bgpvpn create`, `set`, `list`, `show NAME` and `delete`."""

from __future__ import annotations

from typing import Any

import click

from cli.api import Api
from cli.fields import Field, body, for_create, number
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
    titles,
)
from cli.run import Run, format_option, pass_run


def _with_bound(api: Api, vpns: list[Thing]) -> None:
    """Add what is bound to each VPN."""
    bound: dict[str, list[Thing]] = {}
    for each in api.get("associations"):
        bound.setdefault(each["bgpvpn_id"], []).append(each)
    called = {kind: titles(api, kind) for kind in ("network", "router", "port")}
    for vpn in vpns:
        for kind, names in called.items():
            ids = [each[f"{kind}_id"] for each in bound.get(vpn["id"], ())]
            vpn[f"{kind}s"] = [names.get(id_, id_) for id_ in ids if id_ is not None]


def _targets(option: str, field: str, help: str) -> Field:
    return Field(option, field, f"{help} Repeatable.", clears=True, multiple=True, metavar="RT")


def _range(text: str) -> list[int]:
    low, _, high = text.partition("-")
    return [number("--local-pref-range", low), number("--local-pref-range", high)]


FIELDS = (
    Field("--type", "type", "Routed or bridged; the default is l3.", fixed=True, type=click.Choice(["l2", "l3"])),
    _targets("--route-target", "route_targets", "A route target to import and export."),
    _targets("--import-target", "import_targets", "A route target to import."),
    _targets("--export-target", "export_targets", "A route target to export."),
    Field(
        "--route-distinguisher",
        "route_distinguishers",
        "A route distinguisher; automatic without. Repeatable.",
        clears=True,
        multiple=True,
        metavar="RD",
    ),
    Field("--vni", "vni", "The VXLAN network of an l2 VPN; automatic without.", clears=True, type=int, metavar="N"),
    Field("--local-pref", "local_pref", "LOCAL_PREF of its routes.", clears=True, type=int, metavar="N"),
    Field(
        "--technique",
        "technique",
        "How an l3 VPN is carried: ipvpn (the default), evpn-prefix, or both. Repeatable.",
        multiple=True,
        type=click.Choice(["ipvpn", "evpn-prefix", "evpn"]),
    ),
    Field(
        "--aggregate",
        "aggregate",
        "Whether subnets are announced instead of addresses, or both are.",
        type=click.Choice(["none", "subnet", "both"]),
    ),
    Field(
        "--max-prefixes",
        "max_prefixes",
        "How many prefixes a binding may announce beside addresses.",
        clears=True,
        type=int,
        metavar="N",
    ),
    Field(
        "--allowed-prefix",
        "allowed_prefixes",
        "Within which those must be; anywhere without. Repeatable.",
        clears=True,
        multiple=True,
        metavar="CIDR",
    ),
    Field(
        "--local-pref-range",
        "local_pref_range",
        "Within which every LOCAL_PREF must be.",
        clears=True,
        read=_range,
        metavar="LOW-HIGH",
    ),
    Field("--enable/--disable", "admin_state_up", "Whether it has any effect."),
    PROJECT,
)

VPN = Noun(
    "bgpvpn",
    "VPN",
    ("name", "type", "route_targets", "vni", "networks", "routers", "ports"),
    more=("technique", "import_targets", "export_targets", "route_distinguishers", "local_pref", "project_id", "id"),
    filters=(
        OF_PROJECT,
        Field("--route-target", "route_targets", "Only those with a route target.", metavar="RT"),
    ),
    complete=_with_bound,
)


@click.command()
@click.argument("name", required=False)
@click.option("--name", "named", metavar="NAME", help="The same as the argument.")
@for_create(FIELDS)
@format_option
@pass_run
def create(run: Run, name: str | None, named: str | None, **given: Any) -> None:
    """Make a VPN."""
    if name is not None and named is not None:
        raise click.UsageError("the name is given twice")
    show_written(run, VPN, run.api.post({"name": name or named or "", **body(FIELDS, given)}, VPN.path))


set_ = set_command(VPN, FIELDS)
list_ = list_command(VPN)
show = show_command(VPN, "vpn")
delete = delete_command(VPN, "; what is bound to them is unbound")
