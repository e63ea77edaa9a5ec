"""`report.html`: the outcome of a search on one page that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2

from evaluation.scores import (
    FACELESS_RATE,
    FIDELITY,
    LEAKAGE,
    LIKENESS,
    LIKENESS_SPREAD,
    MEMORISATION,
    METRICS,
    OBJECTIVE,
)
from search.result import SearchResult
from trainer.files import write_file

SHOWN = (OBJECTIVE, LIKENESS, FIDELITY, FACELESS_RATE, LIKENESS_SPREAD, MEMORISATION, LEAKAGE)

PAGE = """\
<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ result.name }}: {{ result.status }}</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; color: #222; }
  table { border-collapse: collapse; margin: 1rem 0; display: block; overflow-x: auto; }
  th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd; white-space: nowrap; }
  th:first-child, td:first-child, .words { text-align: left; }
  tr.champion { background: #eaf6ea; }
  img { max-width: 100%; image-rendering: auto; }
  .words { white-space: normal; min-width: 18rem; }
</style>
<h1>{{ result.name }}</h1>
{% if champion %}
<p>The champion is trial {{ champion.trial }} at step {{ champion.step }}; against the first trial:
<strong>{{ champion.against_first_trial.verdict }}</strong>. It won the final: {{ champion.choice }}.</p>
{% if result.second_judge %}
<p>{{ result.second_judge.summary[0] | upper }}{{ result.second_judge.summary[1:] }}.</p>
{% endif %}
<img src="{{ samples }}" alt="The untuned model above, the champion below, on the same prompts and seeds">
<p>Above the untuned model, below the champion: the final's prompts, same seeds.</p>
<table>
<caption>In the final: on prompts and seeds that did not steer the search</caption>
<tr><th>metric<th>untuned model<th>champion<th>interval<th class="words">meaning
{% for name in shown %}
<tr><td>{{ name }}<td>{{ measure(result.base.final.get(name)) }}<td>{{ measure(champion.final.get(name)) }}
<td>{{ interval(champion.final.intervals.get(name)) }}<td class="words">{{ meanings[name] }}
{% endfor %}
</table>
<h2>Finalists</h2>
<table>
<caption>Each configuration over its own training and those with other seeds; the highest mean leads</caption>
<tr><th>trial<th>step<th>objective<th>interval<th>behind the leader<th>trainings<th class="words">unfit
{% for one in result.finalists %}
<tr{% if one.trial == champion.trial %} class="champion"{% endif %}>
<td>{{ one.trial }}<td>{{ one.step }}<td>{{ measure(one.across_seeds.objective.mean) }}
<td>{{ interval([one.across_seeds.objective.lower, one.across_seeds.objective.upper]) }}
<td>{{ interval([one.behind_leader.lower, one.behind_leader.upper]) if one.behind_leader else "-" }}
<td>{{ 1 + one.retrained | selectattr("metrics") | list | length }}<td class="words">{{ one.unfit | join("; ") }}
{% endfor %}
</table>
{% else %}
<p>There is no champion: {{ result.status }}.</p>
{% endif %}
<h2>Trials</h2>
<table>
<tr><th>trial<th>state<th>best step{% for name in shown %}<th>{{ name }}{% endfor %}
{% for name in params %}<th>{{ name }}{% endfor %}<th class="words">reason
{% for trial in result.trials %}
<tr{% if champion and trial.id == champion.trial %} class="champion"{% endif %}>
<td>{{ trial.id }}<td>{{ trial.state }}<td>{{ trial.best_step if trial.best_step is not none else "-" }}
{% for name in shown %}<td>{{ measure(trial.metrics.get(name)) }}{% endfor %}
{% for name in params %}<td>{{ number(trial.params[name]) }}{% endfor %}
<td class="words">{{ ([trial.reason] + trial.unfit + trial.remarks) | select | join("; ") }}
{% endfor %}
</table>
<p>{{ result.cost.images }} images scored, {{ result.cost.optimizer_steps }} optimizer steps,
{{ result.cost.seats }} seats,
{{ (result.seconds.total / 60) | round(1) }} minutes.</p>
</html>
"""


def write_report(result: SearchResult) -> Path:
    """Write `report.html` into the run folder; pictures are part of the file."""
    values = result.values
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    page = environment.from_string(PAGE).render(
        result=values,
        champion=values["champion"],
        samples=_embedded(result.folder / "champion" / "samples.png") if values["champion"] else "",
        shown=SHOWN,
        meanings={name: METRICS[name].meaning for name in SHOWN},
        params=list(values["trials"][0]["params"]) if values["trials"] else [],
        number=_number,
        measure=_measure,
        interval=_interval,
    )
    path = result.folder / "report.html"
    write_file(path, lambda temporary: temporary.write_text(page, "utf-8"))
    return path


def _embedded(picture: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"


def _number(value: object) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _measure(value: float | None) -> str:
    # Plus 0: what rounds to nothing has no sign.
    return "-" if value is None else f"{round(value, 3) + 0.0:.3f}"


def _interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"
