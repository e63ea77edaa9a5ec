"""What the benchmark of truth collects: which configurations are trained, and which images each of them is shown in.

Everything here is decided before anything is trained, but for one thing: which configurations are trained again.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from scipy.stats import qmc

from benchmarks.trial_overhead.short_trials import DEMO
from evaluation.config import GenerationConfig, PromptSet
from search.config.prompts import read_prompts
from search.config.search_config import SearchConfig, load_config
from search.config.space import AnyDimension, Choice, FloatRange, IntRange, Ratio, Space, Value, clip
from trainer.config import TrainingConfig
from trainer.data.photos import PhotoSplit, load_photos, split_photos
from trainer.files import write_file

BASE = "base"
"""Id of the untuned model."""

REFERENCE_SHARE = 0.5
"""Of the photos, never trained on: enough that a repeat can keep half of them from the search that it replays."""

SEED_STRIDE = 1000
"""Between the training seeds of a configuration's runs; the first run's seed is the configuration's number."""

QUICK_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Everything to collect."""

    search: SearchConfig
    """The demo's search, whose models, photos, space and settings are used."""
    configurations: tuple[Mapping[str, Value], ...]
    """By number; number 0 is the default, the search's first trial."""
    again: int
    """How many of the best configurations are trained again; the default is, besides."""
    runs: int
    """Trainings of a configuration that is trained again, the first included."""
    subject: PromptSet
    """Images of the person."""
    others: PromptSet
    """Images of other people, without the trigger."""
    generation: GenerationConfig
    steps: int | None = None
    """Optimizer steps of every training, in place of the configuration's own."""

    @property
    def split(self) -> PhotoSplit:
        """The photos trained on and the photos held out."""
        photos = load_photos(self.search.photos.folder, self.search.photos.trigger)
        return split_photos(photos, REFERENCE_SHARE, self.search.photos.seed)

    def training_seed(self, number: int, run: int) -> int:
        """Seed of a configuration's run, as in a search for the first of them."""
        return self.search.training.seed + number + SEED_STRIDE * run

    def training_config(self, number: int, run: int) -> TrainingConfig:
        """The trainer's settings for one run of a configuration."""
        seed = self.training_seed(number, run)
        config = self.search.training_config(self.configurations[number], seed=seed)
        if self.steps is None:
            return config
        return dataclasses.replace(config, steps=self.steps, lr_warmup_steps=0)

    def check_folder(self, folder: Path) -> None:
        """Note in `folder` what it holds candidates of.

        Raises:
            ValueError: it holds candidates of another collection.
        """
        text = json.dumps(self._identity(), indent=1)
        file = folder / "collection.json"
        if not file.exists():
            write_file(file, lambda path: path.write_text(text, "utf-8"))
        elif file.read_text("utf-8") != text:
            raise ValueError(f"{folder} holds candidates of another collection; name another folder, or remove it")

    def _identity(self) -> dict[str, object]:
        return {
            "configurations": [self._settings(number) for number in range(len(self.configurations))],
            "subject": dataclasses.asdict(self.subject),
            "others": dataclasses.asdict(self.others),
            "generation": dataclasses.asdict(self.generation),
            "faces": dataclasses.asdict(self.search.evaluation.faces),
            "training_photos": [photo.sha256 for photo in self.split.training],
            "held_out_photos": [photo.sha256 for photo in self.split.reference],
        }

    def _settings(self, number: int) -> dict[str, object]:
        return dataclasses.asdict(self.training_config(number, 0))


def demo_collection(*, quick: bool) -> Collection:
    """The collection on the demo kit; a quick one is only to see that everything runs."""
    search = load_config(DEMO / "search.yaml")
    files = (search.evaluation.prompts, search.final.prompts, Path(__file__).with_name("further_prompts.txt"))
    prompts = [prompt for file in files for prompt in read_prompts(file)]
    others = read_prompts(Path(__file__).with_name("other_people.txt"))
    default = clip(search.space, search.first_trials[0])
    generation = search.evaluation.generation
    if not quick:
        return Collection(
            search=search,
            configurations=(default, *spread_configurations(search.space, 32, seed=search.seed)),
            again=8,
            runs=3,
            subject=PromptSet(prompts=tuple(prompts), seeds=(1, 2, 3, 4, 5, 6)),
            others=PromptSet(prompts=others, seeds=(1, 2)),
            generation=generation,
        )
    return Collection(
        search=search,
        configurations=(default, *spread_configurations(search.space, 2, seed=search.seed)),
        again=1,
        runs=2,
        subject=PromptSet(prompts=tuple(prompts[:6]), seeds=(1, 2, 3)),
        others=PromptSet(prompts=others[:2], seeds=(1,)),
        generation=dataclasses.replace(generation, steps=6),
        steps=QUICK_STEPS,
    )


def spread_configurations(space: Space, count: int, *, seed: int) -> tuple[dict[str, Value], ...]:
    """Configurations that cover the space evenly: a scrambled Sobol sequence (Owen 1998) in its settings' scales.

    Args:
        space: What varies.
        count: A power of two, for which the sequence is balanced.
        seed: Of the scrambling.
    """
    points: Sequence[Sequence[float]] = qmc.Sobol(len(space), scramble=True, rng=seed).random(count).tolist()
    return tuple(
        {name: _at(dimension, share) for (name, dimension), share in zip(space.items(), point, strict=True)}
        for point in points
    )


def _at(dimension: AnyDimension, share: float) -> Value:
    """The value that lies at a share, in [0, 1), of the dimension."""
    match dimension:
        case FloatRange(low=low, high=high, log=log):
            return low * (high / low) ** share if log else low + (high - low) * share
        case IntRange(low=low, high=high, log=True):
            return min(high, int((low - 0.5) * ((high + 0.5) / (low - 0.5)) ** share + 0.5))
        case IntRange(low=low, high=high, step=step):
            return low + step * int(share * ((high - low) // step + 1))
        case Choice(values=values):
            return values[int(share * len(values))]
        case Ratio():
            raise ValueError(f"a ratio of {dimension.of} lies at no share of its own; give the space ranges or choices")
