"""`python -m search.compare runs/A runs/B`: two searches side by side."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from evaluation.measures import printed
from trainer.exit_codes import BAD_INPUT

if TYPE_CHECKING:
    from search.report.comparison import ComparedRun, Comparison, Discrepancy
    from search.storage.result_schema import FinalMetrics


def main(
    first: Annotated[Path, typer.Argument(help="Folder of a run that has ended, such as runs/demo.")],
    second: Annotated[Path, typer.Argument(help="Folder of another.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
) -> None:
    """Set two searches side by side: champions, what differs, cost, and whether their scores may be compared.

    Exit codes: 0 printed, 2 bad input.
    """
    from search.report.comparison import ComparedRun, Comparison
    from search.storage.run_folder import RunFolderError

    try:
        comparison = Comparison.of(ComparedRun.read(first), ComparedRun.read(second))
    except RunFolderError as error:
        typer.secho(str(error), err=True)
        raise typer.Exit(BAD_INPUT) from None
    if as_json:
        typer.echo(json.dumps(as_values(comparison), indent=2, allow_nan=False))
    else:
        print_comparison(comparison, Console(file=sys.stdout))


def as_values(comparison: Comparison) -> dict[str, Any]:
    """The comparison in plain values, as `--json` prints it."""
    verdict = comparison.verdict
    return {
        "first": _run_values(comparison.first),
        "second": _run_values(comparison.second),
        "verdict": {
            "better": verdict.better,
            "lead": asdict(verdict.lead) if verdict.lead else None,
            "reason": verdict.reason,
        },
        "protocol": [asdict(one) for one in comparison.protocol],
        "settings": [asdict(one) for one in comparison.settings],
    }


def print_comparison(comparison: Comparison, console: Console) -> None:
    """Print the comparison as tables."""
    names = _names(comparison)
    runs = Table("", *map(escape, names), title="Champions in the final, with their intervals", title_justify="left")
    pairs = [dict(_figures(run)) for run in (comparison.first, comparison.second)]
    for name in dict.fromkeys([*pairs[0], *pairs[1]]):
        runs.add_row(escape(name), *(escape(pair.get(name, "-")) for pair in pairs))
    console.print(runs)
    for title, discrepancies in (
        ("What makes the scores incomparable", comparison.protocol),
        ("Settings that differ", comparison.settings),
    ):
        if discrepancies:
            console.print(_table(title, discrepancies, names))
    console.print(_conclusion(comparison, names), markup=False, highlight=False, soft_wrap=True)


def _table(title: str, discrepancies: tuple[Discrepancy, ...], names: tuple[str, str]) -> Table:
    table = Table("", *map(escape, names), title=title, title_justify="left")
    for one in discrepancies:
        table.add_row(escape(one.what), escape(_text(one.first)), escape(_text(one.second)))
    return table


def _conclusion(comparison: Comparison, names: tuple[str, str]) -> str:
    verdict = comparison.verdict
    if verdict.lead is None:
        return f"not compared: {verdict.reason}"
    lead = verdict.lead
    better = {
        "first": f"{names[0]} is better",
        "second": f"{names[1]} is better",
        "tie": "a tie: the images cannot tell them apart",
    }[verdict.better]
    return f"{better}; objective of {names[0]} less {names[1]}: {lead.mean:.3f} ({lead.lower:.3f} to {lead.upper:.3f})"


def _names(comparison: Comparison) -> tuple[str, str]:
    """Of the folders; with more of their paths where the names are the same."""
    first, second = comparison.first.folder, comparison.second.folder
    return (first.name, second.name) if first.name != second.name else (str(first), str(second))


def _figures(run: ComparedRun) -> Iterator[tuple[str, str]]:
    outcome, champion = run.outcome, run.outcome.champion
    yield "status", outcome.status
    if champion is not None:
        yield "champion", f"trial {champion.trial}, step {champion.step}"
        for name, value in champion.params.items():
            yield f"  {name}", _text(value)
        for name in printed(champion.final.metrics):
            yield name, _with_interval(champion.final, name)
        yield "against its first trial", champion.against_first_trial.verdict
    yield "trials", ", ".join(f"{count} {state}" for state, count in run.states.items()) or "none"
    yield "minutes", f"{outcome.seconds['total'] / 60:.1f}"
    for name, value in outcome.cost.model_dump(exclude={"budget"}).items():
        yield name.replace("_", " "), _text(value)
    if (budget := outcome.cost.budget) is not None:
        yield budget.unit, _text(budget.hours)


def _with_interval(final: FinalMetrics, name: str) -> str:
    ends = final.intervals.get(name)
    return f"{final.metrics[name]:.3f}" + (f" ({ends[0]:.3f} to {ends[1]:.3f})" if ends else "")


def _run_values(run: ComparedRun) -> dict[str, Any]:
    outcome, champion = run.outcome, run.outcome.champion
    keys = {"trial", "step", "params", "final", "across_seeds", "against_first_trial"}
    return {
        "folder": str(run.folder),
        "status": outcome.status,
        "champion": champion.model_dump(mode="json", include=keys) if champion is not None else None,
        "trials": dict(run.states),
        "seconds": outcome.seconds,
        "cost": outcome.cost.model_dump(mode="json"),
    }


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000.0 else f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    typer.run(main)
