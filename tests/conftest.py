"""What all tests share: marks by folder, and what happens where the kernel cannot do what a test needs."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNEL_FOLDERS = {"kernel": (pytest.mark.kernel,), "interop": (pytest.mark.kernel, pytest.mark.interop)}

# A build machine is slow at times, and a red build must be red again when it is looked into.
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") == "true" else "here")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in KERNEL_FOLDERS.get(item.path.relative_to(ROOT).parts[1], ()):
            item.add_marker(mark)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("kernel") and (missing := _missing()):
        reason = f"this kernel lacks {missing}; ./tests/run {item.path.parent.name} uses one that has it"
        if os.environ.get("CI") == "true":
            pytest.fail(reason, pytrace=False)
        pytest.skip(reason)


@functools.cache
def _missing() -> str:
    """What the running kernel does not have, in words; nothing when it has all."""
    return subprocess.run([ROOT / "lab/kernel-probe"], capture_output=True, text=True, check=False).stdout.strip()
