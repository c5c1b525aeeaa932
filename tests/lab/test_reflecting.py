"""lab.reflecting: what it measures is told completely, and built once for all clients."""

from __future__ import annotations

import json

import pytest

from lab import reflecting


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("memberships", [False, True])
def test_all_clients_hear_all_routes_of_what_was_built_once(
    late: bool, memberships: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for clients in (1, 5):
        reflecting.measure(400, clients, 10, late, memberships)
    one, five = map(json.loads, capsys.readouterr().out.splitlines())
    assert one["messages"] == one["built"] >= 40
    assert five["messages"] >= 5 * 40
    assert five["built"] <= 2 * one["built"] + 10, "twice where all ask for memberships while routes are on their way"
