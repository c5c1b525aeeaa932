"""Nodes: `bgpvpn node`."""

from __future__ import annotations

import click

from cli.output import fields, table
from cli.run import Run, format_option, pass_run

COLUMNS = ("host", "router_id", "local_as", "tunnel_ip", "encapsulations", "version")


@click.group()
def node() -> None:
    """The node that is asked: what it is, and what it can do."""


@node.command("list")
@format_option
@pass_run
def list_(run: Run) -> None:
    """List nodes: the one that is asked."""
    run.show(lambda: run.api.get("nodes"), lambda nodes: table(nodes, COLUMNS))


@node.command()
@click.argument("ref", metavar="[NODE]", required=False)
@format_option
@pass_run
def show(run: Run, ref: str | None) -> None:
    """Show a node, by its host or router id; without a word the one that is asked."""
    run.show(lambda: run.api.get("nodes")[0] if ref is None else run.api.get("nodes", ref), fields)
