"""Whole searches with real parts, through the command a user types.

One as it should go, by weights; one in mode `pareto` whose worker is killed; one interrupted twice and resumed.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import mlflow
import mlflow.diffusers
import numpy as np
import optuna
import pandas
import psutil
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from mlflow import MlflowClient
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from safetensors import safe_open

from evaluation.config import ObjectiveConfig
from evaluation.pareto import Point, choose
from trainer.job.heap import heap_environment

REPOSITORY = Path(__file__).resolve().parents[2]
DEMO = REPOSITORY / "demo"
TRIALS = 3


@dataclass(frozen=True)
class Run:
    """A search that has ended."""

    home: Path
    code: int
    output: str

    @property
    def folder(self) -> Path:
        return self.home / "runs" / "anna"

    @property
    def result(self) -> dict[str, Any]:
        values: dict[str, Any] = json.loads((self.folder / "result.json").read_text("utf-8"))
        return values

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(self.result["mlflow"]["tracking_uri"])


def configuration(home: Path) -> Path:
    """The demo's search, cut down to seconds."""
    photo = "a photo of {trigger} man"
    (home / "validation.txt").write_text(f"{photo}, happy, green background\n{photo}\n")
    (home / "final.txt").write_text(f"{photo}, sad, red background\n{photo}, smug\n")
    content = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    content |= {"name": "anna", "model": str(DEMO / "base"), "trials": TRIALS}
    content["photos"]["folder"] = str(DEMO / "photos")
    content["space"]["steps"] = {"low": 20, "high": 60, "step": 20}
    content["space"]["learning_rate"] = {"low": 1e-3, "high": 4e-3, "log": True}
    content["first_trials"] = [{"learning_rate": 2e-3, "rank": 8, "alpha": 16, "targets": "attention", "steps": 40}]
    content["training"] |= {"batch_size": 2, "lr_warmup_steps": 5}
    content["stopping"] = {"grace_period": 20}
    content["evaluation"] |= {"prompts": "validation.txt", "seeds": [1, 2], "every": 20, "clip": str(DEMO / "clip")}
    content["evaluation"]["others"] = {"count": 2}
    content["final"] = {"prompts": "final.txt", "seeds": [101, 102], "candidates": 2, "retrain": 1}
    path = home / "search.yaml"
    path.write_text(yaml.safe_dump(content), "utf-8")
    return path


def start(home: Path, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "search.run", str(configuration(home)), *options],
        cwd=home,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )


def finish(process: subprocess.Popen[str], home: Path) -> Run:
    try:
        output, _ = process.communicate(timeout=420)
    except subprocess.TimeoutExpired:
        process.kill()
        output, _ = process.communicate()
        pytest.fail(f"the search hangs; it said:\n{output}")
    return Run(home, process.returncode, output)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    home = tmp_path_factory.mktemp("search")
    ended = finish(start(home), home)
    assert ended.code == 0, ended.output
    return ended


@pytest.fixture(scope="module")
def images(run: Run) -> dict[str, np.ndarray[Any, Any]]:
    """The same prompt and seed, through each way in which a user may load the champion."""
    champion = run.folder / "champion"
    mlflow.set_tracking_uri(run.result["mlflow"]["tracking_uri"])

    def pipeline() -> StableDiffusionPipeline:
        return StableDiffusionPipeline.from_pretrained(DEMO / "base", use_safetensors=True)

    pipelines = {"base": pipeline(), "diffusers": pipeline(), "kohya": pipeline()}
    pipelines["diffusers"].load_lora_weights(champion)
    pipelines["kohya"].load_lora_weights(champion, weight_name="anna.safetensors")
    model = mlflow.diffusers.load_model("models:/anna@champion")
    pipelines["mlflow"] = model.load_pipeline()
    drawn = {}
    for name, loaded in pipelines.items():
        loaded.set_progress_bar_config(disable=True)
        generator = torch.Generator().manual_seed(7)
        result = loaded("a photo of sks man, happy", num_inference_steps=8, generator=generator, output_type="np")
        drawn[name] = result.images[0]
    return drawn


def test_the_run_folder_holds_what_is_promised(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} >= {
        "search.yaml",
        "journal.log",
        "result.json",
        "report.html",
        "images.parquet",
        "champion",
        "plots",
        "trials",
    }
    assert {path.name for path in (run.folder / "champion").iterdir()} == {
        "pytorch_lora_weights.safetensors",
        "anna.safetensors",
        "samples.png",
        "README.md",
    }
    assert not list(run.folder.rglob("*.bin")), "safetensors only"
    for trial in run.result["trials"]:
        steps = {f"step-{checkpoint['step']}" for checkpoint in trial["checkpoints"]}
        folder = run.folder / "trials" / trial["id"]
        assert {path.name for path in folder.iterdir()} == steps, "nothing half-written, nothing to go on from"
        for step in steps:
            assert {path.name for path in (folder / step).iterdir()} == {
                "pytorch_lora_weights.safetensors",
                "report.json",
                "grid.png",
                "others.png",
            }


def test_the_report_is_one_page_with_its_pictures(run: Run) -> None:
    page = (run.folder / "report.html").read_text("utf-8")
    finalists = {one["trial"] for one in run.result["finalists"]}
    checkpoints = sum(1 + len(trial["checkpoints"]) for trial in run.result["trials"] if trial["id"] in finalists)
    scored = [trial for trial in run.result["trials"] if trial["checkpoints"]]
    # Real photos; untuned model and champion; five strengths and none; the finalists' grids; every trial's best.
    assert page.count("data:image/webp;base64,") == 1 + 2 + 6 + checkpoints + 1 + len(scored)
    assert re.findall("https?:", page) == [], "it needs no network"
    for trial in run.result["trials"]:
        assert f"<td>{trial['id']}<td>{trial['state']}" in page


def test_the_champion_at_several_strengths(run: Run) -> None:
    points = run.result["strengths"]["points"]
    assert [point["strength"] for point in points] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    champion, step = run.result["champion"]["trial"], run.result["champion"]["step"]
    for point in points:
        assert point["folder"] == f"final/strengths/{champion}-step-{step}-at-{point['strength']:g}"
        rows = json.loads((run.folder / point["folder"] / "report.json").read_text("utf-8"))["rows"]
        assert [(row["prompt_index"], row["seed"]) for row in rows] == [(0, 101), (1, 101)]
        assert point["metrics"]["clip_score"] == pytest.approx(np.mean([row["clip_score"] for row in rows]))


def test_the_results_shape_is_stable(run: Run) -> None:
    result = run.result
    assert set(result) == {
        "name",
        "status",
        "objective",
        "limits",
        "base",
        "anchors",
        "champion",
        "finalists",
        "front",
        "second_judge",
        "strengths",
        "trials",
        "seconds",
        "cost",
        "mlflow",
    }
    assert (result["name"], result["status"]) == ("anna", "champion")
    assert set(result["champion"]) == {
        "trial",
        "step",
        "params",
        "search",
        "final",
        "retrained",
        "across_seeds",
        "among_finalists",
        "choice",
        "against_first_trial",
        "adapter",
        "model_uri",
    }
    assert set(result["trials"][0]) == {
        "id",
        "state",
        "reason",
        "params",
        "best_step",
        "metrics",
        "unfit",
        "remarks",
        "checkpoints",
        "seconds",
        "training_seconds",
        "scoring_seconds",
        "training_cpu_seconds",
        "scoring_cpu_seconds",
    }
    for trial in result["trials"]:
        assert min(trial["training_cpu_seconds"], trial["scoring_cpu_seconds"]) > 0
        assert trial["training_seconds"] + trial["scoring_seconds"] <= trial["seconds"]
    assert set(result["champion"]["params"]) == {"learning_rate", "rank", "alpha", "targets", "steps"}
    assert set(result["cost"]["budget"]) == {"seconds", "hours", "price", "unit", "limit", "cut_off", "forecast"}
    assert result["cost"]["budget"]["unit"] == "worker hours"
    assert "forecast after 2 trials: " in run.output
    assert set(result["mlflow"]) == {"tracking_uri", "experiment_id", "run_id"}, "MLflow had no failure"
    assert [trial["id"] for trial in result["trials"]] == ["000", "001", "002"]
    assert {trial["state"] for trial in result["trials"]} <= {"finished", "stopped"}
    assert result["trials"][0]["state"] == "finished", "the first trial is never stopped"
    assert result["trials"][0]["params"] == {
        "learning_rate": 2e-3,
        "rank": 8,
        "alpha": 16,
        "targets": "attention",
        "steps": 40,
    }


def test_the_numbers_agree_with_each_other(run: Run) -> None:
    result = run.result
    base, champion = result["base"]["final"], result["champion"]
    assert base["likeness"] == pytest.approx(0.0, abs=1e-9)
    assert base["fidelity"] == pytest.approx(1.0)
    final = champion["final"]
    gap = base["base_distance"] - base["real_distance"]
    if final["faceless_rate"] == 0:
        assert final["likeness"] == pytest.approx((base["base_distance"] - final["face_distance"]) / gap)
    assert final["objective"] == pytest.approx(
        0.5 * final["likeness"]
        + 0.3 * final["fidelity"]
        - 0.2 * final["faceless_rate"]
        - 0.05 * max(final.get("leakage", 0.0), 0.0)
    )
    trial = next(trial for trial in result["trials"] if trial["id"] == champion["trial"])
    assert champion["search"] == trial["metrics"]
    assert max(checkpoint["objective"] for checkpoint in trial["checkpoints"]) == trial["metrics"]["objective"]
    lower, upper = final["intervals"]["objective"]
    assert lower <= final["objective"] <= upper
    across = [finalist["across_seeds"]["objective"]["mean"] for finalist in result["finalists"]]
    assert across == sorted(across, reverse=True)
    for finalist in result["finalists"]:
        runs = [finalist["final"], *(again["metrics"] for again in finalist["retrained"])]
        assert len(runs) == 2
        assert finalist["across_seeds"]["objective"]["mean"] == pytest.approx(np.mean([r["objective"] for r in runs]))
    assert champion["among_finalists"]["leader"] == result["finalists"][0]["trial"]
    assert champion["trial"] in (champion["among_finalists"]["leader"], *champion["among_finalists"]["tied"])
    # 4 images of the person and 2 of others a checkpoint; in the final 4 of others, for both seeds; four strengths.
    checkpoints = sum(len(trial["checkpoints"]) for trial in result["trials"])
    assert result["cost"]["images"] == 6 * (1 + checkpoints) + 8 * (1 + 2 * len(result["finalists"])) + 4 * 2


def test_every_figure_follows_from_the_table_of_images(run: Run) -> None:
    result = run.result
    table = pandas.read_parquet(run.folder / "images.parquet")
    assert len(table) == result["cost"]["images"]
    person = table[table["shows"] == "person"]
    own = person[person["training_seed"].isna()]

    def check(rows: pandas.DataFrame, metrics: dict[str, float]) -> None:
        assert rows["likeness"].mean() == pytest.approx(metrics["likeness"])
        assert rows["fidelity"].mean() == pytest.approx(metrics["fidelity"])
        assert rows["face_distance"].mean() == pytest.approx(metrics["face_distance"])
        assert (~rows["face_found"]).sum() == metrics["faceless"]
        copies = result["anchors"]["validation"]["copy_distance"]
        assert (rows["picture_distance"] < copies).mean() == metrics["memorisation"]

    for trial in result["trials"]:
        best = own[(own["candidate"] == trial["id"]) & (own["step"] == trial["best_step"])]
        check(best[best["prompt_set"] == "validation"], trial["metrics"])
    for finalist in result["finalists"]:
        rows = person[(person["prompt_set"] == "final") & (person["candidate"] == finalist["trial"])]
        check(rows[rows["training_seed"].isna()], finalist["final"])
        for again in finalist["retrained"]:
            check(rows[rows["training_seed"] == again["seed"]], again["metrics"])
    for point in result["strengths"]["points"]:
        if point["strength"] not in (0, 1):
            check(person[person["strength"] == point["strength"]], point["metrics"])
    others = table[(table["shows"] == "others") & (table["candidate"] == "base")]
    for name, anchors in result["anchors"].items():
        rows = others[others["prompt_set"] == name]
        assert rows["face_distance"].mean() == pytest.approx(anchors["other_distance"])
        assert set(rows["prompt"].str.contains("trigger")) == {False}
        photos = json.loads((run.folder / anchors["pairings"]).read_text("utf-8"))
        assert set(table["training_photo"]) <= set(photos["copies"]["training_photos"])
        assert not set(photos["copies"]["training_photos"]) & set(photos["generated"]["reference_photos"])


def test_mlflow_keeps_the_table_of_images(run: Run, tmp_path: Path) -> None:
    kept = run.client.download_artifacts(run.result["mlflow"]["run_id"], "images.parquet", str(tmp_path))
    assert Path(kept).read_bytes() == (run.folder / "images.parquet").read_bytes()


def test_the_second_judge_is_heard_everywhere_and_overrules_nobody(run: Run) -> None:
    result, second = run.result, run.result["second_judge"]
    assert set(second) == {
        *("recognizer", "detector", "summary", "reason", "agrees", "prefers", "lead"),
        *("rank_correlation", "trials", "finalists"),
    }
    assert (second["recognizer"], second["detector"], second["reason"]) == ("Dlib", "opencv", "")
    assert set(second["trials"]) == {"000", "001", "002"}
    assert [finalist["trial"] for finalist in second["finalists"]] == [
        finalist["trial"] for finalist in result["finalists"]
    ]
    for judged, finalist in zip(second["finalists"], result["finalists"], strict=True):
        lower, upper = judged["interval"]
        assert lower <= judged["likeness"] <= upper
        assert judged["objective"] == pytest.approx(
            finalist["final"]["objective"] + 0.5 * (judged["likeness"] - finalist["final"]["likeness"])
        )
    best = max(second["finalists"], key=lambda judged: judged["objective"])
    assert second["prefers"] == best["trial"]
    assert (second["lead"] is None) == (best["trial"] == result["champion"]["trial"])
    assert second["agrees"] == (second["lead"] is None or second["lead"]["lower"] <= 0)
    correlation = second["rank_correlation"]
    assert correlation["trials"] == 3
    assert correlation["kendall"] == pytest.approx(
        kendall([trial["metrics"]["likeness"] for trial in result["trials"]], list(second["trials"].values()))
    )

    assert second["summary"] in run.output
    told = second["summary"].removeprefix("warning: ")
    assert told in (run.folder / "champion" / "README.md").read_text("utf-8").replace("Second", "second")
    assert told in (run.folder / "report.html").read_text("utf-8").replace("Second", "second")
    parent = run.client.get_run(result["mlflow"]["run_id"])
    assert parent.data.metrics["second_judge_kendall"] == pytest.approx(correlation["kendall"])
    assert parent.data.metrics["second_judge_agrees"] == second["agrees"]
    children = run.client.search_runs(
        [result["mlflow"]["experiment_id"]], f"tags.`mlflow.parentRunId` = '{result['mlflow']['run_id']}'"
    )
    likeness = {child.data.tags["trial"]: child.data.metrics["second_likeness"] for child in children}
    assert likeness == pytest.approx(second["trials"])


def kendall(first: list[float], second: list[float]) -> float:
    """Kendall's tau of values without ties, pair by pair."""
    pairs = [(one, other) for one in range(len(first)) for other in range(one)]
    signs = [np.sign(first[one] - first[other]) * np.sign(second[one] - second[other]) for one, other in pairs]
    assert all(signs)
    return float(sum(signs) / len(pairs))


def test_optunas_journal_tells_the_same_story(run: Run) -> None:
    storage = JournalStorage(JournalFileBackend(str(run.folder / "journal.log")))
    study = optuna.load_study(study_name="anna", storage=storage)
    told = {"finished": "COMPLETE", "stopped": "PRUNED"}
    assert [trial.state.name for trial in study.trials] == [told[trial["state"]] for trial in run.result["trials"]]
    for frozen, trial in zip(study.trials, run.result["trials"], strict=True):
        assert frozen.params == trial["params"]
        assert frozen.intermediate_values == {point["step"]: point["objective"] for point in trial["checkpoints"]}


def test_mlflow_keeps_a_parent_and_a_child_for_each_trial(run: Run) -> None:
    client, known = run.client, run.result["mlflow"]
    parent = client.get_run(known["run_id"])
    assert (parent.info.status, parent.data.tags["state"]) == ("FINISHED", "champion")
    plots = ("likeness-fidelity", "parallel-coordinates", "objective", "likeness", "fidelity", "validation_loss")
    assert {file.path for file in client.list_artifacts(known["run_id"], "plots")} == {
        f"plots/{name}.svg" for name in plots
    }, "three trials are too few to tell the importance of settings"
    children = client.search_runs(
        [known["experiment_id"]], f"tags.`mlflow.parentRunId` = '{known['run_id']}'", order_by=["tags.trial"]
    )
    assert [child.data.tags["trial"] for child in children] == ["000", "001", "002"]
    for child, trial in zip(children, run.result["trials"], strict=True):
        assert child.info.status == "FINISHED"
        assert child.data.tags["state"] == trial["state"]
        assert {name: str(value) for name, value in trial["params"].items()} == child.data.params
        history = client.get_metric_history(child.info.run_id, "objective")
        assert {point.step: point.value for point in history} == {
            point["step"]: pytest.approx(point["objective"]) for point in trial["checkpoints"]
        }
        assert child.data.metrics["best_step"] == trial["best_step"]
        artifacts = {file.path for file in client.list_artifacts(child.info.run_id)}
        assert artifacts == {"adapter", "images"}
        grids = [file.path for file in client.list_artifacts(child.info.run_id, "images") if file.path.endswith(".png")]
        assert len(grids) == len(trial["checkpoints"]), "one sample grid a step"


def test_the_registered_champion_is_this_runs(run: Run) -> None:
    version = run.client.get_model_version_by_alias("anna", "champion")
    assert version.run_id == run.result["mlflow"]["run_id"]
    assert run.result["champion"]["model_uri"] == f"models:/anna/{version.version}"


@pytest.mark.parametrize("other", ["mlflow", "kohya"])
def test_every_way_to_load_the_champion_gives_the_same_image(
    other: str, images: dict[str, np.ndarray[Any, Any]]
) -> None:
    difference = float(np.abs(images["diffusers"] - images[other]).max())
    effect = float(np.abs(images["diffusers"] - images["base"]).max())
    print(f"{other}: largest pixel difference {difference:.2e}; the adapter's own effect {effect:.2f} (pixels 0 ... 1)")
    assert effect > 0.02, "the adapter must change the image, or the comparison proves nothing"
    assert difference < 1e-3


def test_the_card_tells_how_to_use_and_make_it_again(run: Run) -> None:
    card = (run.folder / "champion" / "README.md").read_text("utf-8")
    for words in ("load_lora_weights", "sks", "SHA-256", "Consent", f"Trial {run.result['champion']['trial']}"):
        assert words in card
    with safe_open(run.folder / "champion" / "pytorch_lora_weights.safetensors", framework="pt") as file:
        assert file.metadata()["step"] == str(run.result["champion"]["step"])


@pytest.fixture(scope="module")
def pareto(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, int]:
    """A search in mode `pareto`, and the number of the training worker that was killed in the middle of a trial."""
    home = tmp_path_factory.mktemp("pareto")
    process = start(home, "--set", "evaluation.objective.mode=pareto")
    killed = kill_a_worker(process, home)
    ended = finish(process, home)
    assert ended.code == 0, ended.output
    return ended, killed


def test_a_killed_training_worker_costs_nothing_but_time(pareto: tuple[Run, int]) -> None:
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


def test_the_front_in_the_result_is_that_of_all_checkpoints(pareto: tuple[Run, int]) -> None:
    run, _ = pareto
    expected = front_of(checkpoints(run))
    assert run.result["front"] == expected
    assert expected


def test_the_front_is_in_the_result_by_weights_too(run: Run) -> None:
    assert run.result["front"] == front_of(checkpoints(run))


def test_in_mode_pareto_the_rule_picks_who_enters_the_final_and_who_wins_it(pareto: tuple[Run, int]) -> None:
    run, _ = pareto
    result, config = run.result, ObjectiveConfig(mode="pareto")
    assert result["objective"] == {**asdict(config), "protocol": "likeness"}
    scored = [each for each in checkpoints(run) if each["faceless_rate"] < 1]
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


def test_the_journal_of_mode_pareto_holds_every_checkpoint(pareto: tuple[Run, int]) -> None:
    run, _ = pareto
    storage = JournalStorage(JournalFileBackend(str(run.folder / "journal.log")))
    study = optuna.load_study(study_name="anna", storage=storage)
    assert [direction.name for direction in study.directions] == ["MAXIMIZE", "MAXIMIZE"]
    told = {"finished": "COMPLETE", "stopped": "PRUNED"}
    for frozen, trial in zip(study.trials, run.result["trials"], strict=True):
        assert frozen.params == trial["params"]
        assert frozen.state.name == told[trial["state"]]
        mine = {each["step"]: each for each in checkpoints(run, trial["id"])}
        noted = {name: value for name, value in frozen.user_attrs.items() if name.startswith("step-")}
        names = ("likeness", "fidelity", "faceless_rate", "objective", "search_value")
        assert noted == {f"step-{step}": {name: each[name] for name in names} for step, each in mine.items()}
        one = mine[frozen.user_attrs["told_step"]]
        limits = one["objective"] - one["search_value"]
        assert frozen.constraints == {"faceless_rate": one["faceless_rate"] - 0.1, "limits": limits}
        assert frozen.values == ([one["likeness"], one["fidelity"]] if trial["state"] == "finished" else None)


def checkpoints(run: Run, trial: str = "*") -> list[dict[str, Any]]:
    """Metrics of every scored checkpoint, with `trial` and `step`, from the files in `trials/`."""
    scored = []
    for path in run.folder.glob(f"trials/{trial}/step-*/report.json"):
        values = json.loads(path.read_text("utf-8"))
        scored.append({"trial": path.parts[-3], "step": values["step"], **values["metrics"]})
    assert scored
    return sorted(scored, key=lambda each: (each["trial"], each["step"]))


def front_of(scored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with a face that no other beats: by the constraint first, then in likeness and fidelity at once."""
    scored = [each for each in scored if each["faceless_rate"] < 1]
    breaches = [max(0.0, each["faceless_rate"] - 0.1) for each in scored]
    least = [each for each, breach in zip(scored, breaches, strict=True) if breach == min(breaches)]
    unbeaten = [
        one
        for one in least
        if not any(
            other["likeness"] >= one["likeness"]
            and other["fidelity"] >= one["fidelity"]
            and (other["likeness"], other["fidelity"]) != (one["likeness"], one["fidelity"])
            for other in least
        )
    ]
    names = ("trial", "step", "likeness", "fidelity", "faceless_rate")
    return [{name: one[name] for name in names} for one in sorted(unbeaten, key=lambda each: each["likeness"])]


@dataclass(frozen=True)
class Parts:
    """A search in five parts: ended by SIGTERM, the death of Ray's head, Ctrl-C twice, SIGKILL, and by itself."""

    first: Run
    first_result: dict[str, Any]
    first_page: str
    """Its report."""
    listening: list[str]
    """Where the first part listened to other machines."""
    orphans: list[psutil.Process]
    """Processes that were left after all parts but the last."""
    environments: list[str]
    """The training workers', with colons between variables."""
    headless: Run
    second: Run
    last: Run


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, beyond_loopback: Callable[[int], list[str]]) -> Parts:
    home = tmp_path_factory.mktemp("parts")
    process = start(home)
    wait_for_a_checkpoint(process, home)
    listening = beyond_loopback(process.pid)
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    process.send_signal(signal.SIGTERM)
    first = finish(process, home)
    _, alive = psutil.wait_procs(children, timeout=30)
    first_result, first_page = first.result, (first.folder / "report.html").read_text("utf-8")

    process = start(home, "--resume", "runs/anna")
    children = wait_for_workers(process)
    (head,) = [child for child in children if child.name() == "gcs_server"]
    head.kill()
    headless = finish(process, home)
    _, beheaded = psutil.wait_procs(children, timeout=30)

    process = start(home, "--resume", "runs/anna")
    children = wait_for_workers(process)
    process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    second = finish(process, home)
    _, left = psutil.wait_procs(children, timeout=30)

    process = start(home, "--resume", "runs/anna")
    children = wait_for_workers(process)
    environments = [environment(child) for child in children if is_training_worker(child)]
    process.kill()
    finish(process, home)
    leaderless = children

    # What a kill may leave behind.
    with (first.folder / "journal.log").open("ab") as journal:
        journal.write(b'{"op_code":7,"worker_id":"')
    (first.folder / "trials" / "000" / "step-40.0123.tmp").mkdir(parents=True)
    for state in first.folder.glob("trials/*/state/step-*/optimizer.safetensors"):
        state.write_bytes(state.read_bytes()[:1000])
    last = finish(start(home, "--resume", "runs/anna"), home)
    _, leaderless = psutil.wait_procs(leaderless, timeout=45)
    orphans = alive + beheaded + left + leaderless
    return Parts(first, first_result, first_page, listening, orphans, environments, headless, second, last)


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


def test_a_search_that_has_ended_says_so_and_a_name_in_use_is_refused(parts: Parts) -> None:
    home, before = parts.last.home, (parts.last.folder / "result.json").read_bytes()
    again = finish(start(home, "--resume", "runs/anna"), home)
    assert again.code == 0
    assert "has ended already: champion; ask for more with --trials" in again.output
    refused = finish(start(home), home)
    assert refused.code == 2
    assert "give another --name, or go on with it: --resume" in refused.output
    fewer = finish(start(home, "--resume", "runs/anna", "--trials", "2"), home)
    assert (fewer.code, "has begun 3; ask for as many or more" in fewer.output) == (2, True)
    assert (parts.last.folder / "result.json").read_bytes() == before


def wait_for_a_checkpoint(process: subprocess.Popen[str], home: Path) -> None:
    """Returns once a trial has a scored checkpoint."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        if list(home.glob("runs/anna/trials/*/step-20")):
            return
        time.sleep(0.1)
    pytest.fail(f"no checkpoint was seen; the search said:\n{process.stdout.read() if process.stdout else ''}")


def is_training_worker(process: psutil.Process) -> bool:
    try:
        return "RayTrainWorker" in " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False


def environment(process: psutil.Process) -> str:
    """Some glibc have put the ends of strings for the colons in what they were told themselves."""
    return ":".join(f"{name}={value}" for name, value in process.environ().items())


def wait_for_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """All processes of a search, once its training workers are among them."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline and process.poll() is None:
        children = psutil.Process(process.pid).children(recursive=True)
        if any(map(is_training_worker, children)):
            return children
        time.sleep(0.1)
    pytest.fail(f"no training worker was seen; the search said:\n{process.stdout.read() if process.stdout else ''}")


def kill_a_worker(process: subprocess.Popen[str], home: Path) -> int:
    """Kills one training worker of the search once a trial has a checkpoint; its process number."""
    wait_for_a_checkpoint(process, home)
    while process.poll() is None:
        for child in psutil.Process(process.pid).children(recursive=True):
            if "RayTrainWorker" in " ".join(child.cmdline()):
                os.kill(child.pid, signal.SIGKILL)
                return child.pid
        time.sleep(0.1)
    pytest.fail(f"no training worker was seen; the search said:\n{process.stdout.read() if process.stdout else ''}")
