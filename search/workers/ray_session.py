"""Ray as long as a search needs it: started on this machine or joined, its head watched, left in the end."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import ray

from search.workers.head_watch import OWN_PATIENCE, SHARED_PATIENCE, HeadWatch


@contextmanager
def ray_session(
    address: str | None, *, starting: AbstractContextManager[None], lost: Callable[[str], None]
) -> Iterator[None]:
    """Use Ray within the `with` block.

    Args:
        address: A running cluster; None starts Ray on this machine.
        starting: Is entered while Ray's processes are started, which inherit how signals are handled.
        lost: Is called with a message, in a thread, if the cluster's head dies; calls to Ray no longer return then.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with starting:
        ray.init(
            address=address or "local",  # never join a cluster that the user did not name
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False if address is None else None,
        )
    patience = OWN_PATIENCE if address is None else SHARED_PATIENCE
    try:
        with HeadWatch(ray.get_runtime_context().gcs_address, patience, lost):
            yield
    finally:
        ray.shutdown()
