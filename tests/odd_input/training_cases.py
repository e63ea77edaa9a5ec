"""Settings of a training that do not go with its base model, or whose adapter other programs would not read."""

import json
from pathlib import Path

from tests.odd_input.case import CONFIGURATION, TRAINING, Case, replace, setting

TRAIN = ("trainer.run", TRAINING)


def as_flux(folder: Path) -> None:
    """The demo's model says that it is Flux, with a VAE as large as Flux' is; that is all that is looked at."""
    index = folder / "base" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text("utf-8")), "_class_name": "FluxPipeline"}), "utf-8")
    config = folder / "base" / "vae" / "config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text("utf-8")), "block_out_channels": [32] * 4}), encoding="utf-8"
    )


def with_edm_scheduler(folder: Path) -> None:
    index = folder / "base" / "model_index.json"
    scheduler = {"scheduler": ["diffusers", "EDMEulerScheduler"]}
    index.write_text(json.dumps({**json.loads(index.read_text("utf-8")), **scheduler}), "utf-8")
    (folder / "base" / "scheduler" / "scheduler_config.json").write_text(
        '{"_class_name": "EDMEulerScheduler", "sigma_data": 0.5, "sigma_max": 80.0, "sigma_min": 0.002}', "utf-8"
    )


CASES = [
    Case(
        "buckets-of-no-whole-patches",
        as_flux,
        ("search.run", CONFIGURATION, "--set", "photos.buckets.step=8", "--set", "training.resolution=72"),
        says=("photos are cut to 72 x 72 pixels, but Flux sees patches of 16 x 16", "photos.buckets.step", "of 16"),
    ),
    Case(
        "a-resolution-of-no-whole-patches",
        as_flux,
        ("search.run", CONFIGURATION, "--set", "training.resolution=72"),
        says=("photos are cut to 72 x 72 pixels, but Flux sees patches of 16 x 16 pixels; make training.resolution",),
    ),
    Case(
        "an-edm-scheduler",
        with_edm_scheduler,
        TRAIN,
        says=("base is a EDMEulerScheduler, which has no beta_schedule", "such as DDIMScheduler"),
    ),
    Case(
        "a-dora-in-a-search",
        command=setting("training.adapter=dora"),
        says=("adapter is 'dora', but A1111 divides", "choose one of 'lora', 'rslora', or train it without a search"),
    ),
    Case(
        "a-dora-in-a-space",
        replace("search.yaml", "trials: 2", "  adapter: {values: [lora, dora]}\ntrials: 2"),
        says=("space.adapter may draw 'dora'", "choose one of 'lora', 'rslora'"),
    ),
]
