"""What the tests share: every backend in turn, and the real inputs where they are present."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import mmme_fast
from mmme_fast import _backend, patch


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


@pytest.fixture
def patched() -> Iterator[set[str]]:
    """cv2's dense flow on our kernels, dis included. A test that falls back to stock OpenCV fails, but for the reasons
    that it puts into the set it is given."""
    pytest.importorskip("cv2")
    expected: set[str] = set()
    with mmme_fast.patch_cv2(dis=True):
        yield expected
        reasons = {reason for count in patch.calls.values() for reason in count if reason != patch.OURS}
    assert reasons == expected
