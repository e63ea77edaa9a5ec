"""YAML as people write it: what is read is what is meant, or is refused; what is written is read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
import yaml
from pydantic import BaseModel, Field

from trainer.yaml_text import Misread, dump_yaml, parse_value, parse_yaml


@dataclass(frozen=True, kw_only=True)
class Inner:
    share: float = 0.0
    label: str | None = None
    counts: tuple[int, ...] = ()
    table: Mapping[str, int] = field(default_factory=dict)


class Outer(BaseModel):
    name: Annotated[str, Field(min_length=1)]
    kind: Literal["no", "bf16"] = "no"
    folder: Path = Path()
    class_word: str = Field(default="", alias="class")
    count: int = 1
    switch: bool = False
    either: bool | float | int | str = 0
    inner: Inner = Inner()
    inners: dict[str, Annotated[Inner, "tagged"]] = Field(default={})


KINDS = (Outer,)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("1e-4", 1e-4),
        ("1E-3", 1e-3),
        ("2e1", 20.0),
        (".5e-3", 5e-4),
        ("5e-04", 5e-4),
        ("1.50", 1.5),
        ("1_000", 1000),
        ("-0.0", -0.0),
        ("1.", 1.0),
        ("0x1F", 31),
        ("0", 0),
        ("-7", -7),
        (".inf", math.inf),
        ("-.inf", -math.inf),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("1:30", "1:30"),
        ("6:30:00", "6:30:00"),
        ("0123", "0123"),
        ("0o17", "0o17"),
        ("0b1", "0b1"),
        ("2026-11-27", "2026-11-27"),
        ("2026-11-27 10:00:00", "2026-11-27 10:00:00"),
        ("yes", "yes"),
        ("no", "no"),
        ("on", "on"),
        ("Off", "Off"),
        ("=", "="),
        ("1e", "1e"),
        ("50%", "50%"),
        ("0,0001", "0,0001"),
        ("1e-4 # note", 1e-4),
    ],
)
def test_scalars_are_what_people_mean(written: str, meant: object) -> None:
    read = parse_yaml(f"a: {written}")["a"]
    assert (type(read), read) == (type(meant), meant)
    assert math.isnan(parse_yaml("a: .nan")["a"])


@pytest.mark.parametrize(
    "text",
    ["2026-11-27", "42", "007", "1e4", "1.50", "no", "on", "0x1F", "12:30", "1_000", ".5", "-7", "1e-4", "true-ish"],
)
def test_where_text_is_due_the_scalar_is_its_own_text(text: str) -> None:
    read = parse_yaml(f"{{name: {text}, folder: {text}, class: {text}, inner: {{table: {{{text}: 1}}}}}}", KINDS)
    assert read == {"name": text, "folder": text, "class": text, "inner": {"table": {text: 1}}}


def test_where_a_switch_or_one_of_several_words_is_due_each_has_its_own() -> None:
    read = parse_yaml("{kind: no, switch: yes, either: on}", KINDS)
    assert read == {"kind": "no", "switch": True, "either": "on"}
    assert Outer(name="a", **read).switch is True


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("count: true", "count: true stands where a number is due; give the number"),
        ("inner: {share: on}", "inner.share: on stands where a number is due"),
        ("inner: {counts: [1, no]}", "inner.counts: no stands where a number is due"),
        ("inners: {a: {share: yes}}", "yes stands where a number is due"),
        (
            "inner: {label: no}",
            "inner.label: no is text here; for none write null, for the word put it in quotes",
        ),
        ("count: 0123", "count: 0123 begins with a zero; write 123"),
        ("either: 08", "08 begins with a zero; write 8"),
        ("inner: {counts: [0,0001]}", "0001 begins with a zero; write 1, or a decimal point"),
        ("inner: {share: 0,0001}", "0001 stands alone behind a comma; a number has a decimal point, as 0.0001"),
        ("inner: {share: 1,000}", "000 stands alone behind a comma"),
        (f"count: {'9' * 5000}", "this number has more than 20 digits; give a smaller one"),
        ("count: !!int 0123", "the tag 'tag:yaml.org,2002:int' is not read here; leave it out"),
        ("count: !!python/object:os.system {}", "is not read here; leave it out"),
        ("inner: !!set {a}", "is not read here; leave it out"),
        ("inner: &a {table: *a}", "this refers to itself; write it out"),
        ("inner: &a {<<: *a}", "this refers to itself; write it out"),
        ("? [a, b]\n: 1", "this is no key; give a word"),
        ("[" * 60 + "]" * 60, "this is nested too deeply"),
        ("[" * 100_000, "this is nested too deeply"),
        ('name: "a\\0b"', "name: this text holds a NUL character; leave it out"),
    ],
)
def test_what_would_be_misread_is_refused_with_the_remedy(document: str, message: str) -> None:
    with pytest.raises(Misread) as error:
        parse_yaml(document, KINDS)
    assert message in str(error.value)
    assert "line 1, column" in str(error.value)


@pytest.mark.parametrize(
    "document", ["a: b: c", "\ta: 1", "a: [1", "a: \x07", "--- 1\n--- 2", "a: *b", "a: !!int x", "\ufffe"]
)
def test_what_is_no_yaml_is_an_error_of_yaml(document: str) -> None:
    with pytest.raises(yaml.YAMLError):
        parse_yaml(document, KINDS)


def test_a_key_that_is_given_twice_is_refused_with_both_lines() -> None:
    with pytest.raises(Misread) as error:
        parse_yaml("name: a\ninner:\n  share: 1\ncount: 2\ninner: {}\n", KINDS, source="anna.yaml")
    told = str(error.value)
    assert "the key 'inner' is given here" in told
    assert 'in "anna.yaml", line 2, column 1' in told
    assert "and here again, so that one of the two would count for nothing; keep one" in told
    assert 'in "anna.yaml", line 5, column 1' in told
    with pytest.raises(Misread, match="the key 'a' is given here"):
        parse_yaml("inner: {table: {&k a: 1, *k : 2}}", KINDS)
    with pytest.raises(Misread, match="the key '1' is given here"):
        parse_yaml("inner: {table: {1: 1, '1': 2}}", KINDS)


def test_merge_keys_go_on_working() -> None:
    document = "inners:\n  a: &a {share: 1, label: 7}\n  b: {<<: *a, share: 2}\n  c: {<<: [*a, {counts: [3]}]}\n"
    assert parse_yaml(document, KINDS)["inners"] == {
        "a": {"share": 1, "label": "7"},
        "b": {"share": 2, "label": "7"},
        "c": {"share": 1, "label": "7", "counts": [3]},
    }


def test_many_aliases_of_aliases_are_read_once() -> None:
    levels = "".join(f"  - &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    read: Any = parse_yaml(f"either:\n  - &l0 [1]\n{levels}", KINDS)["either"]
    assert len(read) == 30


@pytest.mark.parametrize(
    ("kinds", "text", "value"),
    [
        ((Path,), "a #1", "a #1"),
        ((Path,), "#1", "#1"),
        ((Path,), "/tmp/[x]{y}: z", "/tmp/[x]{y}: z"),
        ((str,), "3007", "3007"),
        ((str,), "null", "null"),
        ((str,), "", ""),
        ((str,), "'a # b'", "a # b"),
        ((str,), '"a\\tb"', "a\tb"),
        ((str, type(None)), "null", None),
        ((str, type(None)), "nullable", "nullable"),
        ((str, Inner), "{share: 1, label: 7}", {"share": 1, "label": "7"}),
        ((str, Inner), "Face Net", "Face Net"),
        ((str, Inner), "42", "42"),
        ((int,), "3", 3),
        ((int,), "3 # three", "3 # three"),
        ((tuple[int, ...],), "[1, 2]", [1, 2]),
        ((Inner,), "{share: 1e-4, label: 42}", {"share": 1e-4, "label": "42"}),
        ((Inner, type(None)), "null", None),
        ((Inner,), "", None),
        ((), "a #1", "a #1"),
    ],
)
def test_a_value_on_the_command_line_has_no_comments_and_its_text_no_quotes(
    kinds: tuple[Any, ...], text: str, value: object
) -> None:
    assert parse_value(text, kinds) == value


@pytest.mark.parametrize(
    ("kinds", "text", "message"),
    [
        ((tuple[int, ...],), "[1, 2] #3", "'#3' follows the value's end; leave it out"),
        ((str,), "'a' #3", "'#3' follows the value's end"),
        ((Inner,), "{share: 1, share: 2}", "the key 'share' is given here"),
        ((int,), "true", "true stands where a number is due"),
        ((str, type(None)), "off", "off is text here; for none write null, for the word put it in quotes"),
    ],
)
def test_a_value_on_the_command_line_that_would_be_misread_is_refused(
    kinds: tuple[Any, ...], text: str, message: str
) -> None:
    with pytest.raises(Misread) as error:
        parse_value(text, kinds)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "value",
    [
        *("1e-4", "2e1", "1.50", "no", "on", "1:30", "0123", "08", "2026-11-27", "null", "~", "", "<<", "=", "0x1F"),
        *(
            "# a",
            "a #1",
            "a: b",
            "[x]",
            "{y}",
            "- a",
            "ä",
            "😀",
            "a\nb",
            "\x07",
            "'",
            '"',
            "@a",
            "%a",
            "*a",
            "&a",
            "!a",
        ),
        *(1, 0, -1, 1e-5, 1e300, 0.1 + 0.2, -0.0, math.inf, True, False, None, [], {}, [1, "1"], {"1": {"no": "yes"}}),
    ],
)
def test_what_is_written_is_read_back(value: object) -> None:
    read = parse_yaml(dump_yaml({"a": value}))["a"]
    assert (type(read), read) == (type(value), value)
    assert yaml.safe_load(dump_yaml({"a": value}))["a"] == value, "by readers of YAML 1.1, too"
