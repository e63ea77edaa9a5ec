"""The configuration of a search: one YAML file, checked here and nowhere else.

Every path in the file is read relative to the file's own folder, so that a search can be started from anywhere; only
`runs` is relative to where it is started.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig
from search.budget import BudgetConfig
from search.draw import corners, draw_of, order, settings_of
from search.preset import PresetName, with_preset
from search.sampler_config import SamplerConfig, resolve_earlier
from search.space import Dimension, Ratio, Value
from trainer.config import TrainingConfig
from trainer.picture import HIGHEST_MAXIMUM_PIXELS, MAXIMUM_PIXELS
from trainer.prior_config import PriorConfig, check_prior, resolve_prior
from trainer.run_config import OptionalBuckets
from trainer.settings_file import ConfigurationError as ConfigurationError
from trainer.settings_file import explain, nearest, parse_yaml, read_settings, resolve_folder, resolve_model

HOMEWORK: Mapping[str, Value] = {
    "learning_rate": 1e-4,
    "rank": 32,
    "alpha": 16,
    "steps": 2000,
    "targets": "attention",
}
"""The configuration of the homework that this project grew out of (GenAI 2024, HW10): the one to beat."""


FIXED: Mapping[str, str] = {
    "resolution": "the photos are encoded once, at one resolution, for all trials",
    "seed": "every trial has a seed of its own already",
    "rank_pattern": "a space draws single values; set it under training",
    "alpha_pattern": "a space draws single values; set it under training",
}
"""Training settings that a space may not name, and why."""

DIMENSION_TAGS = frozenset({"float", "int", "choice", "ratio"})


SEARCHABLE = ("lora", "rslora", "dora")
"""Adapters whose file `pipeline.load_lora_weights` reads, on which card, registry and final rely."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PhotosConfig(_Section):
    """The person's photos."""

    folder: Path
    """Photos (JPEG, PNG or WebP, by content), each with a caption in a text file of the same name."""
    trigger: str = Field(default="sks", pattern=r"^[^\x00-\x20\x7f\"\\`{}<>|][^\x00-\x1f\x7f\"\\`{}<>|]{0,99}$")
    """The word that stands for the person. It replaces `{trigger}` in captions and prompts."""
    reference_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the photos that are kept out of training: likeness is measured against these only."""
    seed: int = 0
    """Seed of the split into training and reference photos."""
    caption_template: str | None = Field(default=None, pattern=r"\S")
    """Caption of a photo that has no text file, such as `a photo of {trigger}`. Default: it is refused."""
    repeats: dict[str, Annotated[int, Field(ge=1, le=1000)]] = {}
    """How often photos come in an epoch, by patterns of their file names, such as `close-up*: 3`; the first that fits
    counts, photos that none fits come once."""
    face_crop: float | None = Field(default=None, ge=1, le=100)
    """Side of the square that is cut out around the face, in longer sides of the face's box: about 2 is a head, 4 a
    bust. Default: the middle square of the photo, as for photos in which no face is found."""
    nearest: int | None = Field(default=None, ge=3)
    """Keep only this many photos, those whose faces are nearest to the mean of all. Default: keep all."""
    maximum_pixels: int = Field(default=MAXIMUM_PIXELS, ge=4096, le=HIGHEST_MAXIMUM_PIXELS)
    """Most pixels (width x height) of a photo; larger ones are refused before they are decoded."""
    buckets: OptionalBuckets = None
    """Cut each photo that is trained on to the size nearest to its shape, of about `training.resolution` squared
    pixels: true, or the `step` and `maximum_ratio` of their sides. Faces are compared on the middle square as ever.
    Default: cut to the middle square."""

    prior: PriorConfig | None = None
    """Class images for prior preservation, which `training.prior_loss_weight` or the space weighs. Default: none."""

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> PhotosConfig:
        if self.buckets is not None and self.face_crop is not None:
            raise ValueError(
                f"face_crop is {self.face_crop!r} and cuts squares, so all buckets but one would be empty; "
                "leave out face_crop or buckets"
            )
        return self


class OthersConfig(_Section):
    """Images of other people, without the trigger: whether they turn into the person."""

    prompts: Path | None = None
    """Text file, one prompt a line, none with the trigger. Default: the validation's and the final's own prompts
    without it, so that `a photo of {trigger} man, happy` asks for any man."""
    count: int = Field(default=6, ge=0)
    """Prompts at most, spread over the file; 0 turns the meter off. The validation makes one image a prompt, with its
    first seed, the final one with each of its seeds."""


class EvaluationConfig(_Section):
    """How a checkpoint is scored."""

    protocol: Literal["likeness", "hw10"] = "likeness"
    """`hw10` makes images in the homework's way (its seed, 30 steps, batches of 4) and reports its three numbers
    besides; likeness, fidelity and objective steer the search as ever. See `evaluation.hw10`."""
    prompts: Path
    """Text file, one prompt a line. Every candidate is scored on every prompt with every seed."""
    seeds: tuple[int, ...] = Field(default=(1, 2), min_length=1)
    every: int = Field(default=100, ge=1)
    """Optimizer steps between two scored checkpoints. The last step is always scored."""
    clip: str = "openai/clip-vit-base-patch32"
    """CLIP model of the CLIP score: a folder or a hub name."""
    generation: GenerationConfig
    faces: FaceConfig = FaceConfig()
    second_judge: FaceConfig | None = None
    """Another face model, which steers nothing: when the search is over it looks at the same images and says whether it
    would have chosen the same champion. Default: none."""
    objective: ObjectiveConfig = ObjectiveConfig()
    limits: LimitsConfig = LimitsConfig()
    """What makes a candidate unfit to win."""
    others: OthersConfig = OthersConfig()

    @model_validator(mode="after")
    def _two_judges(self) -> EvaluationConfig:
        if self.second_judge == self.faces:
            raise ValueError(
                f"second_judge is the same as faces ({self.faces.name}) and could only agree with it; give it another "
                "recognizer or detector, or leave it out"
            )
        return self


class FinalConfig(_Section):
    """The final: the best candidates once more, on prompts and seeds that did not steer the search.

    Each is also trained again with other training seeds, for a candidate may be the best of the search by the luck of
    its own.
    """

    prompts: Path
    seeds: tuple[int, ...] = Field(default=(101, 102), min_length=1)
    candidates: int = Field(default=3, ge=1)
    """How many trials send their best checkpoint into the final. The first trial is scored besides, to compare."""
    retrain: int = Field(default=2, ge=0)
    """How often each finalist's configuration is trained again, each time with another training seed."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the bootstrap intervals, a probability."""
    strengths: tuple[Annotated[float, Field(gt=0, le=10)], ...] = (0.25, 0.5, 0.75, 1.25)
    """Strengths at which the champion's adapter is drawn besides, to show what more or less of it does; it decides
    nothing. 0 and 1 are known from the final and come for nothing. `[]` turns it off."""
    strength_prompts: int = Field(default=4, ge=1)
    """How many of the final prompts, the first ones, each with the first seed, are drawn at each strength."""


class StoppingConfig(_Section):
    """ASHA (Li et al. 2020, arXiv:1810.05934): at each rung only the best 1/reduction_factor of the trials go on.

    With `evaluation.objective.mode: pareto` a trial is stopped at a rung that all but 1/reduction_factor of the others
    dominate there (`search.domination`).
    """

    enabled: bool = True
    grace_period: int = Field(default=100, ge=1)
    """Optimizer steps that every trial may take before it can be stopped."""
    reduction_factor: float = Field(default=3, gt=1)


class ComingNodesConfig(_Section):
    """Nodes that an autoscaler may start. Ray does not tell a search of them."""

    nodes: int = Field(ge=1)
    """How many at most, beside those that are there when the search starts."""
    cpus: float = Field(gt=0)
    """CPU cores that Ray offers on each."""
    gpus: float = Field(default=0, ge=0)
    """GPUs on each."""


class SeatsConfig(_Section):
    """Warm trainers: each holds the base model and trains one trial after the other."""

    count: int | None = Field(default=None, ge=1)
    """Seats. Default: as many as fit, that is one a GPU of the cluster, or one a CPU core where there is no GPU."""
    workers: int = Field(default=1, ge=1)
    """Training processes a seat (data parallel)."""
    gpus_per_worker: float = Field(default=1.0, gt=0, le=1)
    """GPUs each worker reserves where the cluster has any; a fraction lets several share one."""
    threads: int = Field(default=1, ge=1)
    """CPU threads a worker computes with, and CPU cores it reserves on a cluster without GPUs."""
    tries: int = Field(default=3, ge=1)
    """How often a job may lose its worker before the trial has failed."""
    coming: ComingNodesConfig | None = None
    """Nodes that seats may wait for: the search begins with the first seat, the others join as their nodes come.
    Default: none, seats that do not fit at once are refused."""


class TrackingConfig(_Section):
    """Where MLflow keeps the record."""

    uri: str | None = None
    """MLflow tracking URI. Default: the sqlite database `mlflow.db` beside the folder of runs."""
    experiment: str = Field(default="likeness", min_length=1)


class SearchConfig(_Section):
    """Everything that a search needs to know."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")
    """Name of the run folder, of the MLflow parent run and of the registered model."""
    model: str
    """Base model: a folder in diffusers layout, a single .safetensors file or a hub name."""
    photos: PhotosConfig
    preset: PresetName | None = None
    """Settings for what the file leaves open: `quick`, `standard` or `thorough` (`search.preset`). Default: none."""
    training: TrainingConfig = TrainingConfig()
    """Training settings that do not vary."""
    space: dict[str, Dimension] = Field(min_length=1)
    """Training settings that vary."""
    trials: int = Field(default=20, ge=1)
    seed: int = 0
    """Seed of the sampler."""
    sampler: SamplerConfig = SamplerConfig()
    budget: BudgetConfig = BudgetConfig()
    warm_start: Path | None = None
    """Folder of an earlier run, or its `journal.log`, whose results the sampler begins with (`search.warm_start`)."""
    first_trials: tuple[dict[str, Value], ...] = ({**HOMEWORK},)
    """Configurations to try before the sampler proposes; clipped to the space. Default: the homework's."""
    stopping: StoppingConfig = StoppingConfig()
    seats: SeatsConfig = SeatsConfig()
    evaluation: EvaluationConfig
    final: FinalConfig
    tracking: TrackingConfig = TrackingConfig()
    runs: Path = Path("runs")
    """Folder of the run folders, relative to where the search is started."""

    @model_validator(mode="before")
    @classmethod
    def _sampler_of_two_objectives(cls, data: Any) -> Any:
        """Where likeness and fidelity are optimised at once, the default is another sampler."""
        if not isinstance(data, dict):
            return data
        sampler, evaluation = data.get("sampler", {}), data.get("evaluation")
        objective = evaluation.get("objective") if isinstance(evaluation, dict) else None
        pareto = isinstance(objective, dict) and objective.get("mode") == "pareto"
        if pareto and isinstance(sampler, dict) and "name" not in sampler:
            return {**data, "sampler": {**sampler, "name": "tpe"}}
        return data

    @model_validator(mode="after")
    def _sampler_knows_the_objectives(self) -> SearchConfig:
        if self.evaluation.objective.mode == "pareto" and self.sampler.name == "learning_curves":
            raise ValueError(
                "sampler.name is learning_curves, which knows one objective; give tpe, gp, nsga2, qmc or random beside "
                "evaluation.objective.mode pareto"
            )
        return self

    @field_validator("space")
    @classmethod
    def _known_settings(cls, space: dict[str, Dimension]) -> dict[str, Dimension]:
        known = [field.name for field in dataclasses.fields(TrainingConfig)]
        for name in space:
            if name not in known:
                raise ValueError(f"{name!r} is not a training setting{nearest(name, known)}")
            if name in FIXED:
                raise ValueError(f"{name!r} cannot vary: {FIXED[name]}")
        return space

    @model_validator(mode="after")
    def _buckets_fit(self) -> SearchConfig:
        if self.photos.buckets is not None:
            self.photos.buckets.sizes(self.training.resolution)
        return self

    @model_validator(mode="after")
    def _trainable(self) -> SearchConfig:
        order(self.space)
        if "steps" in self.space and (isinstance(self.space["steps"], Ratio) or self.space["steps"].when):
            raise ValueError("space.steps cannot depend on other settings: trials are compared by their steps")
        # Every end of every two dimensions, beside the fewest steps: what the sampler may draw is not refused later.
        for names, draw in corners(self.space):
            drawn = " where ".join(
                f"space.{name} {verb} {draw[name]!r}" for name, verb in zip(names, ("may draw", "draws"), strict=False)
            )
            try:
                self.training_config(self.settings(draw), seed=0)
            except TypeError as error:
                raise ValueError(f"{drawn}, which is of the wrong kind") from error
            except ValueError as error:
                raise ValueError(f"{drawn}: {error}") from error
        for params in self.first_trials:
            for name in params:
                if name not in self.space and params != HOMEWORK:
                    raise ValueError(f"first_trials names {name!r}, which space does not{nearest(name, self.space)}")
            self.training_config(self.settings(self.nearest_draw(params)), seed=0)
        return self

    @model_validator(mode="after")
    def _class_images_where_they_are_weighed(self) -> SearchConfig:
        check_prior(self.photos.prior, self.photos.trigger, self.possible_trainings())
        return self

    def settings(self, draw: Mapping[str, Value]) -> dict[str, Value]:
        """The training settings that a draw of the space means (`search.draw`)."""
        return settings_of(self.space, draw, vars(self.training))

    def nearest_draw(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """The draw that comes nearest to some training settings."""
        return draw_of(self.space, params, vars(self.training))

    def possible_trainings(self) -> tuple[TrainingConfig, ...]:
        """The fixed settings, and these with each end of each dimension: what trials may want of the photos."""
        ends = (draw for names, draw in corners(self.space) if len(names) == 1)
        return (self.training, *(self.training_config(self.settings(draw), seed=0) for draw in ends))

    def training_config(self, params: Mapping[str, Value], *, seed: int) -> TrainingConfig:
        """The full training settings of one trial.

        Raises:
            ValueError: a value that the trainer refuses, by name.
        """
        config = dataclasses.replace(self.training, **{**params, "seed": seed})  # type: ignore[arg-type]
        if config.adapter not in SEARCHABLE:
            raise ValueError(
                f"adapter is {config.adapter!r}, whose file diffusers' pipelines do not load, so the champion would be "
                f"of no use to them; choose one of {', '.join(map(repr, SEARCHABLE))}"
            )
        return config


def load_config(path: Path, overrides: Sequence[str] = ()) -> SearchConfig:
    """Read, check and resolve a configuration file.

    Args:
        path: The YAML file.
        overrides: `key=value` pairs that replace or add single values, the key with dots (`evaluation.every=50`),
            the value as YAML.

    Raises:
        ConfigurationError: anything that is wrong with the file, all of it at once.
    """
    document = read_document(path, overrides)
    try:
        config = SearchConfig.model_validate(with_preset(document))
    except ValidationError as error:
        raise ConfigurationError(
            f"{path} cannot be used:\n" + "\n".join(explain(error, SearchConfig, DIMENSION_TAGS))
        ) from error
    return _resolve(config, path.parent)


def read_document(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a configuration file and its overrides say, unchecked and without what a preset adds.

    Raises:
        ConfigurationError: the file cannot be read, or an override is none.
    """
    document = read_settings(path)
    for override in overrides:
        _override(document, override)
    return document


def dump_config(config: SearchConfig) -> str:
    """The resolved configuration as YAML, which `load_config` reads back to an equal one, but for a password."""
    values = config.model_dump(mode="json")
    if config.tracking.uri is not None:
        values["tracking"]["uri"] = without_password(config.tracking.uri)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def without_password(uri: str) -> str:
    """The URI as it may be shown and stored: `scheme://user:password@host` without its password."""
    return re.sub(r"(?<=://)([^/@:]*):[^/@]*@", r"\1@", uri)


def _override(document: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigurationError(f"--set {override!r} must read key=value, as in --set evaluation.every=50")
    *parents, leaf = key.split(".")
    place = document
    for parent in parents:
        place = place.setdefault(parent, {})
        if not isinstance(place, dict):
            raise ConfigurationError(f"--set {override!r}: {parent!r} holds a value, not settings")
    try:
        place[leaf] = parse_yaml(text)
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {override!r}: the value is not YAML: {error}") from error


def _resolve(config: SearchConfig, folder: Path) -> SearchConfig:
    def file(value: Path) -> Path:
        resolved = (folder / value.expanduser()).resolve()
        if not resolved.is_file():
            raise ConfigurationError(f"{value} is not a file (looked for {resolved})")
        return resolved

    photos = config.photos.model_copy(
        update={
            "folder": resolve_folder(config.photos.folder, folder),
            "prior": resolve_prior(config.photos.prior, folder),
        }
    )
    evaluation = config.evaluation.model_copy(
        update={
            "prompts": file(config.evaluation.prompts),
            "clip": resolve_model(config.evaluation.clip, folder, needed="config.json"),
        }
    )
    others = config.evaluation.others
    if others.prompts is not None:
        others = others.model_copy(update={"prompts": file(others.prompts)})
        evaluation = evaluation.model_copy(update={"others": others})
    final = config.final.model_copy(update={"prompts": file(config.final.prompts)})
    return config.model_copy(
        update={
            "model": resolve_model(config.model, folder, needed="model_index.json"),
            "photos": photos,
            "evaluation": evaluation,
            "final": final,
            "runs": config.runs.expanduser().resolve(),
            "warm_start": resolve_earlier(config.warm_start, folder),
        }
    )
