"""Ray as long as a search needs it: started on this machine or joined, its head watched, left in the end."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import ray

from search.workers.head_watch import OWN_PATIENCE, SHARED_PATIENCE, HeadWatch
from trainer.files import why_unwritable

PROBE_SECONDS = 3.0
"""How long a cluster may take to accept a connection."""

SHORT_FOLDER = Path("/tmp")
SOCKET_BYTES = 103 if sys.platform == "darwin" else 107
"""Longest path of a socket."""
LONGEST_SOCKET = "ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"
"""Below the folder that Ray keeps its files in."""


class RayError(ValueError):
    """Ray cannot be started or joined; the message names what is wrong and the remedy."""


@contextmanager
def ray_session(
    address: str | None, *, starting: AbstractContextManager[None], lost: Callable[[str], None]
) -> Iterator[None]:
    """Use Ray within the `with` block.

    Args:
        address: A running cluster; None starts Ray on this machine.
        starting: Is entered while Ray's processes are started, which inherit how signals are handled.
        lost: Is called with a message, in a thread, if the cluster's head dies; calls to Ray no longer return then.

    Raises:
        RayError: Ray does not start, or the cluster does not take us.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    own = address is None and not _sockets_fit(_files_folder()[1])
    short: AbstractContextManager[str | None] = nullcontext()
    if own:
        short = TemporaryDirectory(prefix="ray-", dir=SHORT_FOLDER, ignore_cleanup_errors=True)
    with short as folder:
        try:
            with starting:
                ray.init(
                    address=address or "local",  # never join a cluster that the user did not name
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    include_dashboard=False if address is None else None,
                    _temp_dir=folder,
                )
        except Exception as error:  # of many kinds; on a machine too busy for Ray's processes a bare one
            what = "Ray does not start" if address is None else f"--address {address}: the Ray cluster cannot be used"
            raise RayError(f"{what}: {str(error).strip() or type(error).__name__}") from error
        patience = OWN_PATIENCE if address is None else SHARED_PATIENCE
        try:
            with HeadWatch(ray.get_runtime_context().gcs_address, patience, lost):
                yield
        finally:
            ray.shutdown()


def check_ray(address: str | None) -> None:
    """Refuses, before Ray is started, a cluster that nobody answers for, or a folder that Ray cannot write to.

    Raises:
        RayError: the message names the address, or the variable that names the folder.
    """
    if address is None:
        variable, folder = _files_folder()
        if reason := why_unwritable(folder):
            raise RayError(f"{variable} is {folder}, where Ray keeps its files, but {reason}; name another folder")
        if not _sockets_fit(folder) and (reason := why_unwritable(SHORT_FOLDER)):
            most = SOCKET_BYTES - len(LONGEST_SOCKET) - 1
            raise RayError(
                f"{variable} is {folder}, too long for the sockets of Ray, and {reason}; set RAY_TMPDIR to a folder "
                f"of at most {most} bytes"
            )
        return
    place_of_head = os.environ.get("RAY_ADDRESS", "") if address == "auto" else address
    if place_of_head in ("", "auto", "local"):
        return
    try:
        place = urlsplit(place_of_head if "://" in place_of_head else f"//{place_of_head}")
        host, port = place.hostname, place.port
    except ValueError:
        host = port = None
    shown = f"--address {address}" + (f" (RAY_ADDRESS {place_of_head})" if place_of_head != address else "")
    if not host or not port:
        raise RayError(f"{shown}: give HOST:PORT of a Ray cluster's head, such as 10.0.0.5:6379, or auto")
    try:
        socket.create_connection((host, port), PROBE_SECONDS).close()
    except OSError as error:
        raise RayError(
            f"{shown}: no Ray cluster answers there ({error.strerror or error}); start one (ray start --head), correct "
            "the address, or leave it out to search on this machine"
        ) from error


def _files_folder() -> tuple[str, Path]:
    """The variable that says where Ray keeps its files, and the folder."""
    for variable in ("RAY_TMPDIR", "TMPDIR"):
        if variable in os.environ:
            return variable, Path(os.environ[variable])
    return "TMPDIR", SHORT_FOLDER


def _sockets_fit(folder: Path) -> bool:
    return len(os.fsencode(folder.absolute() / LONGEST_SOCKET)) <= SOCKET_BYTES
