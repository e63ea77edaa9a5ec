"""The last lines of a search on the terminal."""

from __future__ import annotations

from rich.console import Console

from evaluation.scores import (
    FACELESS_RATE,
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    LIKENESS_SPREAD,
    MEMORISATION,
    OBJECTIVE,
)
from search.final import Final
from search.result import SearchResult
from search.resume import how_to_go_on


def summary(result: SearchResult, final: Final | None, address: str | None) -> list[str]:
    """What is said when a search ends.

    Args:
        result: What it wrote.
        final: None if it has no champion.
        address: Of the Ray cluster that was used; None for this machine.
    """
    states: dict[str, int] = {}
    for trial in result.values["trials"]:
        states[trial["state"]] = states.get(trial["state"], 0) + 1
    told = ", ".join(f"{count} {state}" for state, count in states.items()) or "none"
    lines = [f"trials: {told}"]
    if final is None:
        lines.append(f"no champion: {result.values['status']}")
    else:
        champion = final.champion
        values = "  ".join(
            f"{name} {champion.final.metrics[name]:.3f} (base {final.base.metrics[name]:.3f})"
            for name in (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE)
        )
        meters = "  ".join(
            f"{name} {champion.final.metrics[name]:.3f}"
            for name in (LIKENESS_SPREAD, MEMORISATION, LEAKAGE)
            if name in champion.final.metrics
        )
        lines.append(
            f"champion: trial {champion.record.id}, step {champion.candidate.step}: {dict(champion.record.params)}"
        )
        lines.append(f"final: {values}")
        lines.append(f"meters: {meters}")
        lines.append(f"choice: {final.decision.reason}")
        lines.append(f"against the first trial: {final.verdict}")
        if result.values["second_judge"]:
            lines.append(result.values["second_judge"]["summary"])
        lines.append(f"adapter: {result.folder / 'champion'}")
    lines.append(f"report: {result.folder / 'report.html'}")
    lines.append(f"compare: mlflow ui --backend-store-uri {result.values['mlflow']['tracking_uri']}")
    if result.interrupted:
        lines.append(how_to_go_on(result.folder, address))
    return lines


def tell(console: Console, line: str) -> None:
    """Print a line as it is: no markup, for what is told comes from anywhere."""
    console.print(line, markup=False, highlight=False, soft_wrap=True)
