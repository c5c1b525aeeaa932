from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

UML = Path(__file__).resolve().parent.parent.parent / "lab/uml"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(
        not shutil.which("linux.uml"), reason="user-mode-linux is not installed: this kernel needs none"
    ),
]


def uml(*words: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([UML, *words], capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


def test_command_has_its_folder_environment_output_and_exit_status(tmp_path: Path) -> None:
    script = "pwd; echo $COLOUR; echo to err >&2; ip link add v type vrf table 9 && exit 7"
    done = uml("sh", "-c", script, cwd=tmp_path, env={**os.environ, "COLOUR": "a 'red' one"})
    assert (done.returncode, done.stdout, done.stderr) == (7, f"{tmp_path}\na 'red' one\n", "to err\n")


def test_long_output_is_complete() -> None:
    assert uml("seq", "100000").stdout == "".join(f"{n}\n" for n in range(1, 100001))


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--timeout", "7", "sleep", "60"), 124, "ended after 7 s"),
        (("sh", "-c", "echo c >/proc/sysrq-trigger; sleep 5"), 125, "without the command's exit status"),
        (("no-such-program",), 127, "not found"),
        (("--colour", "red"), 2, "unknown option"),
        (("--timeout", "soon", "true"), 2, "is not a number of seconds"),
        (("--mem", "much", "true"), 2, "is not a size"),
    ],
)
def test_bad_ends_are_told(words: tuple[str, ...], status: int, said: str) -> None:
    done = uml(*words)
    assert done.returncode == status
    assert said in done.stderr
