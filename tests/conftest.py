"""What the tests share: every backend in turn, and the real inputs where they are present."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mmme_fast
from mmme_fast import _backend


@pytest.fixture(params=mmme_fast.backends())
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Every backend of this machine, one after the other."""
    before = _backend.active_backend()
    mmme_fast.use_backend(request.param)
    yield request.param
    mmme_fast.use_backend(before)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real films and recordings that lies beside a checkout on the developers' machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real inputs (../shared/data beside the checkout) are not here")
    return folder
