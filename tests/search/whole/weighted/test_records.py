"""What Optuna's journal and MLflow keep of a whole search."""

from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from tests.support.short_search import SearchRun


def test_optunas_journal_tells_the_same_story(run: SearchRun) -> None:
    storage = JournalStorage(JournalFileBackend(str(run.folder / "journal.log")))
    study = optuna.load_study(study_name="anna", storage=storage)
    told = {"finished": "COMPLETE", "stopped": "PRUNED"}
    assert [trial.state.name for trial in study.trials] == [told[trial["state"]] for trial in run.result["trials"]]
    for frozen, trial in zip(study.trials, run.result["trials"], strict=True):
        assert frozen.params == trial["params"]
        assert frozen.intermediate_values == {point["step"]: point["objective"] for point in trial["checkpoints"]}


def test_mlflow_keeps_a_parent_and_a_child_for_each_trial(run: SearchRun) -> None:
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


def test_mlflow_keeps_the_table_of_images(run: SearchRun, tmp_path: Path) -> None:
    kept = run.client.download_artifacts(run.result["mlflow"]["run_id"], "images.parquet", str(tmp_path))
    assert Path(kept).read_bytes() == (run.folder / "images.parquet").read_bytes()


def test_the_registered_champion_is_this_runs(run: SearchRun) -> None:
    version = run.client.get_model_version_by_alias("anna", "champion")
    assert version.run_id == run.result["mlflow"]["run_id"]
    assert run.result["champion"]["model_uri"] == f"models:/anna/{version.version}"
