"""A finalist: a trial's best checkpoint and the trainings of its configuration, as the final has measured them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import numpy as np

from evaluation.bootstrap import Interval, Values, bootstrap_interval
from evaluation.measures import MEMORISATION, OBJECTIVE, RATES
from evaluation.proportion import wilson_interval
from evaluation.scores import memorisation
from search.config.search_config import SearchConfig
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.ranking import Candidate
from search.workers.jobs import DIVERGED


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """A finalist's configuration trained again with another seed, up to the candidate's step."""

    seed: int
    report: CheckpointResult | None
    """As scored on the final prompts and seeds; None if the training failed."""
    reason: str = ""
    """Why it failed."""

    @property
    def diverged(self) -> bool:
        """Whether its loss left the finite numbers, which is the configuration's own fault."""
        return self.report is None and self.reason.startswith(DIVERGED)


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """The adapter that stands for a configuration: of its trainings the one nearest to their mean objective."""

    report: CheckpointResult
    """As scored in the final."""
    folder: Path
    """Holds the adapter."""
    seed: int | None
    """Of the retraining; None for the search's own training."""
    intervals: Mapping[str, Interval]
    """Bootstrap intervals of its final metrics over prompts and seeds."""


@dataclass(frozen=True, kw_only=True)
class Finalist:
    """A trial's best checkpoint in the final."""

    record: TrialRecord
    candidate: CheckpointResult
    """As scored in the search."""
    final: CheckpointResult
    """The same adapter, as scored on the final prompts and seeds."""
    retrained: tuple[Retraining, ...]
    intervals: Mapping[str, Interval]
    """Bootstrap intervals of the adapter's final metrics over prompts and seeds."""
    across_seeds: Mapping[str, Interval]
    """The same for the configuration: over its trainings, prompts and seeds. By this the final is decided."""
    shipped: Shipped

    @property
    def trainings(self) -> str:
        """How many of its trainings came to something, in words."""
        count, diverged = 1 + len(self.retrained), sum(again.diverged for again in self.retrained)
        failed = sum(again.report is None for again in self.retrained) - diverged
        parts = [f"{diverged} of {count} diverged, which counts as the untuned model"] if diverged else []
        parts += [f"{failed} of {count} failed, which counts for nothing"] if failed else []
        return f"{count}" + (f" ({'; '.join(parts)})" if parts else "")

    @property
    def unfit(self) -> tuple[str, ...]:
        return self.final.unfit


def finalist_of(
    config: SearchConfig,
    entrant: Candidate,
    report: CheckpointResult,
    retrained: tuple[Retraining, ...],
    base: CheckpointResult,
) -> Finalist:
    """A finalist out of what was measured of it.

    Args:
        config: The search.
        entrant: Trial and candidate.
        report: The candidate on the final prompts and seeds.
        retrained: Its configuration trained again.
        base: The untuned model there.
    """
    anchors = base.anchors()

    level = config.final.confidence

    def interval(name: str, value: Values) -> Interval:
        crossed = bootstrap_interval(value, seed=config.seed, level=level)
        if name not in RATES:
            return crossed
        # Of images that are all alike every resample is the same; that leaves more open than nothing.
        alone = wilson_interval(round(crossed.mean * value.size), value.size, level=level)
        return replace(crossed, lower=min(crossed.lower, alone.lower), upper=max(crossed.upper, alone.upper))

    def intervals(values: Mapping[str, Values]) -> dict[str, Interval]:
        return {name: interval(name, value) for name, value in values.items()}

    def of_adapter(result: CheckpointResult) -> dict[str, Interval]:
        found = intervals(result.values(anchors, config.evaluation.objective))
        if (copied := memorisation(result.rows, anchors, level=level)) is not None:
            found[MEMORISATION] = Interval(lower=copied.lower, mean=copied.value, upper=copied.upper)
        return found

    shipped, seed = _nearest_to_mean(report, retrained)
    return Finalist(
        record=entrant[0],
        candidate=entrant[1],
        final=report,
        retrained=retrained,
        intervals=of_adapter(report),
        across_seeds=intervals(_values(report, retrained, base, config)),
        shipped=Shipped(
            report=shipped,
            folder=entrant[1].folder if seed is None else shipped.folder,
            seed=seed,
            intervals=of_adapter(shipped),
        ),
    )


def _nearest_to_mean(report: CheckpointResult, retrained: Sequence[Retraining]) -> tuple[CheckpointResult, int | None]:
    """The training to hand over and the seed of its retraining: of those that are fit, the one nearest to the mean
    objective of all; of equals the search's own, then the earlier."""
    trainings: list[tuple[CheckpointResult, int | None]] = [(report, None)]
    trainings += [(again.report, again.seed) for again in retrained if again.report is not None]
    middle = fmean(each.metrics[OBJECTIVE] for each, _ in trainings)
    fit = [training for training in trainings if not training[0].unfit] or trainings[:1]
    return min(fit, key=lambda training: abs(training[0].metrics[OBJECTIVE] - middle))


def configuration_values(finalist: Finalist, base: CheckpointResult, config: SearchConfig) -> dict[str, Values]:
    """Metric name to [runs, prompts, seeds]: the candidate first, then its retrainings; a training that diverged left
    its user with the untuned model, and counts as that."""
    return _values(finalist.final, finalist.retrained, base, config)


def _values(
    final: CheckpointResult, retrained: Sequence[Retraining], base: CheckpointResult, config: SearchConfig
) -> dict[str, Values]:
    results = [final]
    for again in retrained:
        if again.report is not None or again.diverged:
            results.append(again.report or base)
    runs = [result.values(base.anchors(), config.evaluation.objective) for result in results]
    blank = np.full_like(runs[0][OBJECTIVE], np.nan)  # a run without a face has no face distances
    names = {name: None for values in runs for name in values}
    return {name: np.stack([values.get(name, blank) for values in runs]) for name in names}
