"""Files of a model on the hub, or in the hub's local cache."""

import os
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import snapshot_download


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids to ask the hub."""
    return os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "true", "yes")


def fetch(name: str, patterns: Sequence[str], *, ignored: Sequence[str] = ()) -> Path:
    """The local folder of a hub model with the files that fit `patterns`; downloads what is missing unless offline.

    Raises:
        ValueError: they are not there; the message begins with where they were looked for.
    """
    offline = is_offline()
    try:
        return Path(
            snapshot_download(
                name, local_files_only=offline, allow_patterns=list(patterns), ignore_patterns=list(ignored)
            )
        )
    except (OSError, ValueError) as error:
        where = "in the hub's local cache (HF_HUB_OFFLINE is set)" if offline else "on the hub"
        raise ValueError(f"{where}: {error}") from error
