"""The second judge in a whole search: it is heard everywhere and overrules nobody."""

import numpy as np
import pytest

from search.config.run_layout import RunLayout, checkpoint_folder
from search.storage.run_folder import read_config
from search.storage.trial_record import CheckpointResult
from tests.support.short_search import SearchRun


def test_the_second_judge_is_heard_everywhere_and_overrules_nobody(run: SearchRun) -> None:
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
    layout, objective = RunLayout(run.folder), read_config(run.folder).evaluation.objective
    anchors = CheckpointResult.read(layout.second_judge_of(layout.base("final"))).anchors()
    for judged, finalist in zip(second["finalists"], result["finalists"], strict=True):
        lower, upper = judged["interval"]
        assert lower <= judged["likeness"] <= upper
        folders = [layout.finalist(finalist["trial"], finalist["step"])]
        folders += [
            checkpoint_folder(layout.retraining(finalist["trial"], again["seed"]), finalist["step"])
            for again in finalist["retrained"]
        ]
        seen = [CheckpointResult.read(layout.second_judge_of(folder)).values(anchors, objective) for folder in folders]
        assert len(seen) == 2, "all trainings are judged"
        for name in ("likeness", "objective"):
            assert judged[name] == pytest.approx(np.mean([values[name] for values in seen]))
    assert second["prefers"] in set(second["trials"])
    assert (second["lead"] is None) == (second["prefers"] == result["champion"]["trial"])
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
