"""The result of a whole search: its shape, and that its numbers follow from each other and from the table of images."""

import json

import numpy as np
import pandas
import pytest

from tests.support.pareto_front import front_of
from tests.support.short_search import SearchRun


def test_the_results_shape_is_stable(run: SearchRun) -> None:
    result = run.result
    assert set(result) == {
        "name",
        "status",
        "objective",
        "limits",
        "base",
        "schema_version",
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
        "shipped_seed",
        "trainings",
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


def test_the_numbers_agree_with_each_other(run: SearchRun) -> None:
    result = run.result
    base, champion = result["base"]["final"], result["champion"]
    assert base["likeness"] == pytest.approx(0.0, abs=1e-9)
    assert base["fidelity"] == pytest.approx(1.0)
    final = champion["final"]
    anchors = result["anchors"]["final"]
    untuned, real = anchors["untuned"], anchors["real"]
    if final["faceless_rate"] == 0:
        gap = untuned["face_distance"] - real["face_distance"]
        assert final["likeness"] == pytest.approx((untuned["face_distance"] - final["face_distance"]) / gap)
    gap = untuned["clip_score"] - untuned["mismatched_clip_score"]
    assert final["fidelity"] == pytest.approx((final["clip_score"] - untuned["mismatched_clip_score"]) / gap)
    assert final["objective"] == pytest.approx(
        0.5 * final["likeness"]
        + 0.4 * final["fidelity"]
        - 0.5 * final["faceless_rate"]
        - 0.05 * max(final["leakage"], 0.0)
        + 0.05 * final["anchored_sharpness"]
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


def test_every_figure_follows_from_the_table_of_images(run: SearchRun) -> None:
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
        assert rows["face_distance"].mean() == pytest.approx(anchors["others"]["face_distance"])
        assert set(rows["prompt"].str.contains("trigger")) == {False}
        photos = json.loads((run.folder / anchors["pairings"]).read_text("utf-8"))
        assert set(table["training_photo"]) <= set(photos["copies"]["training_photos"])
        assert not set(photos["copies"]["training_photos"]) & set(photos["generated"]["reference_photos"])


def test_the_champion_at_several_strengths(run: SearchRun) -> None:
    points = run.result["strengths"]["points"]
    assert [point["strength"] for point in points] == [0, 0.25, 0.5, 0.75, 1, 1.25]
    champion, step = run.result["champion"]["trial"], run.result["champion"]["step"]
    for point in points:
        assert point["folder"] == f"final/strengths/{champion}-step-{step}-at-{point['strength']:g}"
        rows = json.loads((run.folder / point["folder"] / "report.json").read_text("utf-8"))["rows"]
        assert [(row["prompt_index"], row["seed"]) for row in rows] == [(0, 101), (1, 101)]
        assert point["metrics"]["clip_score"] == pytest.approx(np.mean([row["measures"]["clip_score"] for row in rows]))


def test_the_front_is_in_the_result_by_weights_too(run: SearchRun) -> None:
    assert run.result["front"] == front_of(run.checkpoints())
