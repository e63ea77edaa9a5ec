"""The demo's configuration, damaged at random: every one is used or refused in words, none ends in a traceback.

A mutation is a function of its number, so that a failure can be repeated: `damaged(number)`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from search.config.search_config import ConfigurationError, SearchConfig, dump_config, load_config
from tests.odd_input.test_odd_input import RUN, run
from tests.support.short_search import DEMO
from trainer.config import TrainingConfig
from trainer.run_config import RunConfig, load_run_config

MUTATIONS = 600
DRY_RUNS = 12
"""How many of those that are accepted go on to a dry run, which reads photos and takes a while."""
LONGEST_MESSAGE = 5000
PARTS = ("photos", "prompts", "base", "clip")

TEXT = (DEMO / "search.yaml").read_text("utf-8")
WORDS = """
    1:30 0123 08 0o17 0x1F 0b1 1_000 1e-4 2e1 .5e-3 1e400 -1e400 -0.0 .inf -.inf .nan 1e18 -1 0 1 2 3.7 50% 0,0001
    1.000,5 99999999999999999999 9223372036854775808 4294967296 true false yes no on off null ~ 2026-11-27 12:30:45
    = << ? - ! !!int !!set *a &a @x `x %x 'a "a [ ] { } [] {} [[]] [1,2] {a:1} [null] {trigger}
    \\ / . .. ../.. ~root ~nobody-here /dev/null /etc/passwd
"""
SPACED = ("", " ", "a #b", "# a", "a: b", "{a: 1}", "\t", "a\nb", "2026-11-27 10:00:00")
CHARACTERS = ("ä", "😀", "\u202e", "\ufeff", "\x07", "\x00", "x" * 5000, "9" * 5000, "[" * 3000)
SCALARS = (*WORDS.split(), *SPACED, *CHARACTERS)
KEYS = (
    "rank",
    "",
    "1",
    "no",
    "<<",
    "learning_rate",
    "when",
    "class",
    "__class__",
    "model_config",
    "a.b",
    "ä",
    "self",
    "null",
    "[a]",
)


def odd_scalar(draw: random.Random) -> str:
    return draw.choice(SCALARS)


def lines_dropped(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    at = draw.randrange(len(lines))
    return "\n".join(lines[:at] + lines[at + draw.randint(1, 3) :])


def line_repeated(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    lines.insert(draw.randrange(len(lines)), draw.choice(lines))
    return "\n".join(lines)


def indented_otherwise(text: str, draw: random.Random) -> str:
    lines = text.splitlines()
    at = draw.randrange(len(lines))
    lines[at] = draw.choice(["", " ", "   ", "\t", "        "]) + lines[at].lstrip()
    return "\n".join(lines)


def scalar_written_otherwise(text: str, draw: random.Random) -> str:
    found = draw.choice(list(re.finditer(r"(?<=[:,\[] )[^\s,:{}\[\]#]+|(?<=[:] )\{.*\}|(?<=[:] )\[.*\]", text)))
    return text[: found.start()] + odd_scalar(draw) + text[found.end() :]


def key_written_otherwise(text: str, draw: random.Random) -> str:
    found = draw.choice(list(re.finditer(r"\w+(?=:)", text)))
    key = draw.choice([*KEYS, found[0].upper(), found[0][:-1], found[0] + "s"])
    return text[: found.start()] + key + text[found.end() :]


def character_changed(text: str, draw: random.Random) -> str:
    at = draw.randrange(len(text))
    character = draw.choice(
        [
            "",
            "\x00",
            "\x1b",
            "\ufffe",
            "\u2028",
            "\u0085",
            "\u00a0",
            ":",
            "-",
            "{",
            "]",
            "'",
            '"',
            "#",
            "\t",
            "|",
            ">",
            "&",
            "*",
            "!",
            "%",
        ]
    )
    return text[:at] + character + text[at + draw.randint(0, 1) :]


def cut_off(text: str, draw: random.Random) -> str:
    return text[: draw.randrange(len(text))]


def places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a document with every key or index of it."""
    keys = list(document) if isinstance(document, dict) else range(len(document)) if isinstance(document, list) else ()
    for key in keys:
        yield document, key
        yield from places(document[key])


VALUES: tuple[Any, ...] = (
    *(
        None,
        True,
        False,
        0,
        1,
        -1,
        2**31,
        2**63,
        2**64 - 1,
        1e300,
        -1e300,
        5e-324,
        float("inf"),
        float("nan"),
        0.5,
        1e6,
    ),
    *("", " ", "x", "ä😀", "1", "1e-4", "nan", "inf", "1:30", "a/b", "../x", "{trigger}", "\x00", "a\x07b", "x" * 300),
    *(
        [],
        [None],
        [[]],
        [1, 1],
        ["a", 1],
        {},
        {"a": 1},
        {"low": 1, "high": 2},
        {"values": []},
        {"": None},
        {"values": [[1]]},
    ),
    *(
        {"low": 2**62, "high": 2**63 - 1, "step": 1},
        {"low": 1, "high": 10**9},
        {"low": 1, "high": 10**18},
        {"ratio": [1], "of": "steps"},
    ),
    *(
        {"values": list(range(300))},
        {"values": [1e308, 5e-324]},
        {"ratio": [1e300, 5e-324]},
        {"values": [2], "when": {"rank": 4}},
    ),
)


def value_of_another_kind(text: str, draw: random.Random) -> str:
    document = yaml.safe_load(text)
    container, key = draw.choice(list(places(document)))
    container[key] = deepcopy(draw.choice(VALUES))
    return yaml.safe_dump(document)


def setting_added(text: str, draw: random.Random) -> str:
    """Any setting that exists, where it belongs or in the space, with any value."""
    document = yaml.safe_load(text)
    sections = {name: field.annotation for name, field in SearchConfig.model_fields.items()}
    section = draw.choice(["training", "space", *sections])
    if section in ("training", "space"):
        document[section][draw.choice(list(TrainingConfig.__dataclass_fields__))] = deepcopy(draw.choice(VALUES))
        return yaml.safe_dump(document)
    kind = sections[section]
    names = getattr(kind, "model_fields", None)
    if names:
        owner = document.setdefault(section, {})
        owner[draw.choice(list(names))] = deepcopy(draw.choice(VALUES))
    else:
        document[section] = deepcopy(draw.choice(VALUES))
    return yaml.safe_dump(document)


MUTATORS: tuple[Callable[[str, random.Random], str], ...] = (
    lines_dropped,
    line_repeated,
    indented_otherwise,
    scalar_written_otherwise,
    scalar_written_otherwise,
    key_written_otherwise,
    character_changed,
    cut_off,
    value_of_another_kind,
    value_of_another_kind,
    setting_added,
    setting_added,
    setting_added,
)


def damaged(number: int, text: str = TEXT) -> str:
    """The file, by default the demo's, with one fault, sometimes two."""
    draw = random.Random(number)
    for mutator in draw.sample(MUTATORS, draw.choice([1, 1, 1, 2])):
        try:
            text = mutator(text, draw)
        except (yaml.YAMLError, TypeError, KeyError, IndexError, AttributeError, ValueError):
            continue  # what the first has done the second cannot read
    return text


def check_messages(refused: Mapping[int, str]) -> None:
    wordless = {number: told for number, told in refused.items() if not re.search(r"[a-z]{2,} [a-z]{2,}", told)}
    assert not wordless
    assert max(map(len, refused.values())) < LONGEST_MESSAGE


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for part in PARTS:
        (tmp_path / part).symlink_to(DEMO / part)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_damaged_configuration_is_used_or_refused_in_words(folder: Path) -> None:
    path = folder / "search.yaml"
    accepted: list[int] = []
    refused: dict[int, str] = {}
    for number in range(MUTATIONS):
        path.write_text(damaged(number), "utf-8", newline="")
        try:
            config = load_config(path)
        except ConfigurationError as error:
            refused[number] = str(error)
            continue
        except Exception as error:
            raise AssertionError(f"mutation {number} ends in a traceback") from error
        accepted.append(number)
        (folder / "again.yaml").write_text(dump_config(config), "utf-8")
        again = load_config(folder / "again.yaml")
        assert dump_config(again) == dump_config(config), f"mutation {number} does not read back as itself"
    check_messages(refused)
    assert (len(refused) > MUTATIONS / 2, len(accepted) > MUTATIONS / 10) == (True, True), "the mutations test little"

    for number in accepted[:: max(1, len(accepted) // DRY_RUNS)]:
        path.write_text(damaged(number), "utf-8", newline="")
        code, printed = run("search.run", ["search.yaml", "--dry-run"])
        assert code in (0, 2), f"mutation {number} ends with {code}: {printed}"
        assert "Traceback" not in printed
        assert printed.strip(), f"mutation {number} ends without a word"
    assert {each.name for each in folder.iterdir()} == {*PARTS, "search.yaml", "again.yaml"}


def test_every_damaged_training_run_is_used_or_refused_in_words(folder: Path) -> None:
    path, accepted = folder / "run.yaml", 0
    refused: dict[int, str] = {}
    for number in range(MUTATIONS // 2):
        path.write_text(damaged(number, RUN), "utf-8", newline="")
        try:
            accepted += isinstance(load_run_config(path), RunConfig)
        except ConfigurationError as error:
            refused[number] = str(error)
        except Exception as error:
            raise AssertionError(f"mutation {number} ends in a traceback") from error
    check_messages(refused)
    assert (len(refused) > MUTATIONS / 5, accepted > MUTATIONS / 40) == (True, True), "the mutations test little"
    assert {each.name for each in folder.iterdir()} == {*PARTS, "run.yaml"}
