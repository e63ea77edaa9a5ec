"""The front of a search: who is a candidate, and who enters the final."""

from pathlib import Path

import pytest

from evaluation.config import ObjectiveConfig
from search.storage.trial_record import CheckpointResult, TrialRecord
from search.study.ranking import candidates, entrants, finalists, front_as_result

WEIGHTED, PARETO = ObjectiveConfig(), ObjectiveConfig(mode="pareto")


def report(step: int, likeness: float, fidelity: float, faceless_rate: float = 0.0) -> CheckpointResult:
    objective = 0.5 * likeness + 0.3 * fidelity - 0.2 * faceless_rate
    unfit = ("it draws no face",) if faceless_rate == 1.0 else ()
    metrics = {
        "likeness": likeness,
        "fidelity": fidelity,
        "faceless_rate": faceless_rate,
        "objective": objective,
        "search_value": objective - bool(unfit),
        "excess": float(bool(unfit)),
    }
    return CheckpointResult(step=step, metrics=metrics, rows=(), folder=Path(f"step-{step}"), unfit=unfit)


def record(name: str, *reports: CheckpointResult) -> TrialRecord:
    made = TrialRecord(id=name, params={}, steps=300)
    for each in reports:
        assert made.add(each)
    return made


RECORDS = [
    record("000", report(100, 0.0, 1.0), report(200, 0.4, 0.9)),
    record("001", report(100, 0.5, 0.95), report(200, 0.8, 0.75), report(300, 1.0, 0.5)),
    record("002", report(100, 2.0, 2.0, 0.2), report(200, 2.0, 2.0, 1.0)),
    record("003"),
    record("004", report(100, 0.45, 0.9), report(200, 0.75, 0.76)),
]


def named(pairs: list[tuple[TrialRecord, CheckpointResult]]) -> list[tuple[str, int]]:
    return [(record.id, report.step) for record, report in pairs]


def test_every_checkpoint_that_is_fit_to_win_is_a_candidate() -> None:
    assert named(candidates(RECORDS)) == [
        ("000", 100),
        ("000", 200),
        ("001", 100),
        ("001", 200),
        ("001", 300),
        ("002", 100),
        ("004", 100),
        ("004", 200),
    ]


@pytest.mark.parametrize("config", [WEIGHTED, PARETO])
def test_the_front_in_the_result_is_over_all_checkpoints_in_either_mode(config: ObjectiveConfig) -> None:
    assert front_as_result(RECORDS, config) == [
        {"trial": "000", "step": 100, "likeness": 0.0, "fidelity": 1.0, "faceless_rate": 0.0},
        {"trial": "001", "step": 100, "likeness": 0.5, "fidelity": 0.95, "faceless_rate": 0.0},
        {"trial": "004", "step": 200, "likeness": 0.75, "fidelity": 0.76, "faceless_rate": 0.0},
        {"trial": "001", "step": 200, "likeness": 0.8, "fidelity": 0.75, "faceless_rate": 0.0},
        {"trial": "001", "step": 300, "likeness": 1.0, "fidelity": 0.5, "faceless_rate": 0.0},
    ]
    assert front_as_result([record("003"), record("005", report(9, 1.0, 1.0, 1.0))], config) == []


def test_by_the_knee_the_final_gets_its_neighbours_then_those_behind_the_front() -> None:
    # The knee is 001 at 100, and 001 sends nothing else; its neighbours are 004 at 200 and 000 at 100. 002 breaks the
    # constraint and comes last.
    assert named(entrants(RECORDS, PARETO, 9)) == [("001", 100), ("004", 200), ("000", 100), ("002", 100)]
    assert named(entrants(RECORDS, PARETO, 2)) == [("001", 100), ("004", 200)]
    assert entrants([record("003")], PARETO, 2) == []
    assert entrants([], PARETO, 2) == []


def test_by_a_minimum_the_final_gets_the_most_faithful_that_has_it_and_its_neighbours() -> None:
    config = ObjectiveConfig(mode="pareto", minimum_likeness=0.78)
    assert named(entrants(RECORDS, config, 3)) == [("001", 200), ("004", 200), ("000", 100)]


def test_behind_a_single_best_point_the_next_front_enters() -> None:
    best = [
        record("000", report(100, 0.1, 0.5)),
        record("001", report(100, 0.9, 0.9)),
        record("002", report(9, 0.8, 0.8)),
    ]
    assert named(entrants(best, PARETO, 2)) == [("001", 100), ("002", 9)]


def test_by_weights_the_trials_enter_by_their_best_checkpoint() -> None:
    # Objectives: 000 0.47 at 200; 001 0.625 at 200 and 0.65 at 300; 004 0.603; 002 1.56, and none at 200.
    assert named(entrants(RECORDS, WEIGHTED, 3)) == [("002", 100), ("001", 300), ("004", 200)]


@pytest.mark.parametrize(
    ("config", "steps"),
    [
        (WEIGHTED, [200, 300, 100, None, 200]),
        (PARETO, [200, 200, 100, None, 200]),
        (ObjectiveConfig(mode="pareto", minimum_likeness=0.4), [200, 100, 100, None, 100]),
    ],
)
def test_a_trial_that_is_compared_with_enters_by_the_rule_among_its_own(
    config: ObjectiveConfig, steps: list[int | None]
) -> None:
    entering = [entrants([each], config, 1) for each in RECORDS]
    assert [each[0][1].step if each else None for each in entering] == steps


def test_the_first_trial_enters_besides_whatever_its_rank_unless_it_has_no_candidate() -> None:
    assert named(finalists(RECORDS, WEIGHTED, 1)) == [("002", 100), ("000", 200)]
    assert named(finalists(RECORDS, PARETO, 2)) == [("001", 100), ("004", 200), ("000", 200)]
    assert named(finalists(RECORDS, PARETO, 3)) == [("001", 100), ("004", 200), ("000", 100)], "it is there already"
    assert named(finalists([record("003"), *RECORDS], WEIGHTED, 1)) == [("002", 100)]
    assert finalists([record("003")], WEIGHTED, 1) == []
    assert finalists([], WEIGHTED, 1) == []
