"""The registry of models, where a search's champion is once, and the newest has the alias."""

import json
from dataclasses import replace
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient

from tests.search.tracking.conftest import MakeSearch
from tests.support.mlflow_runs import check, sync


def test_the_champion_is_registered_once_and_the_result_says_where(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search("http://127.0.0.1:9")
    tracker = search.tracker()
    search.two_trials(tracker)
    assert tracker.champion(search.champion()) is None, "there is nobody to register it"
    tracker._closing.set()
    tracker._thread.join()
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    for _ in range(2):
        delivered = sync(search.folder, "--uri", uri)
        assert (delivered.returncode, delivered.stderr) == (0, "")
    mlflow.set_tracking_uri(uri)  # MLflow lists models of a run by its own setting
    client = MlflowClient(uri)
    parent = check(client, registered=True)
    (version,) = client.search_model_versions("name = 'anna'")
    assert (version.run_id, version.tags) == (parent.info.run_id, {"trial": "000", "step": "100"})
    assert client.get_model_version_by_alias("anna", "champion").version == version.version
    result = json.loads((search.folder / "result.json").read_text("utf-8"))
    assert result["champion"]["model_uri"] == f"models:/anna/{version.version}"
    assert (result["mlflow"]["run_id"], result["mlflow"]["experiment_id"]) == (
        parent.info.run_id,
        parent.info.experiment_id,
    )
    kept = client.download_artifacts(parent.info.run_id, "result.json", str(tmp_path))
    assert json.loads(Path(kept).read_text("utf-8")) == result


@pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # MLflow of its own models
def test_an_old_run_does_not_take_the_alias_from_a_newer_one(make_search: MakeSearch, tmp_path: Path) -> None:
    search = make_search()
    with search.tracker() as tracker:
        search.two_trials(tracker)
        first = tracker.champion(search.champion())
    old = tmp_path / "old"
    search.folder.rename(old)
    with search.tracker() as tracker:
        search.two_trials(tracker)
        second = tracker.champion(search.champion())
    assert (first, second) == ("models:/anna/1", "models:/anna/2")
    with search.tracker() as tracker:
        tracker.start(old)
        assert tracker.champion(replace(search.champion(), adapter=old / "champion")) == first
    client = MlflowClient(tracker.shown_uri)
    assert int(client.get_model_version_by_alias("anna", "champion").version) == 2
