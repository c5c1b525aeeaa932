"""The demo holds; whatever it says is said by its table."""

from __future__ import annotations

from lab import demo


def test_every_check_of_the_demo_holds() -> None:
    assert demo.main() == 0
