"""What to do next: each line follows from a stated rule and names the number that made it speak.

The rules look at what the search has measured and at nothing else. One that does not hold says nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import norm

from evaluation.measures import OBJECTIVE
from search.config.search_config import SearchConfig
from search.config.space import Choice, FloatRange, IntRange, Ratio, Value
from search.storage.result_schema import ChampionResult, Outcome, TrialResult
from trainer.data.photos import CaptionedPhoto

NEAR_EDGE = 0.05
"""A value within this share of a range, on its own scale, lies at its edge."""
WIDER = 3.0
"""Factor by which an edge on a logarithmic scale is moved, or share of the range elsewhere."""
MOST = 0.8
"""Share of the trials that counts as all of them."""
ENOUGH_TRIALS = 8
"""Scored trials from which on their spread says something of the next ones."""
MORE_TRIALS = 10
FEW_PHOTOS = 20
"""Below it people report that likeness suffers; the README asks for 20 to 100."""
UNLIKE_PHOTOS = 0.8
"""Distance of the real photos from each other, by that of the untuned model's faces, above which they hardly agree."""
WELL_ALIKE = 0.8
"""Likeness from which on the photos are no obstacle."""
FACELESS_BASE = 0.2
"""Share of the untuned model's images without a face above which the base or the prompts are at fault."""
FIDELITY_LOSS = 0.1
"""Fidelity that a strength costs against strength 1 before it is warned of."""
HIGH_LEAKAGE = 0.5
"""Other people come half-way to the person."""


@dataclass(frozen=True, kw_only=True)
class Photos:
    """What the rules ask of the photos."""

    all: Sequence[CaptionedPhoto]
    """Those to train on and those to compare with."""
    alike: int = 0
    """Near-copies of others among them."""


def advise(outcome: Outcome, config: SearchConfig, photos: Photos) -> tuple[str, ...]:
    """The advice on an ended search, the most specific first.

    Args:
        outcome: What came of it.
        config: What was asked for.
        photos: Those of the person.
    """
    lines: list[str] = []
    champion = outcome.champion
    if champion is not None:
        lines += _edges(champion, config)
        lines += _rising(champion, outcome.trials, config)
    lines += _stopping(outcome.trials, config)
    if champion is not None:
        lines += _photos(champion, outcome, config, photos)
        lines += _strengths(outcome)
        lines += _leakage(champion, config)
    lines += _base(outcome)
    lines += _more_trials(outcome.trials, config)
    return tuple(lines)


def expected_gain(draws: Sequence[float], best: float, more: int) -> float:
    """By how much the largest of further draws is expected to exceed the best so far, at least 0.

    They are taken to be normal, with mean m and deviation s of those given: the integral from the best b upwards of
    1 - F((t - m) / s)^more, where F is the normal distribution function; F^more is the distribution of the largest of
    `more` draws (David and Nagaraja, Order Statistics, 2003, section 2.1).

    Args:
        draws: At least two.
        best: Not necessarily among them.
        more: How many further ones.
    """
    mean, deviation = float(np.mean(draws)), float(np.std(draws, ddof=1))
    if deviation == 0:
        return 0.0
    grid = np.linspace(best, max(best, mean) + 10 * deviation, 2001)
    return float(np.trapezoid(1 - norm.cdf((grid - mean) / deviation) ** more, grid))


def _edges(champion: ChampionResult, config: SearchConfig) -> Iterator[str]:
    """The champion lies at an edge of the space, and beyond it there is something to try."""
    for name, dimension in config.space.items():
        value = champion.params.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        match dimension:
            case FloatRange() | IntRange():
                at = _position(value, dimension)
                for reached, side, key in ((at <= NEAR_EDGE, "lower", "low"), (at >= 1 - NEAR_EDGE, "upper", "high")):
                    if reached and (wider := _beyond(name, dimension, key, champion, config)) is not None:
                        yield (
                            f"{name}: the champion's {value:g} lies at the {side} end of the space "
                            f"({getattr(dimension, key):g}); set space.{name}.{key} to {wider:g}"
                        )
            case Choice():
                numbers = sorted(at for at in dimension.values if isinstance(at, int | float))
                if len(numbers) < len(dimension.values) or len(numbers) < 3:
                    continue
                for end, side, factor in ((numbers[0], "smallest", 0.5), (numbers[-1], "largest", 2.0)):
                    more = _as_kind(end * factor, end)
                    if value == end and _accepted(name, more, champion, config):
                        yield (
                            f"{name}: the champion's {value:g} is the {side} of the space; add {more:g} to "
                            f"space.{name}.values"
                        )
            case Ratio():
                continue


def _position(value: float, dimension: FloatRange | IntRange) -> float:
    """Where a value lies between the ends of its range, 0 to 1, on its scale."""
    low, high = float(dimension.low), float(dimension.high)
    if dimension.log:
        value, low, high = math.log(value), math.log(low), math.log(high)
    return (value - low) / (high - low)


def _beyond(
    name: str, dimension: FloatRange | IntRange, key: str, champion: ChampionResult, config: SearchConfig
) -> float | int | None:
    """An end farther out than `low` or `high`; None if the trainer takes none."""
    end, up = getattr(dimension, key), key == "high"
    if dimension.log:
        wider = end * WIDER if up else end / WIDER
    else:
        width = dimension.high - dimension.low
        wider = end + width if up else end - width
    number = _as_kind(wider, end)
    return number if number != end and _accepted(name, number, champion, config) else None


def _as_kind(value: float, like: Value) -> float | int:
    return max(1, round(value)) if isinstance(like, int) else float(f"{value:.3g}")


def _accepted(name: str, value: Value, champion: ChampionResult, config: SearchConfig) -> bool:
    if value == champion.params[name]:
        return False
    try:
        config.training_config({**champion.params, name: value}, seed=0)
    except ValueError:
        return False
    return True


def _rising(champion: ChampionResult, trials: Sequence[TrialResult], config: SearchConfig) -> Iterator[str]:
    """The champion was still getting better when its training ended."""
    trial = next((trial for trial in trials if trial.id == champion.trial), None)
    if trial is None or len(trial.checkpoints) < 2:
        return
    before, last = trial.checkpoints[-2:]
    gain = last.objective - before.objective
    if champion.step == last.step == _most_steps(config) and gain > config.final.indifference:
        yield (
            f"steps: the champion's objective still rose by {gain:.3f} from step {before.step} to its last, "
            f"{last.step}; allow more than {_most_steps(config)} steps"
        )


def _most_steps(config: SearchConfig) -> int:
    return max(training.steps for training in config.possible_trainings()[1:] or config.possible_trainings())


def _stopping(trials: Sequence[TrialResult], config: SearchConfig) -> Iterator[str]:
    """Nearly all trials were stopped at the first look at them, or nearly all were still rising at their end."""
    scored = [trial for trial in trials if trial.checkpoints]
    if len(scored) < ENOUGH_TRIALS:
        return
    grace = config.stopping.grace_period
    early = [trial for trial in scored if trial.state == "stopped" and trial.checkpoints[-1].step <= grace]
    if len(early) >= MOST * len(scored):
        yield (
            f"stopping: {len(early)} of {len(scored)} trials were stopped at step {grace} or before; raise "
            "stopping.grace_period, so that they can show what they may become"
        )
    whole = [trial for trial in scored if trial.state == "finished" and len(trial.checkpoints) > 1]
    rising = [trial for trial in whole if trial.best_step == trial.checkpoints[-1].step]
    if len(whole) >= 3 and len(rising) >= MOST * len(whole):
        yield (
            f"steps: {len(rising)} of {len(whole)} trials that ran to their end were best there; allow more steps "
            f"than {_most_steps(config)}"
        )


def _photos(champion: ChampionResult, outcome: Outcome, config: SearchConfig, photos: Photos) -> Iterator[str]:
    """What about the photos may keep the likeness low; nothing where it is high."""
    likeness = champion.final.metrics.get("likeness")
    if likeness is None or likeness >= WELL_ALIKE:
        return
    count = len(photos.all)
    if count < FEW_PHOTOS:
        yield f"photos: likeness is {likeness:.2f} with {count} photos; {FEW_PHOTOS} to 100 are usual, so add more"
    if photos.alike:
        yield f"photos: {photos.alike} of {count} nearly repeat another; take others in their place"
    side = config.training.resolution
    small = [photo for photo in photos.all if min(photo.shape) < side]
    if small:
        yield (
            f"photos: {len(small)} of {count} are smaller than the {side} pixels of the training, the smallest "
            f"{min(min(photo.shape) for photo in small)}; take larger ones"
        )
    captions = {photo.caption for photo in photos.all}
    if count > 1 and len(captions) == 1:
        yield (
            f"captions: all {count} photos have the same; say in each what is not the person (clothes, place, light), "
            "or it is learnt as part of them"
        )
    anchors = outcome.anchors.get("final") or outcome.anchors.get("validation")
    if anchors is not None:
        real, untuned = anchors.real.get("face_distance"), anchors.untuned.get("face_distance")
        if real is not None and untuned and real > UNLIKE_PHOTOS * untuned:
            yield (
                f"photos: the real photos are {real:.2f} from each other, the untuned model's faces {untuned:.2f} from "
                "them; leave out those that hardly show the person (photos.nearest, python -m search.photos)"
            )


def _base(outcome: Outcome) -> Iterator[str]:
    """The untuned model itself draws no faces."""
    faceless = (outcome.base.final or outcome.base.search).get("faceless_rate")
    if faceless is not None and faceless > FACELESS_BASE:
        yield (
            f"base model: {faceless:.0%} of its own images show no face that counts; use prompts that ask for a face, "
            "or another base model"
        )


def _strengths(outcome: Outcome) -> Iterator[str]:
    """Above some strength the prompts are lost."""
    points = {point.strength: point.metrics for point in (outcome.strengths.points if outcome.strengths else ())}
    own = points.get(1.0, {}).get("fidelity")
    if own is None:
        return
    lost = [at for at in sorted(points) if at > 1 and own - points[at].get("fidelity", own) > FIDELITY_LOSS]
    if lost:
        yield (
            f"strength: fidelity falls from {own:.2f} at 1 to {points[lost[0]]['fidelity']:.2f} at {lost[0]:g}; draw "
            f"with less than {lost[0]:g}"
        )


def _leakage(champion: ChampionResult, config: SearchConfig) -> Iterator[str]:
    """Other people turn into the person, and nothing was shown of other people."""
    leakage = champion.final.metrics.get("leakage")
    if leakage is not None and leakage > HIGH_LEAKAGE and config.photos.prior is None:
        yield (
            f"leakage: other people come {leakage:.0%} of the way to the person; where that matters, train with class "
            "images (photos.prior, training.prior_loss_weight)"
        )


def _more_trials(trials: Sequence[TrialResult], config: SearchConfig) -> Iterator[str]:
    """What ten more trials like the later half would add."""
    scored = [trial.metrics[OBJECTIVE] for trial in trials if trial.checkpoints and OBJECTIVE in trial.metrics]
    if len(scored) < ENOUGH_TRIALS:
        return
    gain = expected_gain(scored[len(scored) // 2 :], max(scored), MORE_TRIALS)
    if gain < config.final.indifference:
        yield f"trials: ten more are expected to add {gain:.3f} to the objective, so they would hardly help"
    else:
        yield (
            f"trials: ten more are expected to add {gain:.3f} to the objective; `--resume` with `--trials "
            f"{len(trials) + MORE_TRIALS}` goes on"
        )
