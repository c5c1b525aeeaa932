"""Routes for other programs: `bgpvpn mrt`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

import click

from cli.peers import FAMILIES
from cli.run import Run, pass_run


@click.group()
def mrt() -> None:
    """The routes of the node in MRT format (RFC 6396)."""


@mrt.command()
@click.option(
    "--family", "families", multiple=True, type=click.Choice(FAMILIES), help="Only this one; all without. Repeatable."
)
@click.option(
    "--post-policy/--pre-policy", default=True, help="As the import policies left them, or as the peers told them."
)
@click.argument("file", metavar="FILE|-")
@pass_run
def dump(run: Run, families: tuple[str, ...], post_policy: bool, file: str) -> None:
    """Write all routes to a file, or to standard output.

    A file is there when it is whole, and not before. Entries of peer 0 are the node's own.
    """
    view = "post-policy" if post_policy else "pre-policy"
    with run.api.octets("mrt", families=",".join(families) or None, view=view) as pieces:
        if file == "-":
            _write(pieces, sys.stdout.buffer, "standard output")
        else:
            _write_whole(pieces, Path(file))


def _write_whole(pieces: Iterable[bytes], path: Path) -> None:
    """Write a file beside the one that is wanted, and give it its name at the end.

    A device, a pipe or a link is written to as it is: it would not be one any more.
    """
    itself = path.is_symlink() or (path.exists() and not path.is_file())
    part = path if itself else path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            _write(pieces, file, str(path))
        if part != path:
            os.replace(part, path)
    except BaseException as error:
        if part != path:
            part.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise click.FileError(str(path), error.strerror or str(error)) from error
        raise


def _write(pieces: Iterable[bytes], file: BinaryIO, name: str) -> None:
    for piece in pieces:
        try:
            file.write(piece)
        except OSError as error:
            raise click.FileError(name, error.strerror or str(error)) from error
    file.flush()
