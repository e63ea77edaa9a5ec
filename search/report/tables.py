"""`images.parquet`: a row for every image that a search scored; every figure of its result follows from them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from evaluation.config import PromptSet
from evaluation.judges import load_judges
from evaluation.measures import IMAGE_MEASURES
from evaluation.scores import Anchors
from evaluation.terms import FACELESS_TERM, Term, weighted_terms
from search.config.prompts import PromptSetName
from search.config.run_layout import RunLayout
from search.config.sections import BudgetConfig, EvaluationConfig
from search.final.final import Final
from search.final.strengths import Sweep
from search.storage.result_schema import BudgetResult, Spent, TrialResult
from search.storage.trial_record import EFFORTS, CheckpointResult, TrialRecord
from trainer.files import write_file

BASE = "base"
"""The untuned model, in the column `candidate`; every other value is a trial."""

STRENGTHS = "strengths"
"""The champion at other strengths than 1, in the column `prompt_set`: some of the final's prompts."""

SCHEMA = pa.schema(
    [
        ("prompt_set", pa.string()),  # validation: steered the search; final: only confirmed it; strengths: neither
        ("candidate", pa.string()),
        ("step", pa.int64()),  # optimizer steps; 0: the untuned model
        ("training_seed", pa.int64()),  # of a retraining; null: the trial's own
        ("strength", pa.float64()),  # of the adapter; 1: what was trained; null: the untuned model
        ("shows", pa.string()),  # person, or others (no trigger in the prompt)
        ("prompt_index", pa.int64()),
        ("prompt", pa.string()),
        ("seed", pa.int64()),
    ]
)
"""What a row is of. Behind it stand the measures of the image, null where it does not have one, and what it counts in
each term of the objective, null for images of others."""

TYPES = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A report and what its rows do not say themselves."""

    prompt_set: PromptSetName
    candidate: str
    step: int
    training_seed: int | None
    report: CheckpointResult
    strength: float | None = 1.0


def write_images(
    path: Path,
    *,
    base: CheckpointResult,
    records: Sequence[TrialRecord],
    final: Final | None,
    sweep: Sweep | None = None,
    prompt_sets: Mapping[PromptSetName, PromptSet],
    other_sets: Mapping[PromptSetName, PromptSet],
    evaluation: EvaluationConfig,
) -> Path:
    """Write a row for every image of the person and of others, of every scored checkpoint and of the final.

    Args:
        path: The file.
        base: The untuned model on the validation prompts.
        records: All trials.
        final: None if there was none.
        sweep: The champion at several strengths; None if there is none.
        prompt_sets: Prompts of the person.
        other_sets: Prompts of others.
        evaluation: How images were scored.
    """
    anchors = {"validation": base.anchors()}
    sources = [_Source(prompt_set="validation", candidate=BASE, step=0, training_seed=None, report=base, strength=None)]
    sources += [
        _Source(prompt_set="validation", candidate=record.id, step=report.step, training_seed=None, report=report)
        for record in records
        for report in record.checkpoints
    ]
    if final is not None:
        anchors["final"] = final.base.anchors()
        sources += _of_final(final)
        sources += _of_sweep(final, sweep)
    terms = [each.term for each in weighted_terms(evaluation.objective) if each.term is not FACELESS_TERM]
    rows = [
        row for source in sources for row in _rows(source, anchors[source.prompt_set], terms, prompt_sets, other_sets)
    ]
    declared = (measure for judge in load_judges(evaluation.judges) for measure in judge.measures)
    columns = [(measure.name, TYPES[measure.kind]) for measure in (*IMAGE_MEASURES, *declared)]
    columns += [(term.name, pa.float64()) for term in terms]
    table = pa.Table.from_pylist(rows, schema=pa.schema([*SCHEMA, *columns]))
    write_file(path, lambda temporary: pyarrow.parquet.write_table(table, temporary))
    return path


def _of_final(final: Final) -> Iterator[_Source]:
    yield _Source(prompt_set="final", candidate=BASE, step=0, training_seed=None, report=final.base, strength=None)
    for finalist in final.finalists:
        name, step = finalist.record.id, finalist.candidate.step
        yield _Source(prompt_set="final", candidate=name, step=step, training_seed=None, report=finalist.final)
        for again in finalist.retrained:
            if again.report is not None:
                yield _Source(
                    prompt_set="final", candidate=name, step=step, training_seed=again.seed, report=again.report
                )


def _of_sweep(final: Final, sweep: Sweep | None) -> Iterator[_Source]:
    """What was drawn for it alone; the untuned model and full strength are the final's."""
    name, step = final.champion.record.id, final.champion.candidate.step
    for strength, report in sweep.drawn if sweep is not None else ():
        yield _Source(
            prompt_set="final",
            candidate=name,
            step=step,
            training_seed=final.champion.shipped.seed,
            report=report,
            strength=strength,
        )


def _rows(
    source: _Source,
    anchors: Anchors,
    terms: Sequence[Term],
    prompt_sets: Mapping[PromptSetName, PromptSet],
    other_sets: Mapping[PromptSetName, PromptSet],
) -> Iterator[dict[str, Any]]:
    shown = {"person": (source.report.rows, prompt_sets), "others": (source.report.other_rows, other_sets)}
    for shows, (rows, sets) in shown.items():
        for row in rows:
            yield {
                "prompt_set": source.prompt_set if source.strength in (None, 1.0) else STRENGTHS,
                "candidate": source.candidate,
                "step": source.step,
                "training_seed": source.training_seed,
                "strength": source.strength,
                "shows": shows,
                "prompt_index": row.prompt_index,
                "prompt": sets[source.prompt_set].prompts[row.prompt_index],
                "seed": row.seed,
                **row.measures,
                **{term.name: term.share(row, anchors) for term in terms if shows == "person"},
            }


def write_trials(trials: Sequence[TrialResult], folder: Path) -> Path:
    """Write the table: a row a trial, in the order of the trials; a cell is empty where there is nothing to say.

    Args:
        trials: As in the result.
        folder: The run folder.

    Returns:
        The file.
    """
    params = list(dict.fromkeys(name for trial in trials for name in trial.params))
    metrics = list(dict.fromkeys(name for trial in trials for name in trial.metrics))
    path = RunLayout(folder).trial_table

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["trial", "state", *params, "best_step", *metrics, "seconds", *EFFORTS, "reason"])
            for trial in trials:
                table.writerow(
                    [
                        trial.id,
                        trial.state,
                        *(trial.params.get(name, "") for name in params),
                        "" if trial.best_step is None else trial.best_step,
                        *(trial.metrics.get(name, "") for name in metrics),
                        trial.seconds,
                        *("" if (effort := getattr(trial, name)) is None else effort for name in EFFORTS),
                        trial.reason,
                    ]
                )

    write_file(path, write)
    return path


NO_LIMIT = "no limit"

UNKNOWN = "-"


@dataclass(frozen=True, kw_only=True)
class AccountLine:
    """One thing that a search uses up, in words."""

    what: str
    limit: str
    """`NO_LIMIT` where none was set."""
    used: str
    share: str
    """Of the limit that was used."""
    predicted: str
    """By the first forecast, which a limit cuts as it cuts the search."""


@dataclass(frozen=True, kw_only=True)
class Account:
    """What a search might use, what it has used, and what was predicted."""

    lines: tuple[AccountLine, ...]
    """Minutes, hours of GPUs or workers, cost."""
    notes: tuple[str, ...]
    """Whether a limit ended the search, and how good the forecast was; a sentence each."""

    @classmethod
    def of(cls, budget: BudgetConfig, used: BudgetResult | None) -> Account:
        """The account of a search.

        Args:
            budget: What its configuration sets.
            used: What its result says; None if no trial began.
        """
        return cls(lines=tuple(_lines(budget, used)), notes=tuple(_notes(budget, used)))


def _lines(budget: BudgetConfig, used: BudgetResult | None) -> Iterator[AccountLine]:
    forecast = used.forecast if used else None
    for what, limit, spent, predicted, digits in (
        ("minutes by the clock", budget.max_minutes, _minutes(used), _minutes(forecast), 1),
        (used.unit if used else "GPU hours", budget.max_gpu_hours, _hours(used), _hours(forecast), 2),
        ("cost", budget.max_cost, _price(used), _price(forecast), 2),
    ):
        yield AccountLine(
            what=what,
            limit=NO_LIMIT if limit is None else f"{limit:g}",
            used=_number(spent, digits),
            share=UNKNOWN if limit is None or spent is None else f"{spent / limit:.0%}",
            predicted=_number(predicted, digits),
        )


def _notes(budget: BudgetConfig, used: BudgetResult | None) -> Iterator[str]:
    if used is None:
        yield "Nothing was counted, for no trial began."
        return
    limited = {budget.max_minutes, budget.max_gpu_hours, budget.max_cost} != {None}
    if used.cut_off:
        yield f"The search was cut off: {used.cut_off}."
    else:
        yield "The budget did not cut the search off." if limited else "The search had no limit."
    if used.forecast is None:
        yield "It ended before there was a forecast."
        return
    error = used.forecast.error
    # A tenth of a percent is all that is shown.
    verdict = f"{abs(error):.1%} too {'long' if error > 0 else 'short'}" if abs(error) >= 0.0005 else "exact"
    yield f"The forecast after {used.forecast.after_trials} trials was {verdict}."


def _minutes(spent: Spent | None) -> float | None:
    return None if spent is None else spent.seconds / 60


def _hours(spent: Spent | None) -> float | None:
    return None if spent is None else spent.hours


def _price(spent: Spent | None) -> float | None:
    return None if spent is None else spent.price


def _number(value: float | None, digits: int) -> str:
    return UNKNOWN if value is None else f"{value:.{digits}f}"
