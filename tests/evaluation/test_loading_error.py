"""Whether a model that cannot be loaded is a wrong one, or the fault of a network, disk or memory that may recover."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
import requests
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

from evaluation import clip_score
from evaluation.clip_score import ClipScorer
from evaluation.loading_error import LoadingError, is_of_the_machine

REQUEST = httpx2.Request("GET", "https://hub.example/api")


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    return kind(f"{status} for it", response=httpx2.Response(status, request=REQUEST))


def wrapped(cause: BaseException) -> OSError:
    """As transformers tells it."""
    error = OSError("We couldn't load it")
    error.__cause__ = cause
    return error


PASSING = [
    httpx2.ConnectError("no route", request=REQUEST),
    answer(HfHubHTTPError, 429),
    answer(HfHubHTTPError, 502),
    requests.ConnectionError("reset"),
    TimeoutError("timed out"),
    OSError(28, "No space left on device"),
    PermissionError(13, "Permission denied"),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
]
LASTING = [
    answer(RepositoryNotFoundError, 404),
    answer(HfHubHTTPError, 403),
    OfflineModeIsEnabled("HF_HUB_OFFLINE is set"),
    FileNotFoundError(2, "No such file"),
    OSError("it has no safetensors"),
    KeyError("vision_config"),
]


@pytest.mark.parametrize("error", PASSING, ids=repr)
def test_what_may_pass_is_the_machines(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_of_the_machine(error)
    assert is_of_the_machine(wrapped(error))
    monkeypatch.setattr(clip_score, "_load_model", raising(wrapped(error)))
    with pytest.raises(LoadingError, match="the CLIP model 'some/clip' cannot be loaded now: We couldn't load it"):
        ClipScorer("some/clip", "cpu")


@pytest.mark.parametrize("error", LASTING, ids=repr)
def test_what_will_not_is_wrong_input(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not is_of_the_machine(error)
    assert not is_of_the_machine(wrapped(error))
    monkeypatch.setattr(clip_score, "_load_model", raising(wrapped(error)))
    with pytest.raises(ValueError, match="the CLIP model 'some/clip' cannot be loaded: We couldn't load it; give a"):
        ClipScorer("some/clip", "cpu")


def raising(error: Exception) -> Any:
    def load(name_or_path: str | Path) -> None:
        raise error

    return load
