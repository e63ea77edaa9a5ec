"""What pages name in code: files, modules, commands with their options, and settings. All of it exists."""

import importlib
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import typer
from typer.main import get_command

from search.config.__main__ import schema_of, sections
from search.config.run_layout import RunLayout
from search.config.search_config import SearchConfig
from search.storage.result_schema import Outcome
from tests.docs.conftest import Page

PACKAGES = ("search", "trainer", "evaluation", "benchmarks", "demo")

SUFFIXES = (".md", ".png", ".py", ".txt", ".yaml", ".json", ".html")

HISTORY = "CHANGELOG.md"
"""It may name what is gone."""


def test_files_that_are_named_exist(root: Path, pages: dict[str, Page]) -> None:
    missing, found = [], 0
    for page, span in _spans(pages):
        path, _, function = span.partition("::")
        if not re.fullmatch(rf"(?:{'|'.join(PACKAGES)}|tests|docs|cluster)/[\w./-]*", path):
            continue
        found += 1
        there = (root / path).exists()
        if function:
            there = (
                there and re.search(rf"^def {function}\(", (root / path).read_text("utf-8"), re.MULTILINE) is not None
            )
        if not there:
            missing.append(f"{page.name}: {span}")
    assert missing == []
    assert found > 30


def test_modules_and_settings_that_are_named_exist(pages: dict[str, Page]) -> None:
    settings, firsts = (
        _settings(),
        {*PACKAGES, *(name for name, _ in sections(schema_of(SearchConfig)) if "." not in name)},
    )
    missing, found = [], 0
    for page, span in _spans(pages):
        if not re.fullmatch(rf"(?:{'|'.join(firsts)})(?:\.\w+)+", span) or span.endswith(SUFFIXES):
            continue
        found += 1
        if span not in settings and not _resolves(span):
            missing.append(f"{page.name}: {span}")
    assert missing == []
    assert found > 30


def test_commands_and_their_options_exist(pages: dict[str, Page]) -> None:
    lines = [(page, line) for page in pages.values() for block in page.blocks("console") for line in _joined(block)]
    lines += [(page, span) for page, span in _spans(pages)]
    wrong, commands = [], set()
    for page, line in lines:
        match = re.search(rf"python -m ((?:{'|'.join(PACKAGES)})(?:\.\w+)*)(.*)", line)
        if match is None or match[1] in ("benchmarks",):
            continue
        module, rest = match.groups()
        commands.add(module)
        named = set(re.findall(r"(?<!\S)--[a-z][a-z-]*", rest.partition(" # ")[0]))
        if named - _options(module):
            wrong.append(f"{page.name}: {line}")
    assert wrong == []
    assert commands >= {"search.run", "search.photos", "search.report", "search.compare", "search.sync", "search.vote"}
    assert commands >= {"trainer.run", "search.config", "demo.build", "benchmarks.truth", "benchmarks.scale"}


def test_keys_of_the_result_that_are_named_exist(pages: dict[str, Page]) -> None:
    known = {f"{name}.{key}" for name, section in sections(schema_of(Outcome)) for key in section["properties"]}
    named = {span for _, span in _spans(pages) if re.fullmatch(r"(?:champion|cost|second_judge)\.\w+", span)}
    assert {span for span in named if not span.endswith(SUFFIXES)} - known == set()
    assert len(named) > 5


def test_walks_have_at_most_eight_steps_each_with_its_file(root: Path, pages: dict[str, Page]) -> None:
    text = pages["docs/architecture.md"].text
    for walk in ("One photo", "One trial", "One resume"):
        steps = re.findall(r"^\d\. (.+(?:\n   .+)*)", text.split(f"\n## {walk}\n")[1].split("\n## ")[0], re.MULTILINE)
        assert 5 <= len(steps) <= 8
        for step in steps:
            files = re.findall(r"`([\w/]+\.py)`", step)
            assert files, step
            assert [name for name in files if not (root / name).is_file()] == []


def test_the_run_folders_table_has_every_path(pages: dict[str, Page]) -> None:
    table = pages["docs/results.md"].text.split("## The run folder")[1].split("\n## ")[0]
    layout = RunLayout(Path())
    paths = [getattr(layout, name) for name, value in vars(RunLayout).items() if isinstance(value, property)]
    passing = {"search.lock", "ray", "votes.jsonl"}
    names = {path.parts[0] for path in (*paths, layout.base("validation"))} - passing
    assert {name for name in names if not re.search(rf"`{re.escape(name)}[/`]", table)} == set()
    assert len(names) > 12


def _settings() -> set[str]:
    """All keys of a search's configuration, with dots."""
    search = schema_of(SearchConfig)
    within = {f"{name}.{key}" for name, section in sections(search) for key in section["properties"]}
    return {*search["properties"]} | within


def _spans(pages: dict[str, Page]) -> Iterator[tuple[Page, str]]:
    """Everything between backquotes, but for fenced blocks."""
    for page in pages.values():
        if page.name != HISTORY:
            text = re.sub(r"^```.*?^```$", "", page.text, flags=re.MULTILINE | re.DOTALL)
            yield from ((page, " ".join(span.split())) for span in re.findall(r"`([^`]+)`", text))


def _joined(block: str) -> list[str]:
    return block.replace("\\\n", " ").splitlines()


def _resolves(name: str) -> bool:
    """Whether a dotted name is a module, or an attribute of one."""
    for cut in (name, name.rpartition(".")[0]):
        try:
            if importlib.util.find_spec(cut) is not None:
                return cut == name or hasattr(importlib.import_module(cut), name.rpartition(".")[2])
        except ModuleNotFoundError:
            continue
    return False


def _options(module: str) -> set[str]:
    """The options of a command, as typer makes them."""
    spec = importlib.util.find_spec(module)
    assert spec is not None, module
    command = importlib.import_module(f"{module}.__main__" if spec.submodule_search_locations else module)
    app = typer.Typer()
    app.command()(command.main)
    return {option for parameter in get_command(app).params for option in (*parameter.opts, *parameter.secondary_opts)}
