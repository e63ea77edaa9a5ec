"""A whole search in mode `pareto`, one of whose workers is killed in the middle of a trial."""

from dataclasses import asdict

import optuna
import psutil
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors import safe_open

from evaluation.config import ObjectiveConfig
from evaluation.pareto import Point, choose
from tests.support.pareto_front import front_of
from tests.support.short_search import TRIALS, SearchRun, finish, start, write_search
from tests.support.staged_search import KILLED


@pytest.fixture(scope="module")
def pareto(tmp_path_factory: pytest.TempPathFactory) -> tuple[SearchRun, int]:
    """The search, and the number of the process that was killed."""
    home = tmp_path_factory.mktemp("pareto")
    options = (str(write_search(home)), "--set", "evaluation.objective.mode=pareto")
    ended = finish(start(home, *options, scene="killed"), home)
    assert ended.code == 0, ended.output
    return ended, int((home / KILLED).read_text())


def test_a_killed_training_worker_costs_nothing_but_time(pareto: tuple[SearchRun, int]) -> None:
    """SIGKILL of a seat's worker in the middle of a trial: every trial is accounted for and there is a champion."""
    run, killed = pareto
    assert not psutil.pid_exists(killed)
    result = run.result
    assert [trial["id"] for trial in result["trials"]] == ["000", "001", "002"]
    assert {trial["state"] for trial in result["trials"]} <= {"finished", "stopped"}
    assert result["status"] == "champion"
    for trial in result["trials"]:
        steps = [checkpoint["step"] for checkpoint in trial["checkpoints"]]
        assert steps == sorted(set(steps)), "no checkpoint twice"
    children = run.client.search_runs(
        [result["mlflow"]["experiment_id"]], f"tags.`mlflow.parentRunId` = '{result['mlflow']['run_id']}'"
    )
    assert len(children) == TRIALS


def test_the_front_in_the_result_is_that_of_all_checkpoints(pareto: tuple[SearchRun, int]) -> None:
    run, _ = pareto
    expected = front_of(run.checkpoints())
    assert run.result["front"] == expected
    assert expected


def test_in_mode_pareto_the_rule_picks_who_enters_the_final_and_who_wins_it(pareto: tuple[SearchRun, int]) -> None:
    run, _ = pareto
    result, config = run.result, ObjectiveConfig(mode="pareto")
    assert result["objective"] == {**asdict(config), "protocol": "likeness"}
    scored = [each for each in run.checkpoints() if each["faceless_rate"] < 1]
    chosen = scored[choose([Point.of(each) for each in scored], config).index]
    entered = [(finalist["trial"], finalist["step"]) for finalist in result["finalists"]]
    assert (chosen["trial"], chosen["step"]) in entered
    assert 2 <= len(entered) <= 3, "two by their rank, and the first trial"
    assert "000" in [trial for trial, _ in entered]
    finals = [
        Point(**{name: finalist["across_seeds"][name]["mean"] for name in ("likeness", "fidelity", "faceless_rate")})
        for finalist in result["finalists"]
    ]
    choice = choose(finals, config)
    assert (choice.index, choice.reason) == (0, result["champion"]["choice"])
    assert (result["champion"]["trial"], result["champion"]["step"]) == entered[0]
    assert f"choice: {choice.reason}" in run.output
    with safe_open(run.folder / "champion" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == str(entered[0][1]), "not the checkpoint with the trial's best weighted sum"


def test_the_journal_of_mode_pareto_holds_every_checkpoint(pareto: tuple[SearchRun, int]) -> None:
    run, _ = pareto
    storage = JournalStorage(JournalFileBackend(str(run.folder / "journal.log")))
    study = optuna.load_study(study_name="anna", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    told = {"finished": "COMPLETE", "stopped": "PRUNED"}
    for frozen, trial in zip(study.trials, run.result["trials"], strict=True):
        assert frozen.params == trial["params"]
        assert frozen.state.name == told[trial["state"]]
        mine = {each["step"]: each for each in run.checkpoints(trial["id"])}
        noted = {name: value for name, value in frozen.user_attrs.items() if name.startswith("step-")}
        names = ("likeness", "fidelity", "faceless_rate", "objective", "search_value", "excess")
        assert noted == {f"step-{step}": {name: each[name] for name in names} for step, each in mine.items()}
        one = mine[frozen.user_attrs["told_step"]]
        assert frozen.constraints == {"faceless_rate": one["faceless_rate"] - 0.1, "limits": one["excess"]}
        assert frozen.values == ([one["likeness"], one["fidelity"]] if trial["state"] == "finished" else None)
