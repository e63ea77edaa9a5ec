"""The configuration of a search: one YAML file, checked here and nowhere else.

Every path in the file is read relative to the file's own folder, so that a search can be started from anywhere; only
`runs` is relative to where it is started.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from evaluation.judges import check_measures
from search.config.defaults import completed, hint
from search.config.draws import corners, draw_of, order, settings_of
from search.config.presets import PresetName
from search.config.resolved_paths import resolved_config
from search.config.sections import (
    BudgetConfig,
    EvaluationConfig,
    FinalConfig,
    PhotosConfig,
    SamplerConfig,
    SeatsConfig,
    Seed,
    StoppingConfig,
    TrackingConfig,
)
from search.config.space import Dimension, Ratio, Value, largest, planned_steps
from search.config.written_space import dimension_values, setting_value
from trainer.config import READ_BY_DIFFUSERS_ONLY, TrainingConfig, check_text_encoder_settings
from trainer.data.prior_config import check_prior
from trainer.setting_kinds import kinds_at
from trainer.settings_file import ConfigurationError as ConfigurationError
from trainer.settings_file import Name, Section, explain, nearest, path_errors, read_settings
from trainer.yaml_text import Misread, dump_yaml, parse_value

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

UNION_TAGS = frozenset({"float", "int", "choice", "ratio", "str", "OnnxRecognizer"})
"""Names of the kinds of dimensions and of recognisers, which pydantic puts into the place of a problem."""

SEARCHABLE = ("lora", "rslora")
"""Adapters whose files `pipeline.load_lora_weights`, ComfyUI and A1111 read: what card, registry and final promise."""

RETRAINING_SEED_STRIDE = 1_000_000
"""Between the training seeds of a trial and of its retrainings; trials are numbered below it."""

MOST_TRIALS = RETRAINING_SEED_STRIDE // 10
"""Repeated configurations are numbered, too."""

HIGHEST_TRAINING_SEED = 2**62
"""Of a search, whose trials and retrainings count up from it."""


class SearchConfig(Section):
    """Everything that a search needs to know."""

    name: Name
    """Name of the run folder, of the MLflow parent run and of the registered model."""
    model: str
    """Base model: a folder in diffusers layout, a single .safetensors file or a hub name."""
    photos: PhotosConfig
    preset: PresetName | None = None
    """Settings for what the file leaves open: `quick`, `standard` or `thorough` (`search.config.presets`). Default:
    none."""
    training: TrainingConfig = TrainingConfig()
    """Training settings that do not vary."""
    space: dict[str, Dimension] = Field(min_length=1)
    """Training settings that vary."""
    trials: int = Field(default=20, ge=1, le=MOST_TRIALS)
    """How many configurations are tried; repeated ones do not count."""
    seed: Seed = 0
    """Seed of the sampler."""
    sampler: SamplerConfig = SamplerConfig()
    budget: BudgetConfig = BudgetConfig()
    warm_start: Path | None = None
    """Folder of an earlier run, or its journal, whose results the sampler begins with
    (`search.study.samplers.warm_start`)."""
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

    @field_validator("space", mode="before")
    @classmethod
    def _as_the_settings_take_it(cls, space: Any) -> Any:
        if not isinstance(space, Mapping):
            return space
        return {name: dimension_values(str(name), dimension) for name, dimension in space.items()}

    @field_validator("first_trials", mode="before")
    @classmethod
    def _as_the_settings_take_them(cls, trials: Any) -> Any:
        if not isinstance(trials, list | tuple):
            return trials
        return [
            {name: setting_value(str(name), value) for name, value in trial.items()}
            if isinstance(trial, Mapping)
            else trial
            for trial in trials
        ]

    @field_validator("training")
    @classmethod
    def _room_for_the_seeds_of_trials(cls, training: TrainingConfig) -> TrainingConfig:
        if training.seed > HIGHEST_TRAINING_SEED:
            raise ValueError(f"seed is {training.seed}; in a search it must be at most {HIGHEST_TRAINING_SEED} (2**62)")
        return training

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
    def _text_encoder_settings_count(self) -> SearchConfig:
        check_text_encoder_settings(self.possible_trainings(), self.space)
        return self

    @model_validator(mode="after")
    def _class_images_where_they_are_weighed(self) -> SearchConfig:
        check_prior(self.photos.prior, self.photos.trigger, self.possible_trainings())
        return self

    def settings(self, draw: Mapping[str, Value]) -> dict[str, Value]:
        """The training settings that a draw of the space means (`search.config.draws`)."""
        return settings_of(self.space, draw, vars(self.training))

    def nearest_draw(self, params: Mapping[str, Value]) -> dict[str, Value]:
        """The draw that comes nearest to some training settings."""
        return draw_of(self.space, params, vars(self.training))

    def possible_trainings(self) -> tuple[TrainingConfig, ...]:
        """The fixed settings, and these with each end of each dimension: what trials may want of the photos."""
        ends = (draw for names, draw in corners(self.space) if len(names) == 1)
        return (self.training, *(self.training_config(self.settings(draw), seed=0) for draw in ends))

    def trial_seed(self, number: int, *, retraining: int = 0) -> int:
        """The training seed of a trial: each has its own, so that trials differ in noise as in settings.

        Args:
            number: Of the trial, from 0.
            retraining: 1 and up for the trainings with which the final repeats the trial.
        """
        return self.training.seed + number + retraining * RETRAINING_SEED_STRIDE

    @property
    def rungs(self) -> tuple[float, ...]:
        """Steps at which trials are compared and may be stopped, ascending: those below the longest training.

        None where trials are not stopped early.
        """
        steps = self.space.get("steps")
        longest, rungs = self.training.steps if steps is None else largest(steps), []
        rung: float = self.stopping.grace_period
        while self.stopping.enabled and rung < longest:
            rungs.append(rung)
            rung *= self.stopping.reduction_factor
        return tuple(rungs)

    def planned_steps(self, params: Mapping[str, Value]) -> int:
        """Optimizer steps of a trial that is not stopped early."""
        return planned_steps(params, self.training.steps)

    def training_config(self, params: Mapping[str, Value], *, seed: int) -> TrainingConfig:
        """The full training settings of one trial.

        Raises:
            ValueError: a value that the trainer refuses, by name.
        """
        config = dataclasses.replace(self.training, **{**params, "seed": seed})  # type: ignore[arg-type]
        if config.adapter not in SEARCHABLE:
            reason = READ_BY_DIFFUSERS_ONLY.get(
                config.adapter, "diffusers' pipelines do not load its file, so the champion would be of no use to them"
            )
            raise ValueError(
                f"adapter is {config.adapter!r}, but {reason}; choose one of {', '.join(map(repr, SEARCHABLE))}, or "
                "train it without a search, by trainer.run"
            )
        return config


def load_config(path: Path, overrides: Sequence[str] = ()) -> SearchConfig:
    """Reads, checks and resolves a configuration file.

    Args:
        path: the YAML file.
        overrides: `key=value` pairs that replace or add single values, the key with dots (`evaluation.every=50`),
            the value as YAML, in which `#` begins no comment.

    Raises:
        ConfigurationError: anything that is wrong with the file, all of it at once.
    """
    document = read_document(path, overrides)
    try:
        config = SearchConfig.model_validate(completed(document, path.parent))
    except ValidationError as error:
        problems = explain(error, SearchConfig, UNION_TAGS)
        if remedy := hint(document):
            problems.append(f"  {remedy}")
        raise ConfigurationError(f"{path} cannot be used:\n" + "\n".join(problems)) from error
    try:
        check_measures(config.evaluation.judges, config.evaluation.objective)
    except ValueError as error:
        raise ConfigurationError(f"{path} cannot be used:\n  evaluation.{error}") from error
    with path_errors():
        return resolved_config(config, path.parent)


def read_document(path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """What a configuration file and its overrides say, unchecked and without what a preset adds.

    Raises:
        ConfigurationError: the file cannot be read, or an override is none.
    """
    document = read_settings(path, SearchConfig)
    for override in overrides:
        _override(document, override)
    return document


def dump_config(config: SearchConfig) -> str:
    """The resolved configuration as YAML, which `load_config` reads back to an equal one, but for a password."""
    return dump_yaml(shown_config(config))


def shown_config(config: SearchConfig) -> dict[str, Any]:
    """The resolved configuration as it may be shown and stored: as a file holds it, but for a password."""
    values = config.model_dump(mode="json")
    if config.tracking.uri is not None:
        values["tracking"]["uri"] = without_password(config.tracking.uri)
    return values


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
        place[leaf] = parse_value(text, kinds_at(SearchConfig, (*parents, leaf)))
    except Misread as error:
        raise ConfigurationError(f"--set {override!r}: {error}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"--set {override!r}: the value is not YAML: {error}") from error
