"""A search whose workers run out of memory: some trials do less at a time and say so, others fail with a reason."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

REPOSITORY = Path(__file__).resolve().parents[3]
DEMO = REPOSITORY / "demo"


def test_a_trial_that_runs_out_of_memory_does_less_at_a_time_and_one_that_cannot_fails(tmp_path: Path) -> None:
    """Rank 8 fits with two photos of four, rank 32 with none; two of four images fit."""
    (tmp_path / "validation.txt").write_text("a photo of {trigger} man, happy\na photo of {trigger} man\n")
    (tmp_path / "final.txt").write_text("a photo of {trigger} man, sad\n")
    content = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    content |= {"name": "anna", "model": str(DEMO / "base"), "trials": 2, "seats": {"count": 1}}
    content["photos"]["folder"] = str(DEMO / "photos")
    content["space"] = {"rank": {"values": [8, 32]}}
    content["first_trials"] = [{"rank": 8}, {"rank": 32}]
    content["training"] |= {"learning_rate": 2e-3, "steps": 20, "batch_size": 4, "lr_warmup_steps": 0}
    content["stopping"] = {"grace_period": 10}
    content["evaluation"] |= {"prompts": "validation.txt", "every": 10, "clip": str(DEMO / "clip")}
    del content["evaluation"]["others"], content["evaluation"]["second_judge"]
    content["evaluation"]["generation"] |= {"steps": 6}
    content["final"] = {"prompts": "final.txt", "seeds": [101], "candidates": 1, "retrain": 0}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(content), "utf-8")
    script = REPOSITORY / "tests" / "support" / "little_memory_search.py"
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "search.yaml")],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(REPOSITORY)},
    )
    try:
        output, _ = process.communicate(timeout=300)
    except subprocess.TimeoutExpired:
        process.terminate()
        output, _ = process.communicate()
        pytest.fail(f"the search hangs; it said:\n{output}")
    assert process.returncode == 0, output
    folder = tmp_path / "runs" / "anna"
    result = json.loads((folder / "result.json").read_text("utf-8"))
    smaller, failed = result["trials"]
    photos = "out of memory at step 1 with 4 photos in a forward pass: from there on 2 at a time, gradients accumulated"
    images = "out of memory with 4 images at once: from there on 2 at a time"
    assert (smaller["state"], smaller["remarks"]) == ("finished", [photos, images])
    assert [checkpoint["step"] for checkpoint in smaller["checkpoints"]] == [10, 20]
    assert (failed["state"], failed["checkpoints"]) == ("failed", [])
    assert failed["reason"] == (
        "OutOfMemory: out of memory at step 1 with a single photo in a forward pass (CUDA out of memory. Tried to "
        "allocate 2.00 GiB.); set training.gradient_checkpointing to true, or lower training.resolution (64) or rank "
        "(32), or let fewer seats share a GPU (seats.count, seats.gpus_per_worker)"
    )
    assert (result["status"], result["champion"]["trial"]) == ("champion", "000")
    assert output.count(f"trial 000  {photos}") == 1, "said once, though both checkpoints carry it"
    assert f"trial 000  {images}" in output
    page = (folder / "report.html").read_text("utf-8")
    assert f"{photos}; {images}" in page
    client = MlflowClient(result["mlflow"]["tracking_uri"])
    runs = client.search_runs([result["mlflow"]["experiment_id"]], "tags.trial = '000'")
    assert [run.data.tags["remarks"] for run in runs] == [f"{photos}; {images}"]
