"""Names and texts that a user gives: none leaves the run folder, none breaks out of the card."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.config.search_config import ConfigurationError, load_config
from search.storage.run_folder import RunFolder

Write = Callable[[dict[str, Any]], Path]


@pytest.mark.parametrize(
    "name",
    [
        "../anna",
        "..",
        ".",
        ".hidden",
        "/anna",
        "anna/../../bob",
        "an\\na",
        "an\0na",
        "anna\n",
        "anna ",
        "-rf",
        "~",
        "$HOME",
        "änna",
        "",
        "a" * 101,
    ],
)
def test_a_name_that_could_leave_the_folder_of_runs_is_refused(
    name: str, document: dict[str, Any], write_config: Write
) -> None:
    with pytest.raises(ConfigurationError, match="name: "):
        load_config(write_config({**document, "name": name}))


@pytest.mark.parametrize("name", ["anna", "a..b", "2.5-anna_x", "a" * 100])
def test_a_run_lies_in_the_folder_of_runs(name: str, document: dict[str, Any], write_config: Write) -> None:
    config = load_config(write_config({**document, "name": name}))
    with RunFolder.make(config) as run:
        assert run.path.resolve() == config.runs / name


def test_a_link_in_place_of_a_run_is_not_followed(
    document: dict[str, Any], write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(document))
    config.runs.mkdir()
    (config.runs / "anna").symlink_to(tmp_path)
    with pytest.raises(ConfigurationError, match="anna exists already"):
        RunFolder.make(config)


@pytest.mark.parametrize(
    "trigger", ["", " sks", "sks\n# heading", "`id`", '"', "\\", "<script>", "{sks}", "a|b", "s\0ks", "s" * 101]
)
def test_a_trigger_that_could_break_out_of_the_card_is_refused(
    trigger: str, document: dict[str, Any], write_config: Write
) -> None:
    document["photos"]["trigger"] = trigger
    with pytest.raises(ConfigurationError, match=r"photos\.trigger: "):
        load_config(write_config(document))


@pytest.mark.parametrize("trigger", ["sks", "ohwx man", "安娜", "anna_b-1"])
def test_words_of_any_language_are_triggers(trigger: str, document: dict[str, Any], write_config: Write) -> None:
    document["photos"]["trigger"] = trigger
    assert load_config(write_config(document)).photos.trigger == trigger
