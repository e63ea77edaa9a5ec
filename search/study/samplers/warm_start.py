"""A warm start: what a search takes over from an earlier one, by the journal of its study.

Results are taken over where they mean the same today: the same model, photos and evaluation, and trainings that
today's space may propose. From any other search only its best configurations are taken, to be tried first.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState

from search.config.draws import Draw
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig, shown_config
from search.config.space import Value
from search.study.samplers.distributions import FOREIGN, SAME_AS, SETTINGS, distributions, parameter
from trainer.config import TrainingConfig
from trainer.settings_file import ConfigurationError, read_settings

MEASURED_BY = ("model", "photos", "evaluation")
"""Sections of a configuration that a result depends on beside its training."""

BEST = 3
"""Configurations that are tried first where results cannot be taken over."""


@dataclass(frozen=True, kw_only=True)
class WarmStart:
    """What is taken over."""

    results: tuple[FrozenTrial, ...] = ()
    """As today's study takes them."""
    first_trials: tuple[Draw, ...] = ()
    """Draws to try before the sampler proposes."""
    line: str = ""
    """What a user should know, in words; empty where there is no warm start."""


def warm_start(config: SearchConfig) -> WarmStart:
    """What a search begins with.

    Raises:
        ConfigurationError: the earlier study cannot be read, or nothing in it fits today's space.
    """
    if config.warm_start is None:
        return WarmStart()
    trials = _read(config.warm_start)
    name, configuration = config.warm_start.parent.name, RunLayout(config.warm_start.parent).configuration
    differs = _difference(config, configuration)
    if not differs:
        training = TrainingConfig(**read_settings(configuration, SearchConfig).get("training", {}))
        earlier = tuple(result for trial in trials if (result := _result(config, trial, training)) is not None)
        if earlier:
            return WarmStart(
                results=earlier, line=f"warm start: the sampler knows {len(earlier)} of {len(trials)} results of {name}"
            )
        differs = "none of its trainings lies in today's space"
    complete = [trial for trial in trials if trial.state is TrialState.COMPLETE]
    best = sorted(complete, key=lambda trial: -trial.values[0])[:BEST]  # of equals the earlier
    if not best:
        raise ConfigurationError(f"warm_start: {config.warm_start} holds no trial that ran to its end")
    draws = [config.nearest_draw(_settings(trial)) for trial in best]
    return WarmStart(
        first_trials=tuple(draw for place, draw in enumerate(draws) if draw not in draws[:place]),
        line=f"warm start: the best {len(draws)} configurations of {name} are tried first; its results are not taken "
        f"over, for {differs}",
    )


def _read(journal: Path) -> list[FrozenTrial]:
    """The trials that ended with a result, without duplicates of each other."""
    try:
        study = optuna.load_study(study_name=None, storage=JournalStorage(JournalFileBackend(str(journal))))
        trials = study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
    except (KeyError, ValueError, OSError) as error:
        raise ConfigurationError(f"warm_start: {journal} holds no study that can be read: {error}") from error
    return [trial for trial in trials if SAME_AS not in trial.user_attrs]


def _difference(config: SearchConfig, path: Path) -> str:
    """Why the earlier results mean something else today; empty if they mean the same."""
    if not path.is_file():
        return f"there is no {path.name} beside its journal that says how they were measured"
    theirs, ours = read_settings(path, SearchConfig), shown_config(config)
    changed = [section for section in MEASURED_BY if theirs.get(section) != ours[section]]
    return f"{' and '.join(changed)} differ" if changed else ""


def _settings(trial: FrozenTrial) -> dict[str, Value]:
    settings: dict[str, Value] = trial.user_attrs.get(SETTINGS, trial.params)
    return settings


def _result(config: SearchConfig, trial: FrozenTrial, training: TrainingConfig) -> FrozenTrial | None:
    """The trial in the words of today's space; None if today it would be another training."""
    settings = _settings(trial)
    draw = config.nearest_draw(settings)
    theirs = dataclasses.replace(training, **{**settings, "seed": 0})  # type: ignore[arg-type]
    if config.training_config(config.settings(draw), seed=0) != theirs:
        return None
    known = distributions(config.space)
    names = {name: parameter(name, config.space[name]) for name in draw}
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params={names[name]: value for name, value in draw.items()},
        distributions={names[name]: known[names[name]] for name in draw},
        user_attrs={**trial.user_attrs, FOREIGN: True},
        intermediate_values=dict(trial.intermediate_values),
        constraints=dict(trial.constraints),
    )
