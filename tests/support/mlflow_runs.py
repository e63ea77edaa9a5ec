"""What MLflow shows of a search, and the command that delivers it later."""

import subprocess
import sys
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities import Run

from tests.support.command import CEILING

ROOT = Path(__file__).parents[2]
METRICS = {"objective", "search_value", "excess", "likeness", "fidelity", "faceless_rate"}


def runs_of(client: MlflowClient, name: str = "people") -> tuple[Run, dict[str, Run]]:
    """The run of the only search in an experiment, and those of its trials; there are no others."""
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert parent.info.run_name == "anna"
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(runs) == 1 + len(children)
    named = {run.data.tags["trial"]: run for run in children}
    assert len(named) == len(children), "one run a trial"
    return parent, named


def artifacts(client: MlflowClient, run: Run, folder: str | None = None) -> set[str]:
    return {file.path for file in client.list_artifacts(run.info.run_id, folder)}


def grids(client: MlflowClient, run: Run) -> list[int]:
    names = [Path(path).name for path in artifacts(client, run, "images") if path.endswith(".png")]
    assert all(name.startswith("samples+step+") for name in names)
    return sorted(int(name.split("+")[2]) for name in names)


def points(client: MlflowClient, run: Run, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)]


MODEL = {
    f"champion/{name}" for name in ("MLmodel", "adapter_weights", "conda.yaml", "python_env.yaml", "requirements.txt")
}
"""What MLflow shows of the registered champion among the files of the search's run."""


def check(client: MlflowClient, experiment: str = "people", *, registered: bool = False) -> Run:
    """MLflow holds `two_trials`, each thing once; the run of the search."""
    parent, children = runs_of(client, experiment)
    assert (parent.info.status, parent.data.tags["state"]) == ("FINISHED", "champion")
    assert parent.data.params == {"model": "base", "trials": "2"}
    told = {name: value for name, value in parent.data.metrics.items() if not name.startswith("system/")}
    assert told == {
        **{f"base_{name}": 0.0 for name in METRICS - {"fidelity"}},
        "base_fidelity": 1.0,
        "champion_objective": 0.4,
        "second_judge_kendall": 0.5,
        "second_judge_agrees": 1.0,
    }
    assert all(points(client, parent, name) == [(0, value)] for name, value in told.items())
    files = {"search.yaml", "result.json", "report.html", "trials.csv", "images.parquet", "README.md"}
    assert artifacts(client, parent) == {*files, "base", "champion", "plots"}
    assert artifacts(client, parent, "base") == {"base/grid.png"}
    assert artifacts(client, parent, "champion") == {"champion/samples.png"} | (MODEL if registered else set())
    assert artifacts(client, parent, "plots") == {"plots/front.svg"}
    assert set(children) == {"000", "001"}
    finished, failed = children["000"], children["001"]
    assert (finished.info.run_name, failed.info.run_name) == ("trial-000", "trial-001")
    assert (finished.info.status, finished.data.tags["state"]) == ("FINISHED", "finished")
    assert (failed.info.status, failed.data.tags["state"], failed.data.tags["reason"]) == (
        *("FAILED", "failed"),
        "diverged",
    )
    assert finished.data.params == {"learning_rate": "0.0001", "rank": "8", "alpha": "8", "steps": "100"}
    assert failed.data.params["rank"] == "16"
    assert set(finished.data.metrics) == METRICS | {f"best_{name}" for name in METRICS} | {
        *("best_step", "second_likeness")
    }
    assert points(client, finished, "objective") == [(50, 0.25), (100, 0.5)]
    assert points(client, finished, "best_objective") == [(100, 0.5)]
    assert points(client, finished, "best_step") == [(100, 100.0)]
    assert points(client, finished, "second_likeness") == [(100, 0.75)]
    assert artifacts(client, finished) == {"adapter", "images"}
    assert artifacts(client, finished, "adapter") == {"adapter/pytorch_lora_weights.safetensors"}
    assert grids(client, finished) == [50, 100]
    assert (failed.data.metrics, artifacts(client, failed)) == ({}, set())
    return parent


def sync(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "search.sync", str(folder), *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )
