"""`bgpvpn mrt dump`, and the stream that it reads."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from tests.cli.daemon import LIMIT_S, Daemon


def failing() -> Iterator[bytes]:
    yield b" and"
    raise ValueError("a mistake of the daemon's own")


def test_a_dump_goes_to_a_file_or_to_standard_output(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "routes.mrt"
    for words, expected in [
        ("", b"all post"),
        ("--post-policy", b"all post"),
        ("--pre-policy", b"all pre"),
        ("--family vpnv4 --family evpn --pre-policy", b"vpnv4 evpn pre"),
    ]:
        assert daemon.say(f"mrt dump {words} {file}") == ""
        assert file.read_bytes() == expected, words
        assert daemon.call(f"mrt dump {words} -").stdout_bytes == expected, words
    assert [each.name for each in tmp_path.glob("routes*")] == ["routes.mrt"]


def test_a_dump_of_many_pieces_is_whole(daemon: Daemon, tmp_path: Path) -> None:
    daemon.node.mrt_pieces = [bytes((n % 256,)) * 50_000 for n in range(100)]
    daemon.say(f"mrt dump {tmp_path / 'large'}")
    assert (tmp_path / "large").read_bytes() == b"all post" + b"".join(daemon.node.mrt_pieces)


def test_what_is_cut_off_leaves_the_file_that_was_there(daemon: Daemon, tmp_path: Path) -> None:
    file = tmp_path / "routes.mrt"
    file.write_bytes(b"older")
    daemon.node.mrt_pieces = failing()
    result = daemon.call(f"mrt dump {file}")
    assert result.exit_code == 3
    assert "did not answer to the end" in result.stderr
    assert file.read_bytes() == b"older"
    assert [each.name for each in tmp_path.glob("routes*")] == ["routes.mrt"]


def test_what_cannot_be_is_refused(daemon: Daemon, tmp_path: Path) -> None:
    for words, status, said in [
        (f"mrt dump {tmp_path}/none/routes.mrt", 1, "No such file or directory"),
        ("mrt dump --family nosuch -", 2, "'nosuch' is not one of"),
    ]:
        result = daemon.call(words)
        assert (result.exit_code, said in result.stderr) == (status, True), result.stderr
    assert not list(tmp_path.glob("*.mrt*"))


def test_a_link_is_written_through_and_stays_one(daemon: Daemon, tmp_path: Path) -> None:
    link, file = tmp_path / "link", tmp_path / "file"
    link.symlink_to(file)
    daemon.say(f"mrt dump {link}")
    assert (link.is_symlink(), file.read_bytes()) == (True, b"all post")


def test_a_pipe_is_written_to_and_stays_one(daemon: Daemon, tmp_path: Path) -> None:
    pipe = tmp_path / "routes.mrt"
    os.mkfifo(pipe)
    with daemon.started(f"mrt dump {pipe}") as command:
        assert pipe.read_bytes() == b"all post"
        assert command.wait(LIMIT_S) == 0
    assert pipe.is_fifo()
