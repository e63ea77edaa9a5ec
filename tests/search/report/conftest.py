"""Reports of synthetic runs."""

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="package", autouse=True)
def _without_waiting_for_the_disk() -> Iterator[None]:
    """Thousands of small files of a synthetic run are not worth an fsync each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trainer.files._fsync", lambda path: None)
        yield
