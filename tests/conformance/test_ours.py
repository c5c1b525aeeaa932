"""All cases against the daemon of this tree: they run side by side once, and each is a test."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.conformance.__main__ import free_port
from tests.conformance.cases import CASES
from tests.conformance.runner import Result, Run
from tests.conformance.subjects import Ours

AT_ONCE = 96

NOT_FOR_US = {"length-update-4097-established": "it tells capability 6"}
"""Cases that do not apply, and why: any other one that does not would be a case lost."""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Result]:
    folder: Path = tmp_path_factory.mktemp("conformance")
    run = Run(Ours(folder, free_port()), CASES, batch=len(CASES), at_once=AT_ONCE)
    return {result.case.name: result for result in asyncio.run(run.run())}


def test_names_are_given_once() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_ours(name: str, results: dict[str, Result]) -> None:
    result = results[name]
    if name in NOT_FOR_US:
        assert (result.outcome, result.reason) == ("not applicable", NOT_FOR_US[name])
    else:
        assert result.outcome == "passed", f"{result.case.rfc}: {result.reason}"
