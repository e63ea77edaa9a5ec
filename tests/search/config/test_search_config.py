"""The configuration file: what is refused, how it is told, and what is resolved."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evaluation.config import FaceConfig, GenerationConfig, OnnxRecognizer, PromptSet
from evaluation.hw10 import GENERATION, hw10_generation
from search.config.prompts import read_prompts
from search.config.search_config import (
    HIGHEST_TRAINING_SEED,
    HOMEWORK,
    MOST_TRIALS,
    RETRAINING_SEED_STRIDE,
    ConfigurationError,
    dump_config,
    load_config,
    without_password,
)
from search.config.space import clip
from search.workers.setup import RunnerSetup
from trainer.data.buckets import AspectBuckets
from trainer.data.photos import PhotoSplit
from trainer.data.prior_config import PriorConfig
from trainer.data.views import Views

Write = Callable[[dict[str, Any]], Path]


def test_a_file_is_read_resolved_and_read_back_from_what_a_run_keeps(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(document))
    assert config.model == str(tmp_path / "base")
    assert config.photos.folder == tmp_path / "photos"
    assert config.evaluation.prompts == tmp_path / "validation.txt"
    again = tmp_path / "elsewhere" / "search.yaml"
    again.parent.mkdir()
    again.write_text(dump_config(config), "utf-8")
    assert load_config(again) == config


def test_class_images_are_read_resolved_and_read_back(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    (tmp_path / "men").mkdir()
    document["photos"]["prior"] = {"prompt": "a photo of a man", "folder": "men"}
    document["space"]["prior_loss_weight"] = {"low": 0, "high": 2.0}
    config = load_config(write_config(document))
    assert config.photos.prior == PriorConfig(prompt="a photo of a man", folder=tmp_path / "men")
    assert config.training_config({"prior_loss_weight": 0.5}, seed=0).prior_loss_weight == 0.5
    again = tmp_path / "elsewhere" / "search.yaml"
    again.parent.mkdir()
    again.write_text(dump_config(config), "utf-8")
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("setting", "buckets"),
    [
        (True, AspectBuckets(step=64, maximum_ratio=2)),
        ({"step": 8}, AspectBuckets(step=8)),
        ({"maximum_ratio": 1.5}, AspectBuckets(maximum_ratio=1.5)),
        (False, None),
        (None, None),
    ],
)
def test_buckets_are_switched_or_described(
    setting: object, buckets: AspectBuckets | None, document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    document["photos"]["buckets"] = setting
    document["training"] = {"resolution": 128}
    config = load_config(write_config(document))
    assert config.photos.buckets == buckets
    assert RunnerSetup.of(config, PhotoSplit(training=(), reference=()), {}, {}).buckets == buckets
    again = tmp_path / "again.yaml"
    again.write_text(dump_config(config), "utf-8")
    assert load_config(again, ["photos.buckets=false"]).photos.buckets is None
    assert load_config(again) == config


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (("photos", "prior", "promt"), "promt: there is no such key; did you mean 'prompt'?"),
        (("trails",), "trails: there is no such key; did you mean 'trials'?"),
        (("training", "bach_size"), "training.bach_size: there is no such key; did you mean 'batch_size'?"),
        (("evaluation", "sedes"), "evaluation.sedes: there is no such key; did you mean 'seeds'?"),
        (("evaluation", "second_judge", "detecter"), "detecter: there is no such key; did you mean 'detector'?"),
        (("evaluation", "generation", "stesp"), "stesp: there is no such key; did you mean 'steps'?"),
        (("space", "rank", "valeus"), "valeus: there is no such key; did you mean 'values'?"),
        (("photos", "buckets", "stepp"), "photos.buckets.stepp: there is no such key; did you mean 'step'?"),
        (("space", "rnk"), "'rnk' is not a training setting; did you mean 'rank'?"),
    ],
)
def test_a_misspelt_key_is_named_with_the_nearest_right_one(
    place: tuple[str, ...], message: str, document: dict[str, Any], write_config: Write
) -> None:
    inner = document
    for key in place[:-1]:
        inner = inner.setdefault(key, {})
    inner[place[-1]] = {"low": 1, "high": 2} if place[0] == "space" and len(place) == 2 else 3
    with pytest.raises(ConfigurationError) as error:
        load_config(write_config(document))
    assert message in str(error.value)


def test_all_problems_are_told_together(document: dict[str, Any], write_config: Write) -> None:
    document["trials"] = 0
    document["final"]["confidence"] = 2
    del document["photos"]["folder"]
    with pytest.raises(ConfigurationError) as error:
        load_config(write_config(document))
    for place in ("trials", "final.confidence", "photos.folder: this key is missing"):
        assert place in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"photos": {"folder": "nowhere"}}, "nowhere is not a folder"),
        ({"photos": {"folder": "photos", "caption_template": " "}}, r"photos.caption_template"),
        ({"photos": {"folder": "photos", "maximum_pixels": 200_000_000}}, r"photos.maximum_pixels"),
        ({"photos": {"folder": "photos", "buckets": {"step": 12}}}, r"step is 12; it must be a multiple of 8"),
        (
            {"photos": {"folder": "photos", "buckets": True, "face_crop": 2}},
            r"face_crop is 2.0 and cuts squares, so all buckets but one would be empty; leave out face_crop or buckets",
        ),
        (
            {"photos": {"folder": "photos", "buckets": True}, "training": {"resolution": 48}},
            r"photos.buckets has a step of 64 pixels, more than training.resolution, which is 48; set a step",
        ),
        ({"model": "./nowhere"}, "neither a folder"),
        ({"name": "../escape"}, "name"),
        ({"training": {"rank": 0}}, "rank is 0"),
        ({"space": {}}, "space"),
        ({"model": "photos/sd15"}, "'photos/sd15' is neither a folder"),
        ({"model": "photos"}, "'photos' holds no model_index.json"),
        ({"space": {"steps": {"low": 0, "high": 100}}}, r"space.steps may draw 0: steps is 0"),
        ({"space": {"rank": {"values": [4, 2048]}}}, r"space.rank may draw 2048: rank is 2048"),
        ({"space": {"rank": {"low": 4.5, "high": 64}}}, r"space: rank.low is 4.5; rank takes whole numbers only"),
        ({"space": {"rank": {"values": [4, True]}}}, r"space.rank may draw True: rank is True; give a number"),
        ({"space": {"alpha": {"values": ["a", "b"]}}}, r"space: alpha is a number, not 'a'; give a number"),
        ({"space": {"dropout": {"low": 0, "high": 1}}}, r"space.dropout may draw 1"),
        (
            {
                "training": {"text_encoder_learning_rate": 0.1},
                "space": {"optimizer": {"values": ["prodigy", "adamw"]}, "learning_rate": {"values": [0.1, 1e-3]}},
            },
            r"space.optimizer may draw 'prodigy'.*text_encoder_learning_rate is 0.1, but Prodigy finds one rate",
        ),
        (
            {"training": {"adapter": "loha"}},
            r"adapter is 'loha', but diffusers' pipelines do not load .*; choose one of 'lora', 'rslora', or train it",
        ),
        (
            {"space": {"adapter": {"values": ["lora", "dora"]}}},
            r"space.adapter may draw 'dora': adapter is 'dora', but A1111 divides .* choose one of 'lora', 'rslora', or"
            r" train it without a search, by trainer.run",
        ),
        (
            {"space": {"adapter": {"values": ["lora", "lokr"]}}},
            r"space.adapter may draw 'lokr': adapter is 'lokr', .* choose one of 'lora', 'rslora', or train",
        ),
        ({"space": {"rank_pattern": {"values": [1, 2]}}}, r"'rank_pattern' cannot vary: a space draws single values"),
        (
            {"training": {"lr_warmup_steps": 60}, "space": {"steps": {"low": 50, "high": 150}}},
            r"space.steps may draw 50: lr_warmup_steps is 60",
        ),
        ({"space": {"resolution": {"values": [64, 128]}}}, "'resolution' cannot vary: the photos are encoded once"),
        ({"space": {"seed": {"low": 0, "high": 9}}}, "'seed' cannot vary: every trial has a seed of its own"),
        ({"training": {"prior_loss_weight": 1}}, "prior_loss_weight is 1.0, but there are no class images"),
        (
            {"space": {"prior_loss_weight": {"values": [0, 0.5]}}},
            "prior_loss_weight is 0.5, but there are no class images; give photos.prior a prompt",
        ),
        ({"photos": {"folder": "photos", "prior": {"prompt": "a man"}}}, "set training.prior_loss_weight"),
        ({"photos": {"folder": "photos", "prior": {"prompt": "a man", "images": 0}}}, "photos.prior: images is 0"),
        (
            {
                "photos": {"folder": "photos", "prior": {"prompt": "a man", "folder": "men"}},
                "training": {"prior_loss_weight": 1},
            },
            "men is not a folder",
        ),
        ({"seats": {"gpus_per_worker": 0}}, "seats.gpus_per_worker"),
        ({"first_trials": [{"dropout": 0.1}]}, "first_trials names 'dropout'"),
    ],
)
def test_values_that_cannot_work_are_refused_before_anything_starts(
    change: dict[str, Any], message: str, document: dict[str, Any], write_config: Write
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        load_config(write_config({**document, **change}))


def test_what_the_homeworks_protocol_leaves_open_is_the_homeworks(
    document: dict[str, Any], write_config: Write
) -> None:
    document["evaluation"]["protocol"] = "hw10"
    del document["evaluation"]["generation"]
    assert load_config(write_config(document)).evaluation.generation == GenerationConfig(**GENERATION)
    document["evaluation"]["generation"] = {"resolution": 64, "steps": 12}
    config = load_config(write_config(document))
    assert config.evaluation.generation == GenerationConfig(**{**GENERATION, "resolution": 64, "steps": 12})
    assert hw10_generation(config.evaluation.generation) == GenerationConfig(**{**GENERATION, "resolution": 64})
    document["evaluation"]["generation"] = {"resolution": 64, "stepps": 12}
    with pytest.raises(ConfigurationError, match="did you mean 'steps'"):
        load_config(write_config(document))
    document["evaluation"] |= {"protocol": "likeness", "generation": {"resolution": 64}}
    with pytest.raises(ConfigurationError, match=r"evaluation.generation.batch_size: this key is missing"):
        load_config(write_config(document))


def test_a_second_judge_is_another_than_the_first(document: dict[str, Any], write_config: Write) -> None:
    document["evaluation"] |= {"faces": {"detector": "dlib"}, "second_judge": {"detector": "dlib"}}
    message = (
        r"evaluation: second_judge is the same as faces \(GhostFaceNet with dlib\).*another recognizer or detector"
    )
    with pytest.raises(ConfigurationError, match=message):
        load_config(write_config(document))
    document["evaluation"]["second_judge"] = {"recognizer": "Dlib", "detector": "dlib"}
    config = load_config(write_config(document))
    assert config.evaluation.second_judge == FaceConfig(recognizer="Dlib", detector="dlib")
    del document["evaluation"]["second_judge"]
    assert load_config(write_config(document)).evaluation.second_judge is None


def test_a_recogniser_may_be_a_file_beside_the_configuration(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    document["evaluation"] |= {
        "faces": {"recognizer": {"onnx": "judge.onnx"}, "detector": "dlib"},
        "second_judge": {"recognizer": {"onnx": "judge.onnx", "size": 128}, "detector": "dlib"},
    }
    path = write_config(document)
    with pytest.raises(ConfigurationError, match=r"judge.onnx is not a file \(looked for "):
        load_config(path)
    (tmp_path / "judge.onnx").touch()
    config = load_config(path)
    file = tmp_path.resolve() / "judge.onnx"
    assert config.evaluation.faces == FaceConfig(recognizer=OnnxRecognizer(onnx=file), detector="dlib")
    assert config.evaluation.second_judge == FaceConfig(recognizer=OnnxRecognizer(onnx=file, size=128), detector="dlib")
    (tmp_path / "again.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "again.yaml") == config
    document["evaluation"]["faces"]["recognizer"] = {"onnx": "judge.onnx", "side": 128}
    with pytest.raises(ConfigurationError, match=r"evaluation.faces.recognizer.side: there is no such key"):
        load_config(write_config(document))


def test_a_file_that_is_not_utf8_is_named(document: dict[str, Any], write_config: Write, tmp_path: Path) -> None:
    path = write_config(document)
    (tmp_path / "final.txt").write_bytes("a photo of {trigger}, überrascht".encode("latin-1"))
    with pytest.raises(ConfigurationError, match=r"final.txt is not UTF-8"):
        read_prompts(tmp_path / "final.txt")
    path.write_bytes(b"name: \xfc")
    with pytest.raises(ConfigurationError, match="is not UTF-8"):
        load_config(path)


def test_a_password_is_not_written_down(document: dict[str, Any], write_config: Write) -> None:
    document["tracking"] = {"uri": "postgresql://user:s3cret@host/db"}
    written = dump_config(load_config(write_config(document)))
    assert "s3cret" not in written
    assert "postgresql://user@host/db" in written
    assert without_password("sqlite:////tmp/a:b@c/mlflow.db") == "sqlite:////tmp/a:b@c/mlflow.db"
    assert without_password("http://host:5000") == "http://host:5000"


def test_the_first_trial_is_the_homeworks_within_the_space(document: dict[str, Any], write_config: Write) -> None:
    config = load_config(write_config(document))
    assert config.first_trials == (HOMEWORK,)
    params = clip(config.space, HOMEWORK)
    assert params == {"learning_rate": 1e-4, "rank": 16, "alpha": 16, "steps": 150}
    training = config.training_config(params, seed=3)
    assert (training.learning_rate, training.rank, training.seed, training.batch_size) == (1e-4, 16, 3, 2)


def test_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("# comment\n\n a cat \na dog\n")
    assert read_prompts(path) == ("a cat", "a dog")
    path.write_text("# nothing\n")
    with pytest.raises(ConfigurationError, match="holds no prompt"):
        read_prompts(path)
    path.write_text("a cat\na dog\na cat\n")
    with pytest.raises(ConfigurationError, match="'a cat'"):
        read_prompts(path)


def test_photos_are_encoded_in_every_form_that_some_trial_may_show(
    document: dict[str, Any], write_config: Write
) -> None:
    document["training"]["caption_dropout"] = 0.1
    document["space"]["horizontal_flip"] = {"values": [0.0, 0.5]}
    config = load_config(write_config(document))
    prompts = {"validation": PromptSet(prompts=("a man",), seeds=(1,))}
    setup = RunnerSetup.of(config, PhotoSplit(training=(), reference=()), prompts, {})  # type: ignore[arg-type]
    assert setup.views == Views(mirrored=True, empty_caption=True)


def test_seeds_of_trials_and_retrainings_are_seeds_of_the_trainer(
    document: dict[str, Any], write_config: Write
) -> None:
    path = write_config({**document, "training": {**document["training"], "seed": HIGHEST_TRAINING_SEED}})
    config = load_config(path, [f"trials={MOST_TRIALS}", "final.retrain=100", "seed=4294967295"])
    seeds = [
        config.trial_seed(number, retraining=again) for number in (0, RETRAINING_SEED_STRIDE - 1) for again in (0, 100)
    ]
    assert len(set(seeds)) == 4
    for seed in seeds:
        assert config.training_config({}, seed=seed).seed == seed


def test_settings_of_a_text_encoder_that_some_trials_train_count(document: dict[str, Any], write_config: Write) -> None:
    document["training"] |= {"text_encoder_learning_rate": 0, "text_encoder_rank": 8}
    with pytest.raises(ConfigurationError, match="text_encoder_rank would change nothing"):
        load_config(write_config(document))
    document["space"]["text_encoder_learning_rate"] = {"values": [0, 1e-4]}
    assert load_config(write_config(document)).training.text_encoder_rank == 8
    del document["training"]["text_encoder_rank"], document["space"]["text_encoder_learning_rate"]
    document["space"]["text_encoder_steps"] = {"values": [10, 20]}
    with pytest.raises(ConfigurationError, match="text_encoder_steps would change nothing"):
        load_config(write_config(document))
