"""BGP neighbours: `bgpvpn peer`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, Any

import click

from cli.fields import Field, body, for_create, for_set
from cli.objects import Noun, delete_command, list_command, show_command, show_written
from cli.run import Run, format_option, names_of, pass_run

FAMILIES = (
    *("ipv4", "ipv6", "vpnv4", "vpnv6", "evpn", "rtc"),
    *("ipv4-flowspec", "ipv6-flowspec", "vpnv4-flowspec", "vpnv6-flowspec"),
)
ROLES = ("provider", "customer", "peer", "route-server", "route-server-client")
ALGORITHMS = ("hmac-sha-1-96", "aes-128-cmac-96")


def _seconds(option: str, field: str, help: str) -> Field:
    return Field(option, field, help, type=int, metavar="SECONDS")


def _by_family(texts: Sequence[str]) -> str | dict[str, str] | None:
    """Read names of policies, "NAME" or "FAMILY=NAME"."""
    if not texts:
        return None
    if len(texts) == 1 and "=" not in texts[0]:
        return texts[0]
    named = dict(text.partition("=")[::2] for text in texts)
    if not all(named.values()) or len(named) < len(texts):
        raise click.UsageError("a policy is given once for all families, or as FAMILY=NAME, once for each")
    return named


def _policy(option: str, field: str, help: str) -> Field:
    words = f"{help}: accept, reject or the name of one, or FAMILY=NAME. Repeatable."
    return Field(option, field, words, clears=True, multiple=True, read=_by_family, metavar="[FAMILY=]NAME")


def _limits(texts: Sequence[str]) -> dict[str, Any]:
    """Read limits, "[FAMILY=]N[:ACTION[:SECONDS]]"."""
    limits: dict[str, Any] = {}
    for text in texts:
        family, _, limit = text.rpartition("=")
        most, *more = limit.split(":")
        try:
            found: dict[str, Any] = {"most": int(most)}
            found |= {"action": more[0]} if more else {}
            found |= {"restart_s": float(more[1])} if len(more) > 1 else {}
        except ValueError:
            raise click.UsageError(f"--prefix-limit takes [FAMILY=]N[:ACTION[:SECONDS]], not {text!r}") from None
        limits[family or "all"] = found
    return limits


def _ao_keys(texts: Sequence[str]) -> list[dict[str, Any]]:
    """Read keys of TCP-AO, "SEND:RECEIVE[:ALGORITHM]:FILE", the secret in the first line of the file."""
    keys = []
    for text in texts:
        try:
            send_id, receive_id, rest = text.split(":", 2)
            algorithm, _, name = rest.partition(":")
            found: dict[str, Any] = {"send_id": int(send_id), "receive_id": int(receive_id)}
        except ValueError:
            raise click.UsageError(f"--tcp-ao takes SEND:RECEIVE[:ALGORITHM]:FILE, not {text!r}") from None
        if algorithm in ALGORITHMS and name:
            found["algorithm"] = algorithm
        else:
            name = rest
        try:
            with click.open_file(name) as file:
                keys.append({**found, "secret": file.readline().rstrip("\r\n")})
        except OSError as error:
            raise click.UsageError(f"--tcp-ao: {name} cannot be read: {error.strerror}") from None
    return keys


def _families(option: str, field: str, help: str) -> Field:
    return Field(option, field, f"{help} Repeatable.", clears=True, multiple=True, type=click.Choice(FAMILIES))


FIELDS = (
    Field(
        "--address",
        "address",
        "The address of the peer, or a prefix in which all may connect.",
        fixed=True,
        required=True,
        metavar="IP",
    ),
    Field("--remote-as", "remote_as", "The AS of the peer.", required=True, type=int, metavar="AS"),
    Field("--port", "port", "Its TCP port; the default is 179.", type=int, metavar="N"),
    Field("--local-as", "local_as", "Our AS towards it; the node's without.", clears=True, type=int, metavar="AS"),
    Field("--local-address", "local_address", "Our address towards it.", clears=True, metavar="IP"),
    Field(
        "--family",
        "families",
        "An address family; vpnv4, vpnv6 and evpn without. Repeatable.",
        multiple=True,
        type=click.Choice(FAMILIES),
    ),
    Field("--passive/--active", "passive", "Whether we wait for it to connect."),
    _seconds("--hold-time", "hold_time_s", "The hold time that we propose; the default is 90."),
    _seconds("--restart-time", "restart_time_s", "How long it shall keep our routes while we restart; 0: not at all."),
    Field("--multihop-ttl", "multihop_ttl", "The TTL of our packets.", clears=True, type=int, metavar="N"),
    Field(
        "--ttl-security-hops",
        "ttl_security_hops",
        "How far away the peer may be; refuses what comes from further (RFC 5082).",
        clears=True,
        type=int,
        metavar="N",
    ),
    Field(
        "--tcp-ao",
        "tcp_ao",
        "A key of TCP-AO (RFC 5925), in the first line of a file; the peer is asked to use the first. Repeatable.",
        clears=True,
        multiple=True,
        read=_ao_keys,
        metavar="SEND:RECEIVE[:ALGORITHM]:FILE",
    ),
    _seconds("--long-lived", "long_lived_s", "How long our routes shall be kept after that, as a last resort."),
    Field("--dynamic-limit", "dynamic_limit", "How many may connect from a prefix.", type=int, metavar="N"),
    _policy("--import-policy", "import_policy", "What becomes of its routes"),
    _policy("--export-policy", "export_policy", "What becomes of routes to it"),
    Field("--client/--no-client", "route_reflector_client", "Whether it is a client of ours as a route reflector."),
    _families("--add-path-receive", "add_path_receive", "A family in which it may tell several paths."),
    _families("--add-path-send", "add_path_send", "A family in which it is told several paths."),
    Field("--paths-out", "paths_out", "How many paths of a destination then.", type=int, metavar="N"),
    Field("--role", "role", "What we are to it (RFC 9234).", clears=True, type=click.Choice(ROLES)),
    Field("--strict-role/--no-strict-role", "strict_role", "Whether it must say what it is."),
    Field(
        "--prefix-limit",
        "prefix_limits",
        "How many routes it may tell, and then: block, warn or restart. Repeatable.",
        multiple=True,
        read=_limits,
        metavar="[FAMILY=]N[:ACTION[:SECONDS]]",
    ),
    Field("--enable/--disable", "admin_state_up", "Whether there is to be a session."),
)


def _password(ctx: click.Context, param: click.Parameter, file: IO[str] | None) -> str | None:
    """Return the first line of the file; a password on a command line would be for everybody to see."""
    if file is None or ctx.resilient_parsing:
        return None
    return file.readline().rstrip("\r\n")


def _asked(ctx: click.Context, param: click.Parameter, ask: bool) -> str | None:
    if not ask or ctx.resilient_parsing:
        return None
    return str(click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True))


_password_file = click.option(
    "--password-file",
    "password",
    type=click.File(),
    callback=_password,
    metavar="FILE",
    help="TCP MD5 (RFC 2385) with the password in the first line of a file; - is standard input.",
)
_ask_password = click.option(
    "--ask-password", "asked", is_flag=True, callback=_asked, help="TCP MD5 with a password that is typed in."
)

PEER = Noun(
    "peer",
    "peer",
    ("name", "address", "remote_as", "families", "admin_state_up"),
    more=(
        *("port", "local_as", "local_address", "passive", "hold_time_s", "restart_time_s", "password"),
        *("import_policy", "export_policy", "route_reflector_client", "role", "id"),
    ),
    found_by="address",
)


@click.group()
def peer() -> None:
    """BGP neighbours of the node.

    Each is known by its name or its address. Those in the configuration file are shown, and changed only there.
    """


@peer.command()
@click.argument("name")
@for_create(FIELDS)
@_password_file
@_ask_password
@format_option
@pass_run
def create(run: Run, name: str, password: str | None, asked: str | None, **given: Any) -> None:
    """Make a peer."""
    wanted = {"name": name, **_secret(password, asked), **body(FIELDS, given)}
    show_written(run, PEER, run.api.post(wanted, PEER.path))


@peer.command("set")
@click.argument("ref", metavar="PEER", shell_complete=names_of("peer"))
@click.option("--name", metavar="NAME", help="A new name.")
@for_set(FIELDS)
@_password_file
@_ask_password
@click.option("--no-password", is_flag=True, help="No TCP MD5.")
@format_option
@pass_run
def set_(
    run: Run, ref: str, name: str | None, password: str | None, asked: str | None, no_password: bool, **given: Any
) -> None:
    """Change a peer.

    What is given replaces what is there, a list as a whole.
    """
    secret = _secret(password, asked)
    if no_password and secret:
        raise click.UsageError("a password and --no-password exclude each other")
    wanted: dict[str, Any] = {"password": None} if no_password else secret
    wanted |= {} if name is None else {"name": name}
    _patch(run, ref, wanted | body(FIELDS, given))


@peer.command()
@click.argument("ref", metavar="PEER", shell_complete=names_of("peer"))
@format_option
@pass_run
def enable(run: Run, ref: str) -> None:
    """Let there be a session with a peer."""
    _patch(run, ref, {"admin_state_up": True})


@peer.command()
@click.argument("ref", metavar="PEER", shell_complete=names_of("peer"))
@format_option
@pass_run
def disable(run: Run, ref: str) -> None:
    """End the session with a peer, and keep the peer."""
    _patch(run, ref, {"admin_state_up": False})


def _patch(run: Run, ref: str, wanted: dict[str, Any]) -> None:
    show_written(run, PEER, run.api.patch(wanted, PEER.path, PEER.id_of(run.api, ref)))


def _secret(*passwords: str | None) -> dict[str, str]:
    given = [each for each in passwords if each is not None]
    if len(given) > 1:
        raise click.UsageError("the password comes from a file or is typed in, not both")
    return {"password": given[0]} if given else {}


peer.add_command(list_command(PEER))
peer.add_command(show_command(PEER))
peer.add_command(delete_command(PEER))
