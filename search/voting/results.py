"""What the votes say: how often people and the objective agree, which weights would agree better, whom people like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from evaluation.proportion import Estimate
from search.voting.agreement import Vector, advantage, agreement
from search.voting.candidates import Run
from search.voting.preference import (
    as_objective,
    as_vector,
    fit_decisions,
    fit_strengths,
    held_out_decisions,
    weight_intervals,
)
from search.voting.votes import Answer, CheckpointName, Vote, VotesError

ENOUGH = 30
"""Decided votes below which weights are not reported: about ten for each of the three (Peduzzi et al. 1996)."""

COIN = 0.5
"""Agreement of whoever guesses."""

WEIGHTS = ("likeness", "fidelity", "faceless")
"""Names of the weights under `evaluation.objective`, in the order of the measures."""

SEED = 0
"""Of bootstrap and folds: the same votes give the same report."""


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How often the one with the higher objective won, of the decided votes."""

    weights: str
    """Which weights the objective had, in words."""
    images: Estimate
    """By the objective of the two images that were shown."""
    candidates: Estimate
    """By the objective of the two candidates: likeness, fidelity and faceless over all of their images."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One weight of the objective."""

    name: str
    configured: float
    fitted: Estimate


@dataclass(frozen=True, kw_only=True)
class RankedCandidate:
    """A candidate in people's eyes."""

    name: CheckpointName
    strength: float
    """Log odds against the average candidate."""
    standard_error: float
    won: int
    lost: int
    tied: int
    objective: float
    """As the search measured it."""


@dataclass(frozen=True, kw_only=True)
class VotingResults:
    """What all votes that stand say."""

    run: str
    votes: int
    decided: int
    agreements: tuple[Agreement, ...]
    """Under the configured weights, then under fitted ones; empty if no vote is decided."""
    weights: tuple[Weight, ...]
    """Empty unless they foresee held-out votes better than the configured ones; then `verdict` says so."""
    verdict: str
    """What to make of the weights, in a sentence."""
    settings: tuple[str, ...]
    """`key=value` of the fitted weights, for `--set` of the next search; empty if there are none."""
    ranking: tuple[RankedCandidate, ...]
    """Who got votes, people's favourite first."""


def judge_votes(run: Run, votes: Sequence[Vote], path: Path) -> VotingResults:
    """Judge the votes.

    Args:
        run: What was voted on.
        votes: Those that stand, at least one.
        path: The votes file, to name in errors.

    Raises:
        VotesError: a vote is about something that the run does not hold.
    """
    _check(run, votes, path)
    configured = run.config.evaluation.objective
    outcomes = np.array([vote.outcome for vote in votes])
    seen = np.array([_image(run, vote, vote.pair.left) - _image(run, vote, vote.pair.right) for vote in votes])
    means = {name: run.checkpoints[name].mean_measures for vote in votes for name in _names(vote)}
    whole = np.array([means[vote.pair.left] - means[vote.pair.right] for vote in votes])
    decided = int((outcomes != 0.5).sum())
    held_out = held_out_decisions(seen, outcomes, [vote.pair.key for vote in votes], configured, seed=SEED)
    agreements = tuple(
        Agreement(weights=words, images=by_image, candidates=by_candidate)
        for words, weights in (
            ("configured weights", np.broadcast_to(as_vector(configured), seen.shape)),
            ("fitted weights, on votes held out", held_out),
        )
        if (by_image := agreement((weights * seen).sum(axis=1), outcomes)) is not None
        and (by_candidate := agreement((weights * whole).sum(axis=1), outcomes)) is not None
    )
    weights: tuple[Weight, ...] = ()
    settings: tuple[str, ...] = ()
    gain = advantage((held_out * seen).sum(axis=1), seen @ as_vector(configured), outcomes)
    better = gain is not None and gain.lower > COIN
    if decided >= ENOUGH and better:
        fitted = as_objective(fit_decisions(seen, outcomes, configured), configured)
        settings = tuple(f"evaluation.objective.{name}={getattr(fitted, name):.4f}" for name in WEIGHTS)
        estimates = weight_intervals(seen, outcomes, configured, seed=SEED)
        weights = tuple(
            Weight(name=name, configured=getattr(configured, name), fitted=estimate)
            for name, estimate in zip(WEIGHTS, estimates, strict=True)
        )
    return VotingResults(
        run=run.folder.name,
        votes=len(votes),
        decided=decided,
        agreements=agreements,
        weights=weights,
        verdict=_verdict(decided, weights, gain),
        settings=settings,
        ranking=_ranking(run, votes),
    )


def as_text(results: VotingResults) -> str:
    """The results for a terminal."""
    lines = [
        f"{results.run}: {results.votes} votes, {results.decided} decided, {results.votes - results.decided} undecided",
        "",
    ]
    if results.agreements:
        lines.append("How often the one with the higher objective won (95 % interval)")
        lines.append(f"  {'':<36}{'of the two images':<26}of the two candidates")
        lines += [
            f"  {row.weights:<36}{percent(row.images):<26}{percent(row.candidates)}" for row in results.agreements
        ]
        lines.append("")
    if results.weights:
        lines.append("Weights of the objective (95 % interval over votes)")
        lines.append(f"  {'':<12}{'configured':>10}{'by the votes':>15}   interval")
        lines += [
            f"  {row.name:<12}{row.configured:>10.2f}{row.fitted.value:>15.2f}"
            f"   {row.fitted.lower:.2f} to {row.fitted.upper:.2f}"
            for row in results.weights
        ]
    lines += [results.verdict, ""]
    if results.settings:
        lines += ["For the next search:", "  " + " ".join(f"--set {setting}" for setting in results.settings), ""]
    lines.append("Candidates as people rank them (strength: log odds against the average, with standard error)")
    lines.append(f"  {'trial':<8}{'step':>6}{'strength':>17}{'won':>6}{'lost':>6}{'tied':>6}{'objective':>11}")
    lines += [
        f"  {row.name.trial:<8}{row.name.step:>6}{row.strength:>9.2f} +- {row.standard_error:.2f}"
        f"{row.won:>6}{row.lost:>6}{row.tied:>6}{row.objective:>11.3f}"
        for row in results.ranking
    ]
    return "\n".join(lines)


def percent(estimate: Estimate) -> str:
    """A share and its interval in whole percent."""
    return f"{100 * estimate.value:.0f} % ({100 * estimate.lower:.0f} to {100 * estimate.upper:.0f})"


def _verdict(decided: int, weights: Sequence[Weight], gain: Estimate | None) -> str:
    if decided < ENOUGH:
        return (
            f"Too few votes to say anything about the weights: {decided} decided of at least {ENOUGH}. "
            f"{ENOUGH - decided} more will do."
        )
    if not weights:
        seen = "both foresee the same votes" if gain is None else f"they win {percent(gain)} of the votes that differ"
        return f"On votes held out, fitted weights do not beat the configured ones: {seen}. Keep yours."
    assert gain is not None
    return (
        "On votes held out, the fitted weights beat the configured ones: of the votes that only one of the two "
        f"foresees they foresee {percent(gain)}."
    )


def _names(vote: Vote) -> tuple[CheckpointName, CheckpointName]:
    return vote.pair.left, vote.pair.right


def _image(run: Run, vote: Vote, name: CheckpointName) -> Vector:
    return run.checkpoints[name].measures[vote.pair.prompt_index, vote.pair.seed]


def _check(run: Run, votes: Sequence[Vote], path: Path) -> None:
    for vote in votes:
        image = (vote.pair.prompt_index, vote.pair.seed)
        for name in _names(vote):
            checkpoint = run.checkpoints.get(name)
            if checkpoint is None or image not in checkpoint.measures:
                raise VotesError(
                    f"{path}: line {vote.line} is about prompt {image[0]}, seed {image[1]} of {name}, which "
                    f"{run.folder} does not hold; votes belong to the run that they were cast on"
                )


def _ranking(run: Run, votes: Sequence[Vote]) -> tuple[RankedCandidate, ...]:
    names = sorted({name for vote in votes for name in _names(vote)})
    number = {name: index for index, name in enumerate(names)}
    strengths = fit_strengths(
        [(number[vote.pair.left], number[vote.pair.right]) for vote in votes],
        [vote.outcome for vote in votes],
        len(names),
    )
    ranking = []
    for index, name in enumerate(names):
        won = sum(
            (vote.answer is Answer.LEFT and vote.pair.left == name)
            or (vote.answer is Answer.RIGHT and vote.pair.right == name)
            for vote in votes
        )
        tied = sum(vote.answer is Answer.TIE and name in _names(vote) for vote in votes)
        ranking.append(
            RankedCandidate(
                name=name,
                strength=float(strengths.values[index]),
                standard_error=float(strengths.standard_errors[index]),
                won=won,
                lost=sum(name in _names(vote) for vote in votes) - won - tied,
                tied=tied,
                objective=run.checkpoints[name].objective,
            )
        )
    return tuple(sorted(ranking, key=lambda candidate: -candidate.strength))
