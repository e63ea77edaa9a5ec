"""Two searches side by side: verdicts, what makes scores incomparable, and what is printed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from rich.console import Console
from typer.testing import CliRunner

from benchmarks.scale.synthetic_run import write_synthetic_run
from evaluation.bootstrap import paired_difference_interval
from evaluation.objective import image_objective
from search.report.compare import main, print_comparison
from search.report.comparison import ComparedRun, Comparison, Discrepancy
from search.storage.trial_record import CheckpointResult

Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """`good`, whose best learning rate is far better than that of `poor`; all else is the same."""
    home = tmp_path_factory.mktemp("runs")
    write_synthetic_run(home, trials=3, rates=[2e-4, 1e-3, 3e-4])
    (home / "runs" / "anna").rename(home / "runs" / "good")
    for name in ("photos", "base", "validation.txt", "final.txt", "search.yaml"):
        path = home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_synthetic_run(home, trials=2, rates=[1.2e-4, 1e-4])
    (home / "runs" / "anna").rename(home / "runs" / "poor")
    return home / "runs" / "good", home / "runs" / "poor"


def compare(first: Path, second: Path) -> Comparison:
    return Comparison.of(ComparedRun.read(first), ComparedRun.read(second))


def settle(folder: Path, change: Callable[[dict[str, Any]], None], file: str = "search.yaml") -> None:
    """Change one file of a run folder."""
    path = folder / file
    content = yaml.safe_load(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def objective(folder: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """[trainings, prompts, seeds] of the champion, from the rows on disk."""
    run = ComparedRun.read(folder)
    champion = run.outcome.champion
    assert champion is not None
    trial, step = champion.trial, champion.step
    paths = [folder / "final" / f"{trial}-step-{step}", *folder.glob(f"final/{trial}-seed-*/step-{step}")]
    anchors = run.outcome.anchors["final"].anchors
    tables = []
    for path in paths:
        rows = CheckpointResult.read(path).rows
        values = [image_objective(row, anchors, run.config.evaluation.objective) for row in rows]
        tables.append(np.array(values).reshape(8, 2))
    return np.stack(tables)


def test_the_better_champion_is_named_on_the_same_prompts_and_seeds(runs: tuple[Path, Path]) -> None:
    good, poor = runs
    comparison = compare(good, poor)
    assert comparison.protocol == ()
    assert comparison.verdict.better == "first"
    lead = paired_difference_interval(objective(good), objective(poor), seed=0, level=0.95)
    assert comparison.verdict.lead == lead
    assert lead.lower > 0
    assert compare(poor, good).verdict.better == "second"
    assert [(one.what, one.first, one.second) for one in comparison.settings] == [("trials", 3, 2)]
    same = compare(good, good)
    assert (same.verdict.better, same.settings) == ("tie", ())
    assert same.verdict.lead is not None
    assert same.verdict.lead.mean == 0.0


def other_model(folder: Path) -> None:
    settle(folder, lambda content: content.update(model="another"))


def weights_of_the_base(folder: Path, digest: str) -> None:
    """Have the run say by which sum it knows its base model."""
    anchors = json.loads((folder / "result.json").read_text("utf-8"))["anchors"]["final"]
    path = folder / anchors["pairings"]
    known = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    path.write_text(json.dumps({**known, "base_sha256": digest}))


def other_weights_at_the_same_path(folder: Path) -> None:
    weights_of_the_base(folder, "0123abcd")


def other_judge(folder: Path) -> None:
    settle(folder, lambda content: content["evaluation"]["faces"].update(recognizer="ArcFace"))


def other_weights(folder: Path) -> None:
    settle(folder, lambda content: content["evaluation"]["objective"].update(likeness=0.6))


def other_steps(folder: Path) -> None:
    settle(folder, lambda content: content["evaluation"]["generation"].update(steps=5))


def other_photos(folder: Path) -> None:
    settle(folder, lambda content: content["anchors"]["final"]["real"].update(face_distance=0.41), "result.json")


def other_final(folder: Path) -> None:
    """The table of images is of another search, on other prompts and seeds."""
    import pyarrow as pa
    import pyarrow.parquet

    path = folder / "images.parquet"
    rows = pyarrow.parquet.read_table(path).to_pylist()
    changed = [{**row, "prompt": f"{row['prompt']}, sad", "seed": row["seed"] + 1} for row in rows]
    pyarrow.parquet.write_table(pa.Table.from_pylist(changed), path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (other_model, ["base model"]),
        (other_weights_at_the_same_path, ["base model"]),
        (other_judge, ["judge"]),
        (other_weights, ["weights of the objective"]),
        (other_steps, ["how images are made"]),
        (other_photos, ["reference photos"]),
        (other_final, ["prompts of the final", "seeds of the final"]),
    ],
)
def test_what_makes_scores_incomparable_is_named(
    runs: tuple[Path, Path], tmp_path: Path, change: Change, what: list[str]
) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    change(other)
    comparison = compare(runs[0], other)
    assert [one.what for one in comparison.protocol] == what
    assert comparison.verdict.better == "not compared"
    assert comparison.verdict.reason == "other " + ", other ".join(what)


def test_the_same_base_model_at_another_path_is_the_same(runs: tuple[Path, Path], tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for source, target in zip(runs, (one, other), strict=True):
        shutil.copytree(source, target)
        weights_of_the_base(target, "0123abcd")
    other_model(other)
    assert compare(one, other).protocol == ()


def test_how_many_images_are_made_together_does_not_matter(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    settle(other, lambda content: content["evaluation"]["generation"].update(batch_size=1))
    comparison = compare(runs[0], other)
    assert comparison.protocol == ()
    assert Discrepancy(what="evaluation.generation.batch_size", first=4, second=1) in comparison.settings


def test_a_run_without_a_champion_is_not_compared(runs: tuple[Path, Path], tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(runs[1], other)
    settle(other, lambda content: content.update(champion=None, status="interrupted"), "result.json")
    verdict = compare(runs[0], other).verdict
    assert (verdict.better, verdict.reason) == ("not compared", "other has no champion")


def invoke(*arguments: object) -> tuple[int, str]:
    import typer

    application = typer.Typer()
    application.command()(main)
    outcome = CliRunner().invoke(application, [str(argument) for argument in arguments])
    return outcome.exit_code, outcome.output


def test_the_command_prints_json(runs: tuple[Path, Path]) -> None:
    code, output = invoke(*runs, "--json")
    assert code == 0
    values = json.loads(output)
    assert set(values) == {"first", "second", "verdict", "protocol", "settings"}
    assert values["verdict"]["better"] == "first"
    assert values["first"]["trials"] == {"finished": 2, "stopped": 1}
    assert values["first"]["champion"]["trial"] == "001"
    assert values["settings"] == [{"what": "trials", "first": 3, "second": 2}]


def test_the_tables_show_both_runs(runs: tuple[Path, Path]) -> None:
    console = Console(width=200, record=True, quiet=False, file=None, force_terminal=False)
    with console.capture() as captured:
        print_comparison(compare(*runs), console)
    text = captured.get()
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert ["trials", "2 finished, 1 stopped", "2 finished"] in cells
    assert ["trials", "3", "2"] in cells
    assert [row[0] for row in cells].count("objective") == 1
    assert text.splitlines()[-1].startswith("good is better; objective of good less poor: 0.")


def test_of_a_budget_the_hours_are_shown(runs: tuple[Path, Path], tmp_path: Path) -> None:
    counted = tmp_path / "counted"
    shutil.copytree(runs[1], counted)
    budget = {
        "hours": 0.125,
        "unit": "worker hours",
        "seconds": 225.0,
        "forecast": None,
        "price": None,
        "limit": None,
        "cut_off": "",
    }
    settle(counted, lambda content: content["cost"].update(budget=budget), "result.json")
    console = Console(width=200, force_terminal=False)
    with console.capture() as captured:
        print_comparison(compare(runs[0], counted), console)
    lines = [line for line in captured.get().splitlines() if "worker hours" in line]
    assert [cell.strip() for line in lines for cell in line.split("│")[1:-1]] == ["worker hours", "-", "0.125"]
    assert "budget" not in captured.get()


def test_a_folder_that_is_no_run_is_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    code, output = invoke(runs[0], tmp_path)
    assert code == 2
    assert "is not a run folder: it holds no search.yaml" in output
    running = tmp_path / "running"
    running.mkdir()
    shutil.copy(runs[0] / "search.yaml", running)
    code, output = invoke(running, runs[0])
    assert (code, output) == (2, f"{running} holds no result.json; give a run whose search has ended\n")
