"""A whole search that is interrupted four times and resumed each time: how it leaves, and what it ends as."""

import os
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import optuna
import psutil
import pytest
import typer
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from typer.testing import CliRunner, Result

from search import run as search_run
from tests.support.command import CEILING, Command
from tests.support.short_search import TRIALS, SearchRun, finish, start, training_workers, write_search
from tests.support.staged_search import STUCK
from trainer.job.heap import heap_environment

RESUME = ("--resume", "runs/anna")
ONE_SEAT = ("--set", "seats.count=1")
TWO_SEATS = ("--set", "seats.count=2")


@dataclass(frozen=True, kw_only=True)
class Parts:
    """A search in five parts: ended by SIGTERM, the death of Ray's head, Ctrl-C twice, SIGKILL, and by itself."""

    first: SearchRun
    first_result: dict[str, Any]
    first_page: str
    """Its report."""
    listening: list[str]
    """Where the first part listened to other machines."""
    headless: SearchRun
    second: SearchRun
    environments: list[str]
    """The training workers' in the part that was killed, with colons between variables."""
    orphans: list[psutil.Process]
    """Processes that were left after all parts but the last."""
    last: SearchRun


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, beyond_loopback: Callable[[int], list[str]]) -> Parts:
    home = tmp_path_factory.mktemp("parts")
    started: list[psutil.Process] = []

    with start(home, str(write_search(home)), *TWO_SEATS, scene="gated") as search:
        search.until_line(r"trial \d{3}  step +20/")
        listening = beyond_loopback(search.process.pid)
        assert search.descendants()
        started += search.descendants()
        search.process.send_signal(signal.SIGTERM)
        first = finish(search, home)
    first_result, first_page = first.result, (first.folder / "report.html").read_text("utf-8")

    with start(home, *RESUME, *ONE_SEAT, scene="gated") as search:
        started += (children := until_workers(search))
        (head,) = [child for child in children if child.name() == "gcs_server"]
        head.kill()
        headless = finish(search, home)

    with start(home, *RESUME, *ONE_SEAT, scene="stuck") as search:
        search.until((home / STUCK).exists, "a training that stands still")
        started += search.descendants()
        search.process.send_signal(signal.SIGINT)
        search.until_line("once more ends everything at once")
        search.process.send_signal(signal.SIGINT)
        second = finish(search, home)

    with start(home, *RESUME, *ONE_SEAT, scene="gated") as search:
        started += (children := until_workers(search))
        environments = [environment(worker) for worker in training_workers(children)]
        search.process.kill()
        finish(search, home)

    # What a kill may leave behind.
    with (first.folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":7,"worker_id":"')
    (first.folder / "trials" / "000" / "step-40.0123.tmp").mkdir(parents=True)
    for state in first.folder.glob("trials/*/state/step-*/optimizer.safetensors"):
        state.write_bytes(state.read_bytes()[:1000])
    last = finish(start(home, *RESUME, *TWO_SEATS), home)
    _, orphans = psutil.wait_procs(started, timeout=CEILING)  # Ray's agents look for a dead head for a minute
    return Parts(
        first=first,
        first_result=first_result,
        first_page=first_page,
        listening=listening,
        headless=headless,
        second=second,
        environments=environments,
        orphans=orphans,
        last=last,
    )


def until_workers(command: Command) -> list[psutil.Process]:
    """All processes of a search, once its training workers are among them."""
    command.until(lambda: training_workers(command.descendants()), "a training worker")
    return command.descendants()


def environment(process: psutil.Process) -> str:
    """Some glibc have put the ends of strings for the colons in what they were given themselves."""
    return ":".join(f"{name}={value}" for name, value in process.environ().items())


def test_sigterm_ends_the_search_in_order_and_says_how_to_go_on(parts: Parts) -> None:
    first, result = parts.first, parts.first_result
    assert first.code == 130, first.output
    assert "Traceback" not in first.output
    assert first.output.splitlines()[-1] == "interrupted; go on with: python -m search.run --resume runs/anna"
    assert result["status"] == "interrupted"
    assert result["champion"] is None
    assert any(trial["checkpoints"] for trial in result["trials"]), "what was scored is told"
    running = [trial for trial in result["trials"] if trial["state"] == "running"]
    assert running
    assert all(trial["reason"].startswith("interrupted by SIGTERM; last scored at step ") for trial in running)
    assert "There is no champion: interrupted." in parts.first_page


def test_a_search_whose_head_is_killed_says_so_and_how_to_go_on(parts: Parts) -> None:
    assert parts.headless.code == 130, parts.headless.output
    lines = parts.headless.output.splitlines()
    *_, told, go_on = [line for line in lines if not re.match(r"\[\d", line)]  # Ray's core may complain meanwhile
    assert re.fullmatch(
        r"the head of the Ray cluster at 127\.0\.0\.1:\d+ has not answered for 5 s: it was killed, or the network is "
        "gone; what was written is kept",
        told,
    )
    assert go_on == "interrupted; go on with: python -m search.run --resume runs/anna"


def test_a_search_listens_to_this_machine_only(parts: Parts) -> None:
    assert parts.listening == []


def test_no_process_outlives_an_interrupted_search(parts: Parts) -> None:
    assert parts.second.code == 130, parts.second.output
    assert parts.second.output.splitlines()[-1].endswith("once more ends everything at once"), "and nothing after it"
    assert parts.orphans == []


def test_training_workers_keep_the_memory_that_they_have_freed(parts: Parts) -> None:
    told = ":".join(f"{name}={value}" for name, value in heap_environment().items())
    assert parts.environments
    assert all(told in environment for environment in parts.environments)


def test_a_resumed_search_ends_as_an_unbroken_one_would(parts: Parts) -> None:
    last = parts.last
    assert last.code == 0, last.output
    result = last.result
    assert [trial["id"] for trial in result["trials"]] == ["000", "001", "002"]
    assert {trial["state"] for trial in result["trials"]} <= {"finished", "stopped"}
    for trial in result["trials"]:
        steps = [checkpoint["step"] for checkpoint in trial["checkpoints"]]
        assert steps == sorted(set(steps)), "no checkpoint twice"
    before = {trial["id"]: trial for trial in parts.first_result["trials"]}
    for name, trial in before.items():
        after = next(other for other in result["trials"] if other["id"] == name)
        assert after["params"] == trial["params"], "the same trial under the same number"
        assert after["checkpoints"][: len(trial["checkpoints"])] == trial["checkpoints"]
    assert result["base"]["search"] == parts.first_result["base"]["search"], "measured once"
    assert result["seconds"]["total"] > parts.first_result["seconds"]["total"]
    folders = {path.name for path in last.folder.glob("trials/*/*")}
    assert folders <= {"step-20", "step-40", "step-60"}, "nothing half-written, nothing to go on from"


def test_the_journal_of_a_resumed_search_holds_each_trial_once(parts: Parts) -> None:
    storage = JournalStorage(JournalFileBackend(str(parts.last.folder / "journal.log")))
    trials = optuna.load_study(study_name="anna", storage=storage).trials
    told = {"finished": "COMPLETE", "stopped": "PRUNED"}
    assert [trial.state.name for trial in trials] == [told[trial["state"]] for trial in parts.last.result["trials"]]


def test_mlflow_keeps_one_run_a_trial_however_often_the_search_was_resumed(parts: Parts) -> None:
    result, client = parts.last.result, parts.last.client
    assert result["mlflow"] == parts.first_result["mlflow"]
    runs = client.search_runs([result["mlflow"]["experiment_id"]])
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert sorted(run.data.tags["trial"] for run in children) == ["000", "001", "002"]
    assert len(runs) == 1 + TRIALS
    assert {run.info.status for run in runs} == {"FINISHED"}
    told = {trial["id"]: trial for trial in result["trials"]}
    for run in children:
        trial = told[run.data.tags["trial"]]
        assert run.data.tags["state"] == trial["state"]
        steps = [point.step for point in client.get_metric_history(run.info.run_id, "objective")]
        assert sorted(steps) == [point["step"] for point in trial["checkpoints"]], "each checkpoint is logged once"


def test_a_search_that_has_ended_says_so_and_a_name_in_use_is_refused(
    parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(parts.last.home)
    before = (parts.last.folder / "result.json").read_bytes()
    again = invoke(*RESUME)
    assert again.exit_code == 0
    assert "has ended already: champion; ask for more with --trials" in again.output
    refused = invoke("search.yaml")
    assert refused.exit_code == 2
    assert "give another --name, or go on with it: --resume" in refused.output
    fewer = invoke(*RESUME, "--trials", "2")
    assert (fewer.exit_code, "has begun 3; ask for as many or more" in fewer.output) == (2, True)
    assert (parts.last.folder / "result.json").read_bytes() == before


def invoke(*options: str) -> Result:
    """The command within this process: it ends before it starts anything."""
    application = typer.Typer(add_completion=False)
    application.command()(search_run.main)
    with patch.dict(os.environ):
        return CliRunner().invoke(application, options)
