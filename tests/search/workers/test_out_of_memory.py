"""A search whose workers run out of memory: some trials do less at a time and say so, others fail with a reason."""

from pathlib import Path

from tests.support.short_search import finish, short_search, start, write_search


def test_a_trial_that_runs_out_of_memory_does_less_at_a_time_and_one_that_cannot_fails(tmp_path: Path) -> None:
    """Rank 8 fits with two photos of four, rank 32 with none; two of four images fit."""
    content = short_search()
    content |= {"trials": 2, "seats": {"count": 1}, "stopping": {"grace_period": 10}}
    content["space"] = {"rank": {"values": [8, 32]}}
    content["first_trials"] = [{"rank": 8}, {"rank": 32}]
    content["training"] |= {"learning_rate": 2e-3, "steps": 20, "batch_size": 4, "lr_warmup_steps": 0}
    content["evaluation"]["every"] = 10
    del content["evaluation"]["others"], content["evaluation"]["second_judge"]
    content["evaluation"]["generation"] |= {"steps": 6}
    content["final"] |= {"seeds": [101], "candidates": 1, "retrain": 0}
    run = finish(start(tmp_path, str(write_search(tmp_path, content)), scene="little memory"), tmp_path)
    output, folder = run.output, run.folder
    assert run.code == 0, output
    result = run.result
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
    runs = run.client.search_runs([result["mlflow"]["experiment_id"]], "tags.trial = '000'")
    assert [each.data.tags["remarks"] for each in runs] == [f"{photos}; {images}"]
