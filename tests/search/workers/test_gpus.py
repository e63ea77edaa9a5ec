"""Ray's count of GPUs against torch's, and what the user is told. No GPU is here: both counts are played."""

from typing import Any

import pytest
import torch

from search.workers import gpus
from search.workers.gpus import DeviceNews, GpuError, check_gpus
from trainer.config import TrainingConfig
from trainer.models import loading


def check(
    counted: int, usable: int, monkeypatch: pytest.MonkeyPatch, *, joined: bool = False, precision: Any = "auto"
) -> None:
    monkeypatch.setattr(gpus, "usable_gpus", lambda: usable)
    here: dict[str, object] = {"NodeID": "here", "Resources": {"CPU": 8.0, "GPU": float(counted)} if counted else {}}
    other: dict[str, object] = {"NodeID": "other", "Resources": {"CPU": 8.0, "GPU": 4.0}}
    trainings = [TrainingConfig(), TrainingConfig(mixed_precision=precision)]
    check_gpus([other, here], "here", trainings, joined=joined)


@pytest.mark.parametrize(("counted", "usable", "joined"), [(0, 0, False), (2, 2, False), (1, 2, True), (0, 1, True)])
def test_gpus_that_torch_can_use_pass(counted: int, usable: int, joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has started Ray may have kept GPUs from it. Those of other nodes are not this machine's affair."""
    check(counted, usable, monkeypatch, joined=joined)


@pytest.mark.parametrize("joined", [False, True])
def test_gpus_that_torch_cannot_use_are_refused(joined: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GpuError) as caught:
        check(2, 0, monkeypatch, joined=joined)
    words = str(caught.value)
    assert words.startswith("Ray counts 2 GPU(s) on this machine, of which torch can use 0 (")
    assert f"torch {torch.__version__}" in words
    assert words.endswith(
        "install a driver and a wheel of torch that go together (docs/cluster.md says which), or hide the GPUs with "
        "CUDA_VISIBLE_DEVICES= to search on CPUs"
    )


def test_gpus_that_ray_does_not_see_are_no_reason_to_search_on_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GpuError, match=r"torch can use 1 GPU\(s\) on this machine, but Ray counts none .*nvidia-smi"):
        check(0, 1, monkeypatch)


@pytest.mark.parametrize("precision", ["bf16", "no"])
def test_a_precision_that_no_card_has_is_refused_before_any_trial(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    formats = {0: torch.float16, 1: torch.float16}
    monkeypatch.setattr(loading, "choose_dtype", lambda device: formats[device.index])
    with pytest.raises(
        GpuError,
        match=f"training.mixed_precision is '{precision}', but cuda:0 has no bfloat16; set it to 'auto'",
    ):
        check(2, 2, monkeypatch, precision=precision)
    check(2, 2, monkeypatch)  # auto
    formats[1] = torch.bfloat16
    check(2, 2, monkeypatch, precision=precision)  # a worker of the other card can do it


def test_each_workers_device_is_said_once_and_unlike_formats_are_pointed_out() -> None:
    class Client:
        def __init__(self) -> None:
            self.devices_of_workers: dict[str, str] = {}

        def devices(self) -> dict[str, str]:
            return dict(self.devices_of_workers)

    said: list[str] = []
    client: Any = Client()
    news = DeviceNews(client, said.append)
    news.tell()
    assert said == []
    client.devices_of_workers = {"worker-0": "cuda:0 (NVIDIA A100), weights in bfloat16"}
    news.tell()
    news.tell()
    assert said == ["worker-0 computes on cuda:0 (NVIDIA A100), weights in bfloat16"]
    client.devices_of_workers["worker-1"] = "cuda:0 (Tesla T4), weights in float16"
    news.tell()
    news.tell()
    assert said[1:] == [
        "worker-1 computes on cuda:0 (Tesla T4), weights in float16",
        "unlike weights, in bfloat16 and float16: equal adapters get slightly unequal scores",
    ]
