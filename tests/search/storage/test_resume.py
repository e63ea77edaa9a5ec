"""Whether a run may go on: its settings and its inputs are compared, and what differs is named."""

import unicodedata
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from search.config.search_config import ConfigurationError, SearchConfig, load_config
from search.storage.resume import forget_final, how_to_resume, read_continuation
from search.storage.run_folder import RunFolder, changed_inputs, inputs_of, read_config

Write = Callable[[dict[str, Any]], Path]


@pytest.fixture
def run(document: dict[str, Any], write_config: Write) -> Path:
    config = load_config(write_config(document))
    with RunFolder.make(config) as folder:
        folder.begin(config, {})
        return folder.path


def test_the_runs_own_configuration_counts(run: Path) -> None:
    going_on = read_continuation(run)
    assert going_on.config == load_config(run / "search.yaml")
    assert (going_on.folder, going_on.changes) == (run, ())
    assert not going_on.changes_final


@pytest.mark.parametrize("name", ["1e4", "007", "1.50", "2026-11-27", "no", "null", "0x1F"])
def test_a_run_goes_on_under_a_name_that_looks_like_something_else(
    name: str, document: dict[str, Any], write_config: Write
) -> None:
    config = load_config(write_config(document), [f"name={name}"])
    with RunFolder.make(config) as folder:
        folder.begin(config, {})
    going_on = read_continuation(folder.path)
    assert (going_on.config, going_on.changes) == (config, ())
    assert (going_on.config.name, folder.path.name) == (name, name)
    assert read_config(folder.path) == config


def test_more_trials_seats_tracking_and_the_final_may_change(run: Path) -> None:
    overrides = ["trials=9", "seats.count=1", "tracking.experiment=other", "final.retrain=0"]
    going_on = read_continuation(run, overrides=overrides)
    assert [str(change) for change in going_on.changes] == [
        "trials: 4 before, 9 now",
        "seats.count: None before, 1 now",
        "final.retrain: 2 before, 0 now",
        "tracking.experiment: 'likeness' before, 'other' now",
    ]
    assert (going_on.changes_final, going_on.remeasures_final) == (True, False)
    assert read_continuation(run, overrides=["final.seeds=[7]"]).remeasures_final


def test_what_a_trial_or_a_score_means_may_not_change(run: Path, document: dict[str, Any], write_config: Write) -> None:
    document["space"]["learning_rate"]["high"] = 0.1
    del document["space"]["alpha"]
    document["evaluation"]["every"] = 25
    document["trials"] = 6
    with pytest.raises(ConfigurationError) as error:
        read_continuation(run, write_config(document))
    assert str(error.value).splitlines()[1:] == [
        "  space.alpha.low: 1 before, None now",
        "  space.alpha.high: 32 before, None now",
        "  space.alpha.step: 1 before, None now",
        "  space.learning_rate.high: 0.01 before, 0.1 now",
        "  evaluation.every: 50 before, 25 now",
        "only trials, seats, tracking, final, budget may change; begin a new run with another --name for these",
    ]


def test_a_configuration_file_is_of_many_runs_but_a_name_that_is_given_counts(
    run: Path, document: dict[str, Any], write_config: Write
) -> None:
    document |= {"name": "template", "trials": 5}
    going_on = read_continuation(run, write_config(document))
    assert (going_on.config.name, going_on.config.trials) == ("anna", 5)
    with pytest.raises(ConfigurationError, match=r"name: 'anna' before, 'berta' now"):
        read_continuation(run, overrides=["name=berta"])


def test_a_moved_run_goes_on_where_it_lies(run: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "anna"
    moved.parent.mkdir()
    run.rename(moved)
    going_on = read_continuation(moved)
    assert (going_on.folder, going_on.config.runs, going_on.changes) == (moved, moved.parent, ())


def begun_in(project: Path) -> Path:
    """A run in a project of its own: everything that the configuration names lies in it."""
    (project / "photos").mkdir(parents=True)
    (project / "base").mkdir()
    (project / "base/model_index.json").write_text("{}")
    (project / "validation.txt").write_text("a photo of {trigger} man\n")
    (project / "final.txt").write_text("a photo of {trigger} man, sad\n")
    document = {
        "name": "anna",
        "model": "base",
        "photos": {"folder": "photos"},
        "space": {"learning_rate": {"low": 1e-5, "high": 1e-2, "log": True}},
        "evaluation": {"prompts": "validation.txt", "generation": {"resolution": 64, "batch_size": 4}},
        "final": {"prompts": "final.txt"},
        "runs": str(project / "runs"),
    }
    (project / "search.yaml").write_text(yaml.safe_dump(document), "utf-8")
    config = load_config(project / "search.yaml")
    photo: Any = SimpleNamespace(path=Path("a.jpg"), sha256="sum of it", caption="a photo of sks man", crop=None)
    split: Any = SimpleNamespace(training=[photo], reference=[])
    with RunFolder.make(config) as folder:
        folder.begin(config, inputs_of(config, split))
        return folder.path


def test_a_moved_project_goes_on_with_what_lies_beside_the_run_now(tmp_path: Path) -> None:
    run = begun_in(tmp_path / "project")
    moved = tmp_path / "a # b" / "project"
    moved.parent.mkdir()
    (tmp_path / "project").rename(moved)
    run = moved / "runs" / run.name
    for config in (None, moved / "search.yaml"):
        going_on = read_continuation(run, config)
        assert (going_on.changes, going_on.changes_final) == ((), False)
        assert going_on.config.model == str(moved / "base")
        assert going_on.config.photos.folder == moved / "photos"
        assert going_on.config.evaluation.prompts == moved / "validation.txt"
        assert going_on.config.final.prompts == moved / "final.txt"
        assert going_on.config.runs == moved / "runs"
    (moved / "final.txt").write_text("a photo of {trigger} man, happy\n")
    assert read_continuation(run).remeasures_final, "other prompts are another final"


def test_what_was_moved_elsewhere_is_named_and_may_be_given(tmp_path: Path) -> None:
    run = begun_in(tmp_path / "project")
    (tmp_path / "project/photos").rename(tmp_path / "faces")
    with pytest.raises(ConfigurationError) as error:
        read_continuation(run)
    assert str(error.value) == (
        f"{run} was begun with photos.folder {tmp_path / 'project/photos'}, of which nothing is there now; give the "
        f"configuration of the moved project, python -m search.run CONFIG --resume {run}, or say where it is, --set "
        "photos.folder=PATH"
    )
    going_on = read_continuation(run, overrides=[f"photos.folder={tmp_path / 'faces'}"])
    assert (going_on.config.photos.folder, going_on.changes) == (tmp_path / "faces", ())


def test_a_path_to_something_that_was_never_written_down_is_another_search(tmp_path: Path) -> None:
    run = begun_in(tmp_path / "project")
    (run / "inputs.json").unlink()
    (tmp_path / "faces").mkdir()
    with pytest.raises(ConfigurationError, match=r"photos.folder: .*/project/photos' before, .*/faces' now"):
        read_continuation(run, overrides=[f"photos.folder={tmp_path / 'faces'}"])
    with pytest.raises(ConfigurationError, match=r"model: .*/base' before, 'someone/else' now"):
        read_continuation(run, overrides=["model=someone/else"])


def test_what_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere is not a run: .*; give one, as runs/demo"):
        read_continuation(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=r"empty is not a run: .*remove it and begin anew"):
        read_continuation(tmp_path / "empty")


def test_inputs_that_changed_are_named(run: Path, tmp_path: Path) -> None:
    config: SearchConfig = load_config(run / "search.yaml")

    def photo(name: str, caption: str = "a photo of sks man") -> Any:
        return SimpleNamespace(
            path=Path(name), sha256=f"sum of {unicodedata.normalize('NFC', name)}", caption=caption, crop=None
        )

    def inputs(training: list[Any], reference: list[Any]) -> dict[str, str]:
        split: Any = SimpleNamespace(training=training, reference=reference)
        return inputs_of(config, split)

    before = inputs([photo("a.jpg"), photo("b.jpg"), photo("c.jpg")], [photo("d.jpg")])
    assert set(before) == {
        *(f"photo {name}.jpg" for name in "abcd"),
        *("file evaluation.prompts", "file final.prompts", "folder model", "version of the score"),
    }
    assert changed_inputs(before, inputs([photo("a.jpg"), photo("b.jpg"), photo("c.jpg")], [photo("d.jpg")])) == []
    (tmp_path / "final.txt").write_text("a photo of {trigger} man, smug\n")
    after = inputs([photo("a.jpg"), photo("b.jpg", "smiling"), photo("d.jpg")], [photo("e.jpg")])
    assert changed_inputs(before, after) == [
        "file final.prompts has changed",
        "photo b.jpg has changed",
        "photo c.jpg is gone",
        "photo d.jpg has changed",  # it has changed sides
        "photo e.jpg is new",
    ]
    moved = [inputs([photo(unicodedata.normalize(form, "été.jpg"))], []) for form in ("NFC", "NFD")]
    assert moved[0].keys() != moved[1].keys()
    assert changed_inputs(*moved) == [], "the same photo on another system"
    assert changed_inputs({}, after) == [], "a run of before these were written down"


def test_the_final_is_measured_anew_where_its_images_would_be_others(run: Path) -> None:
    for folder in ("final/000-step-20", "second-judge/final/000-step-20", "second-judge/trials/000/step-20"):
        (run / folder).mkdir(parents=True)
    forget_final(run)
    assert not (run / "final").exists()
    assert [path.name for path in (run / "second-judge").iterdir()] == ["trials"]


def test_the_line_to_go_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert how_to_resume(tmp_path / "runs" / "my run", "ray://head:10001") == (
        "interrupted; go on with: python -m search.run --resume 'runs/my run' --address ray://head:10001"
    )
    assert how_to_resume(Path("/elsewhere/anna"), None).endswith(" --resume /elsewhere/anna")
