"""The `bgpvpn` command: what users and operators say to the daemon of a node, and what it answers.

Exit status:

    0  done
    1  refused by the daemon: a value that cannot be, a conflict, nothing of that name
    2  wrong usage of the command
    3  the daemon cannot be reached, or did not answer to the end
    4  a fault in the daemon

Answers go to standard output, `error: ...` and notes to standard error. It is kept quick to start: what only some
commands need (rich, http.client) is imported where it is used.
"""

from __future__ import annotations

import click

from cli import bindings, floating_ips, mrt, networks, nodes, peers, policies, ports, routers, speakers, views, vpns
from cli.api import SOCKET, Api
from cli.completion import completion
from cli.explain import explain
from cli.run import Run, format_option

STATUSES = """\b
Exit status:
  0  done
  1  refused by the daemon: a value that cannot be, a conflict, nothing of that name
  2  wrong usage
  3  the daemon cannot be reached
  4  a fault in the daemon
"""


class _InOrder(click.Group):
    """A group whose help has the commands in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, epilog=STATUSES, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--api",
    "--url",
    "api",
    envvar="BGPVPN_API",
    show_envvar=True,
    default=SOCKET,
    show_default=True,
    metavar="PATH|URL",
    help="The daemon's socket, or http[s]://HOST:PORT.",
)
@click.option(
    "--token-file",
    envvar="BGPVPN_TOKEN_FILE",
    show_envvar=True,
    metavar="FILE",
    help="A file with the token that says who asks, in its first line.",
)
@click.version_option(package_name="bgpvpn")
@format_option
@click.pass_context
def main(ctx: click.Context, api: str, token_file: str | None) -> None:
    """BGP VPNs of this node: make them, bind networks and ports to them, see what became of it."""
    ctx.ensure_object(Run).api = Api(api, token_file=token_file)


for command in (
    vpns.create,
    vpns.set_,
    vpns.list_,
    views.show,
    vpns.delete,
    bindings.bind,
    bindings.unbind,
    bindings.binding,
    networks.network,
    networks.subnet,
    routers.router,
    ports.port,
    floating_ips.floating_ip,
    peers.peer,
    policies.policy,
    speakers.speaker,
    nodes.node,
    explain,
    views.events,
    mrt.mrt,
    completion,
):
    main.add_command(command)
