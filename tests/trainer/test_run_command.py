"""`python -m trainer.run`: what it answers, writes, and takes up again after a kill."""

import math
import shutil
import signal
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.support.training_command import invoke, same_content, start
from tests.trainer.conftest import DEMO_BASE, WriteDocument, write_photo
from trainer.adapters.adapter_files import read_adapter_file
from trainer.data.bucketed_cache import BucketedCache, build_bucketed_cache
from trainer.files import put_back
from trainer.job.job import StepReport, TrainingJob
from trainer.models.loading import load_base_model, set_threads
from trainer.run_config import load_run_config
from trainer.training_run import TrainingProgress, run_training, saved_states


def test_a_run_interrupted_and_killed_writes_what_an_unbroken_one_does(write: WriteDocument) -> None:
    unbroken, broken = write("unbroken"), write("broken")
    set_threads(1)
    done = invoke(unbroken)
    assert done.code == 0, done.stderr
    output = broken.parent / "out"

    interrupted = start(broken, signal.SIGINT, 3)
    assert interrupted.code == 130, interrupted.output
    assert f"resume with: python -m trainer.run {broken}" in interrupted.output
    assert "interrupted at step 3;" in interrupted.output
    assert saved_states(output / "state")[0] == output / "state" / "step-3"
    assert not (output / "anna.safetensors").exists()

    assert start(broken, signal.SIGKILL, 7).code == -signal.SIGKILL
    assert saved_states(output / "state")[0] == output / "state" / "step-6"

    resumed = start(broken)
    assert resumed.code == 0, resumed.output
    assert f"resumed from {output / 'state' / 'step-6'}" in resumed.output
    assert "step 12/12  loss " in resumed.output

    files = sorted(path.name for path in output.iterdir() if path.is_file())
    assert files == ["anna.safetensors", "pytorch_lora_weights.safetensors"]
    for name in files:
        assert same_content(output / name, unbroken.parent / "out" / name)
    last, other = output / "state" / "step-12", unbroken.parent / "out" / "state" / "step-12"
    assert same_content(last / "optimizer.safetensors", other / "optimizer.safetensors")
    assert (last / "training_state.json").read_bytes() == (other / "training_state.json").read_bytes()
    assert {path.name for path in (unbroken.parent / "out" / "state").iterdir()} == {
        f"step-{number}" for number in range(2, 13, 2)
    }


def test_a_finished_run_writes_its_files_again_and_another_s_state_is_refused(write: WriteDocument) -> None:
    path = write("run", training={"resolution": 64, "rank": 2, "steps": 3})
    assert invoke(path).code == 0
    output = path.parent / "out"
    assert sorted(state.name for state in (output / "state").iterdir()) == ["step-2", "step-3"]
    kept = (output / "anna.safetensors").rename(path.parent / "kept.safetensors")
    assert invoke(path).code == 0
    assert same_content(output / "anna.safetensors", kept)
    path.write_text(path.read_text().replace("rank: 2", "rank: 4"))
    refused = invoke(path)
    assert refused.code == 2
    assert "rank (2 there, 4 here)" in refused.stderr
    assert f"remove {output / 'state'} or name another output" in refused.stderr


def test_photos_encoded_otherwise_before_are_not_kept(write: WriteDocument) -> None:
    """A run's cache is its own: what an edit of the configuration leaves behind goes. Captions have no resolution."""
    path = write("run", training={"resolution": 64, "rank": 2, "steps": 1})
    assert invoke(path).code == 0
    pictures, captions = sorted((path.parent / "out" / "cache").iterdir(), reverse=True)
    shutil.rmtree(path.parent / "out" / "state")
    path.write_text(path.read_text().replace("resolution: 64", "resolution: 32"))
    assert invoke(path).code == 0
    again = sorted((path.parent / "out" / "cache").iterdir(), reverse=True)
    assert again[1:] == [captions]
    assert again[0] != pictures


def test_a_dora_is_written_for_diffusers_alone_and_it_is_said_why(write: WriteDocument) -> None:
    path = write("run", training={"resolution": 64, "rank": 2, "steps": 1, "adapter": "dora"})
    done = invoke(path)
    assert done.code == 0, done.stderr
    output = path.parent / "out"
    assert f"written: {output / 'pytorch_lora_weights.safetensors'}" in done.stdout
    assert "no anna.safetensors for ComfyUI and A1111: A1111 divides DoRA's magnitudes" in done.stdout
    assert [file.name for file in output.glob("*.safetensors")] == ["pytorch_lora_weights.safetensors"]


def test_an_averaged_run_exports_the_average_with_trigger_and_base(write: WriteDocument) -> None:
    """The state of the last step holds both: the average as its adapter, the trained weights beside it."""
    path = write("run", training={"resolution": 64, "rank": 2, "steps": 3, "ema_decay": 0.9})
    assert invoke(path).code == 0
    output = path.parent / "out"
    exported, header = read_adapter_file(output / "pytorch_lora_weights.safetensors")
    average, _ = read_adapter_file(output / "state" / "step-3" / "pytorch_lora_weights.safetensors")
    trained, _ = read_adapter_file(output / "state" / "step-3" / "trained_weights.safetensors")
    assert exported.keys() == average.keys()
    assert all(torch.equal(weight, average[name]) for name, weight in exported.items())
    layer = "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    moved = trained[f"{layer}.lora_B.default.weight"]
    assert moved.any()
    assert not torch.equal(exported[f"{layer}.lora_B.weight"], moved)
    assert header["trigger"] == "sks"
    _, texts = read_adapter_file(output / "anna.safetensors")
    assert texts["modelspec.trigger_phrase"] == "sks"
    assert texts["ss_base_model_sha256"] == load_base_model(DEMO_BASE, device="cpu").sha256


def test_photos_come_repeated_and_in_each_form_that_is_shown(
    write: WriteDocument, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three photos, one of them twice and one without a caption of its own, mirrored and without caption.

    4 x 2 x 2 rows, of 6 pictures and 4 captions.
    """
    built = []

    def build(*arguments: Any, **options: Any) -> BucketedCache:
        built.append(build_bucketed_cache(*arguments, **options))
        return built[-1]

    monkeypatch.setattr("trainer.training_run.build_bucketed_cache", build)
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        write_photo(photos, f"photo{number}", seed=number, caption=f"a man, number {number}")
    (photos / "photo2.txt").unlink()
    path = write(
        "run",
        photos={"folder": str(photos), "repeats": {"photo1*": 2}, "caption_template": "a photo of {trigger}"},
        training={"resolution": 64, "rank": 2, "steps": 3, "horizontal_flip": 0.5, "caption_dropout": 0.5},
    )
    done = invoke(path)
    assert done.code == 0, done.stderr
    captions, pictures = sorted((path.parent / "out" / "cache").iterdir())
    mean = read_adapter_file(pictures)[0]["latent_mean"]
    assert len(mean) == 6
    assert not torch.equal(mean[0], mean[3])
    assert len(read_adapter_file(captions)[0]["text_embeddings"]) == 4
    (cache,) = built[0].buckets
    assert cache.picture_of_row.tolist() == [0, 1, 1, 2] * 2 + [3, 4, 4, 5] * 2
    assert cache.caption_of_row.tolist() == [0, 1, 1, 2, 3, 3, 3, 3] * 2


def test_a_run_on_photos_of_several_shapes_goes_on_where_it_was_stopped(write: WriteDocument, tmp_path: Path) -> None:
    """The demo's photos cut to tall, wide and square ones; a longer state taken away, as if killed after step 2."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, path in enumerate(sorted((DEMO_BASE.parent / "photos").glob("*.png"))[:9]):
        with Image.open(path) as picture:
            width, height = picture.size
            tall, wide = (width // 6, 0, width - width // 6, height), (0, height // 6, width, height - height // 6)
            picture.crop([tall, wide, (0, 0, width, height)][number % 3]).save(photos / path.name)
        shutil.copy(path.with_suffix(".txt"), photos)
    buckets = {"step": 8}
    training = {"resolution": 64, "batch_size": 4, "gradient_accumulation_steps": 2, "rank": 2, "steps": 4}
    path = write("run", photos={"folder": str(photos), "buckets": buckets}, training=training)
    set_threads(1)
    done = invoke(path)
    assert done.code == 0, done.stderr
    output = path.parent / "out"
    shapes = [read_adapter_file(cached)[0]["latent_mean"].shape for cached in (output / "cache").glob("pictures-*")]
    assert sorted((shape[2:], shape[0]) for shape in shapes) == [((12, 20), 3), ((16, 16), 3), ((20, 12), 3)]
    assert "photos: bucket 48x80 has 3 photo(s) an epoch (angry.png, " in done.stdout
    assert done.stdout.count("fewer than batch_size, which is 4") == 3
    first = shutil.copy(output / "anna.safetensors", tmp_path / "first.safetensors")
    shutil.rmtree(output / "state" / "step-4")
    done = invoke(path)
    assert done.code == 0, done.stderr
    assert "resumed from" in done.stdout
    assert same_content(Path(first), output / "anna.safetensors")


def test_a_run_that_diverges_says_so(write: WriteDocument) -> None:
    path = write("run", training={"resolution": 64, "rank": 2, "steps": 4, "alpha": 1e30, "max_grad_norm": math.inf})
    done = invoke(path)
    assert done.code == 1, done.stderr
    assert "is not finite at step 1; use a lower learning rate" in done.stderr
    assert not (path.parent / "out" / "anna.safetensors").exists()


def test_a_run_that_runs_out_of_memory_says_what_it_did(write: WriteDocument, monkeypatch: pytest.MonkeyPatch) -> None:
    most, predict = 1, TrainingJob._predict

    def limited(job: TrainingJob, cache: Any, rows: Any, *rest: Any) -> Any:
        if len(rows) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return predict(job, cache, rows, *rest)

    monkeypatch.setattr(TrainingJob, "_predict", limited)
    training = {"resolution": 64, "batch_size": 2, "rank": 2, "alpha": 4, "steps": 2, "learning_rate": 1e-3}
    smaller = invoke(write("smaller", training=training))
    assert smaller.code == 0
    said = "out of memory at step 1 with 2 photos in a forward pass: from there on 1 at a time, gradients accumulated"
    assert smaller.stdout.count(said) == 1
    most = 0
    failed = invoke(write("failed", training=training))
    assert failed.code == 1
    assert "out of memory at step 1 with a single photo" in failed.stderr
    assert "set training.gradient_checkpointing to true" in failed.stderr


def test_class_images_are_drawn_once_for_a_run_and_its_resumption(write: WriteDocument) -> None:
    """Stopped while they are drawn, then while it trains, it ends as an unbroken run does, with the same images."""
    prior = {"prompt": "a photo of a man", "images": 5, "steps": 2, "batch_size": 2}
    changes = {
        "photos": {"folder": str(DEMO_BASE.parent / "photos"), "trigger": "sks", "prior": prior},
        "training": {"resolution": 64, "rank": 2, "steps": 3, "prior_loss_weight": 1},
    }
    unbroken, broken = (load_run_config(write(name, **changes)) for name in ("unbroken", "broken"))
    console = Console(file=StringIO())
    whole = run_training(unbroken, console, lambda: False)
    assert whole.step == 3

    asked = iter([False, True])
    stopped = run_training(broken, console, lambda: next(asked))
    assert (stopped.step, stopped.files) == (0, ())
    (images,) = (broken.output / "cache").glob("class-images-*")
    assert sorted(path.name for path in images.glob("*.png")) == [f"{seed:05}.png" for seed in range(4)]
    written = {path: path.stat().st_mtime_ns for path in images.glob("*.png")}

    asked = iter([*[False] * 4, True])  # three batches, and before and after the first step
    assert run_training(broken, console, lambda: next(asked)).step == 1
    ended = run_training(broken, console, lambda: False)
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert len(list(images.glob("*.png"))) == 5
    assert len(ended.files) == 2
    for file, expected in zip(ended.files, whole.files, strict=True):
        assert same_content(file, expected)


def test_what_a_kill_left_half_done_is_finished_or_undone(tmp_path: Path) -> None:
    assert saved_states(tmp_path / "none") == []
    names = ("step-2", "step-10", f"step-12.{'a' * 32}.tmp", f"step-10.{'b' * 32}.old", f"step-14.{'c' * 32}.old")
    for name in (*names, "notes", "notes.old"):
        (tmp_path / name).mkdir()
    (tmp_path / f".anna.safetensors.{'d' * 32}.tmp").touch()
    put_back(tmp_path)
    assert saved_states(tmp_path) == [tmp_path / name for name in ("step-14", "step-10", "step-2")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes", "notes.old", "step-10", "step-14", "step-2"]


def test_progress_in_a_pipe_shows_the_mean_loss_since_the_last_line_speed_and_time_left() -> None:
    now = 0.0
    written = StringIO()
    with TrainingProgress(60, 10, Console(file=written), clock=lambda: now) as progress:
        for step, seconds, loss in ((11, 4.0, 1.0), (12, 10.0, 0.5), (60, 100.0, 0.25)):
            now = seconds
            rates = {"unet": 1e-3, "text_encoder": 5e-5}
            progress.stepped(StepReport(step=step, loss_tensor=torch.tensor(loss), learning_rates=rates))
    assert written.getvalue().splitlines() == [
        "step 12/60  loss 0.7500  rate unet 1.00e-03, text_encoder 5.00e-05  0.20 steps/s  0:04:00 left",
        "step 60/60  loss 0.2500  rate unet 1.00e-03, text_encoder 5.00e-05  0.50 steps/s  0:00:00 left",
    ]
