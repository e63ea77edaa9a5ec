"""Sampling does not raise the peak of memory above training's, measured in bytes of tensors on the demo's model.

CUDA's allocator counts them itself; here every operator's results are counted, as long as somebody holds them.
"""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from evaluation.config import GenerationConfig
from evaluation.generate import ImageBatch, generate_images
from trainer.config import TrainingConfig
from trainer.data.cache import DataCache, build_cache
from trainer.data.photos import load_photos
from trainer.job.job import TrainingJob
from trainer.models.base_model import BaseModel
from trainer.models.loading import load_base_model, set_threads

DEMO = Path(__file__).resolve().parents[3] / "demo"


class TensorMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operators have made within it and that are still alive.

    Storages from before, the weights of the model among them, are not counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._known: dict[int, weakref.ref[Any]] = {}
        self._held = self._peak = 0
        self.told: list[int] = []
        """Every peak that was asked for."""

    def begin(self) -> int:
        self._peak = self._held
        return self._held

    def peak(self) -> int:
        self.told.append(self._peak)
        return self._peak

    def available(self) -> int:
        return 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):  # type: ignore[no-untyped-def]
        self._meet((arguments, keywords), made=False)
        results = function(*arguments, **(keywords or {}))
        self._meet(results, made=True)
        self._peak = max(self._peak, self._held)
        return results

    def _meet(self, values: Any, *, made: bool) -> None:
        for value in tree_leaves(values):
            if isinstance(value, torch.Tensor) and id(storage := value.untyped_storage()) not in self._known:
                size = storage.nbytes() if made else 0
                self._held += size
                self._known[id(storage)] = weakref.ref(storage, self._forgetting(id(storage), size))

    def _forgetting(self, key: int, size: int) -> Callable[[object], None]:
        def forget(reference: object) -> None:
            self._held -= size
            del self._known[key]

        return forget


@pytest.fixture(scope="module")
def base() -> BaseModel:
    set_threads(1)
    return load_base_model(DEMO / "base", device="cpu")


@pytest.fixture(scope="module")
def cache(base: BaseModel, tmp_path_factory: pytest.TempPathFactory) -> DataCache:
    photos = load_photos(DEMO / "photos", "sks")
    return build_cache(photos, base, resolution=64, folder=tmp_path_factory.mktemp("cache"))


def test_the_count_by_hand() -> None:
    outside = torch.ones(1000)
    with TensorMemory() as memory:
        one = outside + 1
        assert memory.begin() == 4000, "what was there before does not count"
        view = one.view(10, 100)
        two = view * 2
        two.add_(1)
        assert memory.peak() == 8000
        del one, two
        assert memory.begin() == 4000, "the view keeps its storage"
        del view
        assert memory.begin() == 0


@pytest.mark.parametrize(
    ("changes", "images"), [({}, 24), ({"gradient_checkpointing": True}, 8), ({"batch_size": 1}, 6)]
)
def test_sampling_holds_no_more_than_training_at_the_demo_s_settings(
    base: BaseModel, cache: DataCache, changes: dict[str, Any], images: int
) -> None:
    """24 at once are configured, which is more than training's room holds: as many are made as are sure to fit."""
    settings = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    generation = GenerationConfig(**{**settings["evaluation"]["generation"], "steps": 2})
    training = TrainingConfig(**{**settings["training"], "steps": 300, "rank": 32, **changes})
    prompts, seeds = ["a photo of sks man, happy"] * images, list(range(images))
    with TensorMemory() as memory, TrainingJob(base, cache, training) as job:
        for _ in range(2):
            job.step()
        trained = memory.peak()
        assert all(weight.grad is None for weight in job._optimizer_step.weights), "sampling needs no gradients"
        batch = ImageBatch(generation.batch_size, memory)
        batch.stay_within(trained)
        with job.evaluation_mode():
            memory.begin()
            job.validation_loss(cache)
            assert memory.peak() <= trained
            sizes: list[int] = []
            hook = base.denoiser.register_forward_pre_hook(lambda module, inputs: sizes.append(len(inputs[0]) // 2))
            memory.told.clear()
            try:
                generate_images(base.pipeline(), prompts, seeds, generation, batch)
            finally:
                hook.remove()
    print(f"{changes}: training {trained / 1e6:.1f} MB, images {dict(zip(sizes[::2], memory.told, strict=True))}")
    assert sum(sizes) == images * generation.steps
    assert max(memory.told) <= trained
    assert max(memory.told) > trained / 2, "nor is the room left unused"
