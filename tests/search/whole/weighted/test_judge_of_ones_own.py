"""A measure from outside the package, weighed in the objective: it is wherever the built-in ones are."""

import re

import pandas
import pytest

from tests.support.short_search import SearchRun


def test_it_is_in_every_result_and_in_the_objective(run: SearchRun) -> None:
    result = run.result
    anchors = result["anchors"]["final"]
    zero, one = anchors["untuned"]["sharpness"], anchors["real"]["sharpness"]
    final = result["champion"]["final"]
    assert result["base"]["final"]["sharpness"] == pytest.approx(zero)
    rows = pandas.read_parquet(run.folder / "images.parquet")
    seed = result["champion"]["shipped_seed"]
    champion = rows[
        (rows["prompt_set"] == "final")
        & (rows["candidate"] == result["champion"]["trial"])
        & (rows["shows"] == "person")
        & (rows["training_seed"].isna() if seed is None else rows["training_seed"] == seed)
    ]
    assert champion["sharpness"].mean() == pytest.approx(final["sharpness"])
    counted = ((champion["sharpness"] - zero) / (one - zero)).clip(-1.0, 1.0)
    assert champion["anchored_sharpness"].to_numpy() == pytest.approx(counted.to_numpy())
    assert final["anchored_sharpness"] == pytest.approx(counted.mean())
    assert {"sharpness", "anchored_sharpness"} <= final["intervals"].keys()
    others = rows[(rows["candidate"] == "base") & (rows["shows"] == "others")]
    assert others["sharpness"].notna().all()


def test_every_trial_has_it_in_mlflow(run: SearchRun) -> None:
    known = run.result["mlflow"]
    for trial in run.result["trials"]:
        ours = f"tags.`mlflow.parentRunId` = '{known['run_id']}' AND tags.trial = '{trial['id']}'"
        (child,) = run.client.search_runs([known["experiment_id"]], ours)
        for name in ("sharpness", "anchored_sharpness"):
            history = run.client.get_metric_history(child.info.run_id, name)
            assert {point.step: point.value for point in history}[trial["best_step"]] == pytest.approx(
                trial["metrics"][name]
            )


def test_card_and_report_say_it(run: SearchRun) -> None:
    card = (run.folder / "champion" / "README.md").read_text("utf-8")
    value = run.result["champion"]["final"]["sharpness"]
    assert re.search(rf"^\| sharpness \| .* \| {value:.3f} \| ", card, re.MULTILINE)
    report = (run.folder / "report.html").read_text("utf-8")
    assert "mean step of grey between neighbours" in report
    assert "mean step of grey between neighbours: 0 at untuned, 1 at real; counts 0.05 a unit" in report
