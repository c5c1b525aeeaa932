"""The cases, by area; importing this package fills CASES in the order of the areas."""

from __future__ import annotations

from tests.conformance.case import CASES
from tests.conformance.cases import (  # noqa: F401
    agreed,
    attributes,
    families,
    framing,
    header,
    limits,
    opens,
    propagation,
    refresh,
    restart,
    states,
    telling,
    transport,
)

__all__ = ["CASES"]
