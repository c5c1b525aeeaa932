"""Why a route is here, or is not, and what became of a port: `bgpvpn explain`, a tree of sentences."""

from __future__ import annotations

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping
from typing import Any

import click

from cli.output import cell, escaped
from cli.run import Run, format_option, names_of, pass_run, watch_option

Sentence = tuple[int, str]
"""How deep it stands in the tree, and its words."""

PATH = ("next_hop", "label", "vni", "local_pref", "med", "as_path", "route_targets")


@click.command()
@click.argument("what", metavar="PREFIX|ADDRESS|PORT", shell_complete=names_of("port"))
@watch_option
@format_option
@pass_run
def explain(run: Run, what: str, watch: bool) -> None:
    """Explain a route or a port.

    Why a route to a prefix or an address is here, or is not, and who was told of it; what became of a port, and why.
    """
    asked = {"prefix" if _is_prefix(what) else "port": what}
    run.show(lambda: run.api.get("explain", **asked), told, watch=watch)


def _is_prefix(text: str) -> bool:
    """Tell a prefix from the name of a port, which has no slash; whether it is a good one, the daemon says."""
    if "/" in text:
        return True
    with contextlib.suppress(ValueError):
        return bool(ipaddress.ip_address(text))
    return False


def told(answer: Mapping[str, Any]) -> str:
    """Return what the daemon explains, a sentence in each line, under what it is part of."""
    sentences = _about_prefix(answer) if "prefix" in answer else _about_port(answer)
    return "\n".join("  " * depth + escaped(words) for depth, words in sentences)


def _about_prefix(answer: Mapping[str, Any]) -> Iterator[Sentence]:
    yield 0, str(answer["prefix"])
    yield from _verdict(answer)
    for instance in answer.get("instances", ()):
        yield 1, f"in {instance['name']}, kernel table {instance['table']}:"
        for candidate in instance["candidates"]:
            yield 2, f"{candidate['verdict']}: {candidate['nlri']} from {candidate['source']}"
            yield 3, _path(candidate)
        yield from _wanted(instance["wanted"])
        if "kernel" in instance:
            kernel = instance["kernel"]
            yield 2, f"in the kernel: {kernel['state']}" + (f", {kernel['reason']}" if kernel["reason"] else "")
    for route in answer.get("refused", ()):
        yield 1, f"refused: {route['nlri']} from {route['source']}, because {route['reason']}"
        if "next_hop" in route:
            yield 2, _path(route)
    for route in answer.get("not_imported", ()):
        yield 1, f"not imported: {route['nlri']} from {route['source']}, because {route['reason']}"
        yield 2, _path(route)
    for route in answer.get("passed_on", ()):
        yield 1, f"of {route['family']} {route['nlri']} other peers are told, as by a route reflector:"
        yield from _hearers(route)
    yield from _own(answer)


def _wanted(wanted: str | list[list[str]]) -> Iterator[Sentence]:
    """Say where the kernel is to send packets: the words for it, or next hops in the order of preference."""
    if isinstance(wanted, str):
        yield 2, f"wanted in the kernel: {wanted}"
    else:
        for number, tier in enumerate(wanted):
            yield 2, f"{'as a backup' if number else 'wanted in the kernel'}: to {' and '.join(tier)}"


def _about_port(answer: Mapping[str, Any]) -> Iterator[Sentence]:
    yield 0, f"port {answer['port']}"
    yield from _verdict(answer)
    for vpn in answer.get("vpns", ()):
        yield 1, f"in VPN {vpn['vpn']}, type {vpn['type']}, because of {' and '.join(vpn['because'])}"
    if "segment" in answer:
        yield 1, f"in the segment {answer['segment']}"
    for made in answer.get("objects", ()):
        yield 1, _state(made)
    yield from _own(answer)


def _verdict(answer: Mapping[str, Any]) -> Iterator[Sentence]:
    if "verdict" in answer:
        yield 1, str(answer["verdict"])


def _own(answer: Mapping[str, Any]) -> Iterator[Sentence]:
    """Say of each route of the node itself whether others are told of it."""
    for route in answer.get("own", ()):
        yield 1, f"our own route {route['nlri']} is {'announced' if route['announced'] else 'not announced yet'}"
        if "told_to" in route:  # an owner is not shown more
            yield 2, _path(route)
        for waited in route["waits_for"]:
            yield 2, f"it waits for {_state(waited)}"
        yield from _hearers(route)


def _hearers(route: Mapping[str, Any]) -> Iterator[Sentence]:
    """Say which peers are told of a route, and why others are not."""
    for peer in route.get("told_to", ()):
        yield 2, f"told to {peer}"
    for untold in route.get("not_told_to", ()):
        yield 2, f"not told to {untold['peer']}, because {untold['reason']}"


def _path(route: Mapping[str, Any]) -> str:
    said = [f"{name.replace('_', ' ')} {cell(route[name])}" for name in PATH if route.get(name) not in (None, "", [])]
    return ", ".join(said) or "without attributes"


def _state(made: Mapping[str, Any]) -> str:
    return f"{made['object']}: {made['state']}" + (f", {made['reason']}" if made["reason"] else "")
