"""What the hub's failures are taken for: a wrong name, or a network that may be there again later."""

from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from trainer.models import model_files
from trainer.models.families import family_of
from trainer.models.loading import load_base_model
from trainer.models.model_files import DownloadError, fetch

REQUEST = httpx2.Request("GET", "https://hub.example/api")


def answer(kind: type[HfHubHTTPError], status: int) -> HfHubHTTPError:
    return kind(f"{status} for it", response=httpx2.Response(status, request=REQUEST))


def hub_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def snapshot_download(*arguments: Any, **options: Any) -> str:
        raise error

    monkeypatch.setattr(model_files, "snapshot_download", snapshot_download)


@pytest.mark.parametrize(
    "error",
    [
        LocalEntryNotFoundError("An error happened while trying to locate the files on the Hub"),
        answer(HfHubHTTPError, 429),
        answer(HfHubHTTPError, 503),
        httpx2.ReadTimeout("the read operation timed out", request=REQUEST),
        httpx2.ProxyError("the proxy has gone", request=REQUEST),
        ConnectionResetError(104, "Connection reset by peer"),
        OSError(28, "No space left on device"),
    ],
    ids=lambda error: f"{type(error).__name__} {error}"[:40],
)
def test_a_failing_network_or_disk_is_no_wrong_input(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    hub_fails(monkeypatch, error)
    with pytest.raises(DownloadError, match=r"some/model could not be fetched from the hub: .*; try again later"):
        fetch("some/model", ["*"])
    with pytest.raises(DownloadError):
        load_base_model("some/model", device="cpu")
    assert not issubclass(DownloadError, ValueError)


@pytest.mark.parametrize("offline", ["0", "1"])
def test_a_name_that_the_hub_does_not_have_is_wrong_input(offline: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", offline)
    error = answer(RepositoryNotFoundError, 404) if offline == "0" else LocalEntryNotFoundError("not in the cache")
    hub_fails(monkeypatch, error)
    where = "on the hub: 404" if offline == "0" else "in the hub's local cache"
    with pytest.raises(ValueError, match=f"base model 'some/model' is neither a folder nor {where}"):
        load_base_model("some/model", device="cpu")


@pytest.mark.parametrize(
    "error",
    [OSError(5, "Input/output error"), MemoryError("no room"), OSError(12, "Cannot allocate memory")],
)
def test_a_disk_or_memory_that_fails_while_loading_is_no_wrong_input(
    error: Exception, base_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_pretrained(*arguments: Any, **options: Any) -> None:
        raise error

    family = family_of(base_folder, base_folder)
    monkeypatch.setattr(family.pipeline_class, "from_pretrained", from_pretrained)
    with pytest.raises(type(error)) as caught:
        load_base_model(base_folder, device="cpu")
    assert caught.value is error


@pytest.fixture
def base_folder() -> Path:
    return Path(__file__).parents[3] / "demo" / "base"
