"""The adapter card: what a stranger needs to know to use, judge and make again the champion."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from string import Template

from evaluation.scores import FACELESS_RATE, FIDELITY, LEAKAGE, LIKENESS, LIKENESS_SPREAD, MEMORISATION, OBJECTIVE
from search.config.run_layout import CONFIGURATION_FILE
from search.config.search_config import SearchConfig
from search.final.final import Final, Verdict
from trainer.files import write_file
from trainer.models.loadable import loadable

CARD = Template("""\
# $name

A LoRA adapter of `$model` that draws the person behind the word `$trigger`.

![The untuned model above, this adapter below, same prompts and seeds](samples.png)

| | untuned model | this adapter, in the search | this adapter, in the final | interval ($confidence) |
|---|---|---|---|---|
$table

Likeness is 0 for the untuned model and 1 for the person's real photos among themselves; fidelity is the CLIP score
relative to the untuned model's. Memorisation is the share of images that copy a training photo; leakage is the likeness
that images of other people gain. The final's $images images come from prompts and seeds that did not steer the search.

$outcome

Against the first trial: $verdict.
$second_judge

## Files

$files

## Use

```python
import torch
from diffusers import DiffusionPipeline

pipeline = DiffusionPipeline.from_pretrained("$loadable", dtype=torch.float32)
pipeline.load_lora_weights("$folder")
image = pipeline($prompt).images[0]
```

ComfyUI and A1111: put `$kohya` into their folder of LoRAs.

## How it was made

Trial $trial, step $step of $steps, seed $seed, $training photos (and $reference that were only compared with).

| setting | value |
|---|---|
$params

Again: `python -m search.run $folder/../$configuration --name NEW_NAME`

## Consent

It can draw a particular person. Use it only as that person has agreed to, and say that its images are generated.
""")

SHOWN = (
    OBJECTIVE,
    LIKENESS,
    FIDELITY,
    FACELESS_RATE,
    LIKENESS_SPREAD,
    MEMORISATION,
    LEAKAGE,
)

VERDICTS = {
    Verdict.BETTER: "better",
    Verdict.TIE: "a tie, the difference is within the noise of these images",
    Verdict.WORSE: "worse by the weighted objective, which did not choose",
    Verdict.SAME: "it is the first trial",
    Verdict.NOT_COMPARED: "not compared, for the first trial has no usable candidate",
}


def write_card(
    config: SearchConfig,
    final: Final,
    folder: Path,
    *,
    photos: tuple[int, int],
    prompt: str,
    second_judge: str,
) -> Path:
    """Write `README.md` beside the champion's weights.

    Args:
        config: The search, as resolved.
        final: Its outcome.
        folder: Holds the weights already.
        photos: Numbers of training and of reference photos.
        prompt: An example, the trigger filled in.
        second_judge: What the second judge says, in a line; empty without one.
    """
    champion = final.champion
    training = config.training_config(champion.record.params, seed=config.training.seed + champion.record.number)
    rows = []
    for name in SHOWN:
        if name not in champion.final.metrics:
            continue
        interval = champion.intervals.get(name)
        reports = (final.base, champion.candidate, champion.final)
        cells = [f"{report.metrics[name]:.3f}" if name in report.metrics else "-" for report in reports]
        cells.append(f"{interval.lower:.3f} to {interval.upper:.3f}" if interval is not None else "-")
        rows.append(f"| {name} | {' | '.join(cells)} |")
    verdict = VERDICTS[final.verdict]
    if final.difference is not None:
        difference = final.difference
        verdict += f" (objective {difference.mean:+.3f}, {difference.lower:+.3f} to {difference.upper:+.3f})"
    files = [
        f"- `{file.name}`, SHA-256 `{hashlib.sha256(file.read_bytes()).hexdigest()}`"
        for file in sorted(folder.glob("*.safetensors"))
    ]
    text = CARD.substitute(
        name=config.name,
        model=config.model,
        loadable=loadable(config.model),
        trigger=config.photos.trigger,
        confidence=f"{config.final.confidence:.0%}",
        table="\n".join(rows),
        images=len(champion.final.rows),
        outcome=_outcome(final),
        verdict=verdict,
        second_judge=f"{second_judge[:1].upper()}{second_judge[1:]}." if second_judge else "",
        files="\n".join(files),
        folder=folder,
        configuration=CONFIGURATION_FILE,
        prompt=json.dumps(prompt, ensure_ascii=False),  # one string literal, whatever it holds
        kohya=f"{config.name}.safetensors",
        trial=champion.record.id,
        step=champion.candidate.step,
        steps=training.steps,
        seed=training.seed,
        training=photos[0],
        reference=photos[1],
        params="\n".join(f"| {name} | {value} |" for name, value in vars(training).items()),
    )
    path = folder / "README.md"
    write_file(path, lambda temporary: temporary.write_text(text, "utf-8"))
    return path


def _outcome(final: Final) -> str:
    """How this adapter came to win, in words."""
    champion, count = final.champion, len(final.finalists)
    across = champion.across_seeds[OBJECTIVE]
    trained = 1 + sum(again.report is not None for again in champion.retrained)
    return (
        f"Its configuration was trained {trained} times with different seeds: objective {across.mean:.3f} "
        f"({across.lower:.3f} to {across.upper:.3f}). Of {count} in the final it won: {final.decision.reason}."
    )
