"""What the votes say, on a run whose measures are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.config import ObjectiveConfig
from search.voting.candidates import Run, read_run
from search.voting.next_pair import next_pair
from search.voting.results import ENOUGH, as_text, judge_votes
from search.voting.votes import Answer, CheckpointName, ImagePair, Vote, VotesError

ZERO, ONE, TWO = (CheckpointName(trial=f"crimson-{number}", step=77077) for number in range(3))


@pytest.fixture
def run(run_folder: Path) -> Run:
    return read_run(run_folder)


def vote(left: CheckpointName, right: CheckpointName, image: tuple[int, int], answer: Answer, line: int = 1) -> Vote:
    return Vote(
        pair=ImagePair(left=left, right=right, prompt_index=image[0], seed=image[1]),
        answer=answer,
        id=str(line),
        line=line,
    )


def votes_of(run: Run, weights: tuple[float, float, float], count: int, *, noise: float, seed: int = 0) -> list[Vote]:
    """Somebody who weighs likeness, fidelity and faces so."""
    generator = np.random.default_rng(seed)
    names = [candidate.name for candidate in run.candidates]
    votes: list[Vote] = []
    for line in range(1, count + 1):
        pair = next_pair(names, list(run.candidates[0].measures), votes, seed=0)
        left, right = (run.checkpoints[name].measures[pair.prompt_index, pair.seed] for name in (pair.left, pair.right))
        lead = float((left - right) @ np.array(weights)) + noise * generator.logistic()
        answer = Answer.LEFT if lead > 0 else Answer.RIGHT
        votes.append(Vote(pair=pair, answer=answer, id=str(line), line=line))
    return votes


def test_agreement_by_hand(run: Run) -> None:
    """Objectives 0.5 l + 0.3 f - 0.2 n of the images under prompt 0, seed 1: 0.69, 0.576, 0.362; with prompt 1, seed 1
    the third has no face: 0.106. Over all images: crimson-0 before crimson-1 before crimson-2."""
    votes = [
        vote(ZERO, ONE, (0, 1), Answer.LEFT),  # as the images and the candidates say
        vote(ONE, TWO, (0, 1), Answer.RIGHT),  # against both
        vote(TWO, ZERO, (1, 1), Answer.RIGHT),  # as both say
        vote(ZERO, TWO, (1, 1), Answer.TIE),  # undecided
    ]
    results = judge_votes(run, votes, Path("votes.jsonl"))
    assert (results.votes, results.decided) == (4, 3)
    configured, held_out = results.agreements
    assert configured.weights == "configured weights"
    assert configured.images.value == configured.candidates.value == pytest.approx(2 / 3)
    assert held_out.weights == "fitted weights, on votes held out"


def test_image_and_candidate_may_disagree(run: Run) -> None:
    """Under prompt 1, seed 2, likeness 0.8 against 0.4 and fidelity 0.76 against 0.98: objectives 0.628 and 0.494. By
    their candidates' means crimson-0 leads as well; a search that weighs fidelity alone says the opposite."""
    votes = [vote(ZERO, ONE, (1, 2), Answer.LEFT)]
    assert judge_votes(run, votes, Path()).agreements[0].images.value == 1.0
    weighed = run.config.evaluation.model_copy(update={"objective": ObjectiveConfig(likeness=0.01, fidelity=1.0)})
    other = Run(
        folder=run.folder, config=run.config.model_copy(update={"evaluation": weighed}), checkpoints=run.checkpoints
    )
    assert judge_votes(other, votes, Path()).agreements[0].images.value == 0.0


def test_the_ranking_counts_and_ranks(run: Run) -> None:
    votes = [
        vote(ZERO, ONE, (0, 1), Answer.RIGHT),
        vote(ONE, TWO, (0, 1), Answer.LEFT),
        vote(TWO, ZERO, (0, 1), Answer.TIE),
        vote(ZERO, ONE, (0, 2), Answer.RIGHT),
    ]
    results = judge_votes(run, votes, Path())
    assert [(row.name, row.won, row.lost, row.tied) for row in results.ranking] == [
        (ONE, 3, 0, 0),
        (TWO, 0, 1, 1),
        (ZERO, 0, 2, 1),
    ]
    assert results.ranking[2].objective == pytest.approx(run.checkpoints[ZERO].objective)
    assert sum(row.strength for row in results.ranking) == pytest.approx(0.0, abs=1e-4)


def test_too_few_votes_tell_no_weights(run: Run) -> None:
    results = judge_votes(run, votes_of(run, (0.5, 0.4, 0.5), ENOUGH - 1, noise=0.01), Path())
    assert (results.weights, results.settings) == ((), ())
    assert results.verdict == (
        "Too few votes to say anything about the weights: 29 decided of at least 30. 1 more will do."
    )
    assert "--set" not in as_text(results)


def test_undecided_votes_only(run: Run) -> None:
    results = judge_votes(run, [vote(ZERO, ONE, (0, 1), Answer.TIE)] * 40, Path())
    assert (results.decided, results.agreements, results.weights) == (0, (), ())
    assert "How often" not in as_text(results)


def test_votes_that_follow_nothing_tell_no_weights(run: Run) -> None:
    results = judge_votes(run, votes_of(run, (0.0, 0.0, 0.0), 60, noise=1.0), Path())
    assert "fitted weights do not beat the configured ones" in results.verdict
    assert results.verdict.endswith("Keep yours.")
    assert results.settings == ()


def test_a_voter_of_other_taste_is_heard_and_the_settings_are_legal(run: Run) -> None:
    results = judge_votes(run, votes_of(run, (0.05, 0.9, 0.05), 120, noise=0.03), Path())
    configured, held_out = results.agreements
    assert configured.images.upper < 0.5 < held_out.images.lower
    assert [row.name for row in results.weights] == ["likeness", "fidelity", "faceless"]
    assert results.weights[1].fitted.lower > 0.3
    assert results.verdict.startswith(
        "On votes held out, the fitted weights beat the configured ones: of the votes that"
    )
    settings = dict(setting.split("=") for setting in results.settings)
    assert list(settings) == [f"evaluation.objective.{name}" for name in ("likeness", "fidelity", "faceless")]
    values: dict[str, Any] = {name.rpartition(".")[2]: float(value) for name, value in settings.items()}
    assert max(values.values()) == pytest.approx(1.0)
    assert ObjectiveConfig(**values).fidelity > 0.5
    text = as_text(results)
    assert all(f"--set {setting}" in text for setting in results.settings)


def test_a_voter_of_the_same_taste_is_told_to_keep_the_weights(run: Run) -> None:
    results = judge_votes(run, votes_of(run, (0.5, 0.4, 0.5), 120, noise=0.05), Path())
    assert results.verdict.startswith("On votes held out, fitted weights do not beat the configured ones: ")
    assert (results.weights, results.settings) == ((), ())


def test_the_same_votes_give_the_same_text(run: Run) -> None:
    votes = votes_of(run, (0.5, 0.4, 0.5), 40, noise=0.05)
    assert as_text(judge_votes(run, votes, Path())) == as_text(judge_votes(run, votes, Path()))


def test_a_vote_on_a_checkpoint_that_was_overtaken_still_counts(run_folder: Path) -> None:
    later = run_folder / "trials" / "crimson-0" / "step-88088"
    earlier = run_folder / "trials" / "crimson-0" / "step-77077"
    earlier.rename(later)
    values = json.loads((later / "report.json").read_text())
    earlier.mkdir()
    values["metrics"]["objective"] -= 0.1
    (earlier / "report.json").write_text(json.dumps(values))
    run = read_run(run_folder)
    assert run.candidates[0].name.step == 88088
    assert judge_votes(run, [vote(ZERO, ONE, (0, 1), Answer.LEFT)], Path()).ranking[0].name == ZERO


@pytest.mark.parametrize(
    ("stranger", "image"), [(CheckpointName(trial="../../etc", step=1), (0, 1)), (ONE, (0, 99)), (ONE, (7, 1))]
)
def test_votes_on_what_the_run_does_not_hold_are_named(
    run: Run, stranger: CheckpointName, image: tuple[int, int]
) -> None:
    with pytest.raises(VotesError, match=rf"votes\.jsonl: line 5 is about prompt {image[0]}, seed {image[1]} of"):
        judge_votes(run, [vote(stranger, ZERO, image, Answer.LEFT, line=5)], Path("votes.jsonl"))
