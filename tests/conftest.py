"""What every test runs with."""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from tests.warm_process import WARM


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cold_process: certify in a process that starts cold")


@pytest.fixture(autouse=True)
def _warm_certificates(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Certificates start their fresh process warm, but where a test is marked ``cold_process``."""
    logits = sys.modules.get("readwrite_edit.adapter.logits")
    if logits is not None and request.node.get_closest_marker("cold_process") is None:
        monkeypatch.setattr(logits, "subprocess", WARM)
    yield
