"""What does the preference for cheap finalists cost? Drawn finals, decided by several rules, with the truth known.

The true objectives of the finalists differ with a given deviation; trainings, prompts and seeds add noise of the size
that real finals show (`benchmarks.truth`: trainings of one configuration differ by 0.021). Cost is dealt at random:
what is cheap is neither better nor worse. A rule's loss is the best finalist's true objective less that of its winner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.random import Generator

from benchmarks.outcome import conclude, print_table
from search.config.sections import FinalConfig
from search.final.decision import Decision, Entrant, decide

FINALISTS, RUNS, PROMPTS, SEEDS = 4, 3, 12, 2
TRAINING_DEVIATION = 0.021
IMAGE_DEVIATIONS = (0.1, 0.16)
"""Of single images: intervals of a finalist's objective are then 0.08 and 0.13 wide."""
TRUE_DEVIATIONS = (0.02, 0.05)
CONFIDENCE = 0.95

Rule = Callable[[Sequence[Entrant], int], str]
"""The winner's name, of finalists and a seed of the bootstrap."""


def by_indifference(margin: float) -> Rule:
    """The search's rule with a margin; 0 follows the leader."""

    def winner(entrants: Sequence[Entrant], seed: int) -> str:
        return decide(entrants, confidence=CONFIDENCE, seed=seed, indifference=margin).winner

    return winner


def cheapest_of_the_tied(entrants: Sequence[Entrant], seed: int) -> str:
    """Whoever cannot be told from the leader counts as equal to it, however far behind: the rule before."""
    decision: Decision = decide(entrants, confidence=CONFIDENCE, seed=seed, indifference=0.0)
    tied = {decision.standings[0].id, *decision.tied}
    return min((one for one in entrants if one.id in tied), key=lambda one: one.cost).id


RULES: Mapping[str, Rule] = {
    "the leader": by_indifference(0.0),
    "the search's": by_indifference(float(FinalConfig.model_fields["indifference"].default)),
    "one standard error": by_indifference(1.0),
    "the cheapest of the tied": cheapest_of_the_tied,
}


def main(
    finals: Annotated[int, typer.Option(min=1, help="Finals drawn of each kind.")] = 300,
    quick: Annotated[bool, typer.Option("--quick", help="A few finals: that it runs, no figures.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Compare the rules' losses."""
    finals = 4 if quick else finals
    random = np.random.default_rng(0)
    typer.echo(f"{finals} finals of {FINALISTS} finalists, {RUNS} trainings x {PROMPTS} prompts x {SEEDS} seeds each:")
    rows, kinds = [("images' deviation", "true deviation", *RULES)], []
    for image in IMAGE_DEVIATIONS:
        for true in TRUE_DEVIATIONS:
            losses = _losses(finals, image, true, random)
            kinds.append({"image_deviation": image, "true_deviation": true, "losses": losses})
            rows.append((f"{image}", f"{true}", *(f"{loss:.4f}" for loss in losses.values())))
    print_table(rows)
    conclude({"benchmark": "deciding", "finals": finals, "kinds": kinds}, json_)


def _losses(finals: int, image: float, true: float, random: Generator) -> dict[str, float]:
    """Mean loss by rule."""
    lost: dict[str, list[float]] = {name: [] for name in RULES}
    for seed in range(finals):
        worth = true * random.standard_normal(FINALISTS)
        entrants = [_entrant(place, value, image, random) for place, value in enumerate(worth)]
        for name, rule in RULES.items():
            lost[name].append(float(worth.max() - worth[int(rule(entrants, seed))]))
    return {name: float(np.mean(values)) for name, values in lost.items()}


def _entrant(place: int, worth: float, image: float, random: Generator) -> Entrant:
    runs = TRAINING_DEVIATION * random.standard_normal((RUNS, 1, 1))
    images = image * random.standard_normal((RUNS, PROMPTS, SEEDS))
    return Entrant(id=str(place), cost=float(random.random()), objective=worth + runs + images)


if __name__ == "__main__":
    typer.run(main)
