"""A model that cannot be loaded here and now, though its name may be right: for want of network, disk or memory."""

import os
from collections.abc import Iterator

from evaluation.memory import is_out_of_memory

NETWORK_PACKAGES = frozenset({"httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib", "urllib3", "gdown"})
"""Whose errors tell of the network. Not all of them are an `OSError`."""
BUSY, SERVER_ERROR = 429, 500
"""Answers of a server that may be another one later: too many requests, and from 500 on its own failures."""


class LoadingError(OSError):
    """A model could not be fetched or read on this machine; it may be elsewhere, or later. The message says why."""


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the network for models."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "true", "yes")


def is_of_the_machine(error: BaseException) -> bool:
    """Whether an error, or one that it was raised from, is the network's, the disk's or the memory's.

    A file that is not there is not among them, nor a network that HF_HUB_OFFLINE forbids.
    """
    return any(_is_network(each) or _is_storage(each) or is_out_of_memory(each) for each in _chain(error))


def _is_network(error: BaseException) -> bool:
    if hasattr(error, "response") and getattr(error.response, "status_code", None) is not None:
        status = int(error.response.status_code)
        return status == BUSY or status >= SERVER_ERROR
    if type(error).__name__ == "OfflineModeIsEnabled":
        return False
    package = type(error).__module__.partition(".")[0]
    return isinstance(error, ConnectionError | TimeoutError) or package in NETWORK_PACKAGES


def _is_storage(error: BaseException) -> bool:
    absent = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
    offline = type(error).__name__ == "OfflineModeIsEnabled"
    return isinstance(error, OSError) and error.errno is not None and not absent and not offline


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
