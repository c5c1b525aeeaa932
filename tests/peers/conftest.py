"""The lab of several features is brought up once for all tests that use it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from lab.runner import lab_of
from tests.peers.features import FILE, Features


@pytest.fixture(scope="session")
def features() -> Iterator[Features]:
    with lab_of(FILE) as lab:
        features = Features(lab)
        features.make_peers()
        features.established()
        yield features
