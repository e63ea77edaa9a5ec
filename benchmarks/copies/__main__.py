"""Copies of training photos: how many are found, and how many fresh photos of the person are taken for one.

Albums of the demo's person are dealt anew in every round. Fresh photos are never trained on: an adapter that draws such
photos is as good as can be and must not be refused. Copies are training photos, re-framed or worse. Both are shown to
the search's `memorisation` and to the rule before it, which did not register pictures, and took its threshold from
single pairs of photos instead of the nearest of many.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image

from benchmarks.copies.album import Album, album
from benchmarks.copies.reframing import COPIES, recompress
from benchmarks.copies.unregistered import UnregisteredDetector
from benchmarks.outcome import conclude, print_table
from evaluation.copies import CopyDetector
from evaluation.proportion import wilson_interval

SIZES = (14, 35, 70)
"""Photos trained on."""
IMAGES = 12
"""Fresh photos, and copies of each kind, a round."""
RE_SAVED = 3
"""Training photos that lie in the album twice, the second time as JPEG."""
FRESH_GOAL, COPIES_GOAL = 0.05, 0.95
"""Most fresh photos that may be taken for copies, and least copies of each kind that are to be found."""

Counts = dict[str, list[bool]]
"""What was shown, and of each image whether it was taken for a copy."""


@dataclass(frozen=True, kw_only=True)
class Tally:
    """All rounds with one number of training photos."""

    before: Counts = field(default_factory=dict)
    now: Counts = field(default_factory=dict)
    thresholds: list[float] = field(default_factory=list)
    moved: list[float] = field(default_factory=list)
    """How far re-saved photos moved the threshold, in shares of it."""
    changed: list[bool] = field(default_factory=list)
    """Whether they changed the verdict on an image."""
    milliseconds: list[float] = field(default_factory=list)
    """Processor time an image."""


def main(
    rounds: Annotated[int, typer.Option(min=1, help="Albums of each size.")] = 10,
    seed: Annotated[int, typer.Option(min=0, help="Of the albums.")] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Few images: that it runs, not what it says.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="File that gets the last line, too.")] = None,
) -> None:
    """Count copies found and fresh photos refused."""
    torch.set_num_threads(1)
    sizes, images, rounds = (SIZES[:1], 4, 1) if quick else (SIZES, IMAGES, rounds)
    tallies = {}
    for size in sizes:
        tallies[size] = tally = Tally()
        for round_ in range(rounds):
            random = np.random.default_rng([seed, size, round_])
            _round(tally, album(size, random, images), images, random)
    outcome = _outcome(tallies, rounds)
    _show(outcome)
    conclude(outcome, json_)


def _round(tally: Tally, dealt: Album, images: int, random: np.random.Generator) -> None:
    """Show one album's fresh photos and copies to both rules, and the copies again with re-saved training photos."""
    before = UnregisteredDetector(dealt.training, dealt.reference)
    now = CopyDetector(dealt.training, dealt.reference)
    again = [recompress(photo, 80) for photo in dealt.training[:RE_SAVED]]
    re_saved = CopyDetector([*dealt.training, *again], dealt.reference)
    tally.thresholds.append(now.copy_distance)
    tally.moved.append(abs(re_saved.copy_distance / now.copy_distance - 1.0))
    chosen = [dealt.training[index] for index in random.permutation(len(dealt.training))[:images]]
    shown: dict[str, Sequence[Image.Image]] = {"fresh photos": dealt.fresh}
    shown |= {name: [copied(photo, random) for photo in chosen] for name, copied in COPIES.items()}
    for name, pictures in shown.items():
        earlier = [distance < before.copy_distance for distance in before.distances(pictures)]
        start = time.process_time()
        found = [photo.distance < now.copy_distance for photo in now.nearest(pictures)]
        tally.milliseconds.append(1000.0 * (time.process_time() - start) / len(pictures))
        other = [photo.distance < re_saved.copy_distance for photo in re_saved.nearest(pictures)]
        tally.before.setdefault(name, []).extend(earlier)
        tally.now.setdefault(name, []).extend(found)
        tally.changed.extend(a != b for a, b in zip(found, other, strict=True))


def _outcome(tallies: Mapping[int, Tally], rounds: int) -> dict[str, Any]:
    """Everything that the benchmark has to say."""

    def shares(counts: Counts) -> dict[str, Any]:
        return {name: asdict(wilson_interval(sum(found), len(found))) for name, found in counts.items()}

    flagged = {str(size): {"before": shares(tally.before), "now": shares(tally.now)} for size, tally in tallies.items()}
    now = [each["now"] for each in flagged.values()]
    fresh = max(each["fresh photos"]["value"] for each in now)
    least = min(each[name]["value"] for each in now for name in COPIES)
    changed = [verdict for tally in tallies.values() for verdict in tally.changed]
    return {
        "benchmark": "copies",
        "rounds": rounds,
        "flagged": flagged,
        "thresholds": {str(size): tally.thresholds for size, tally in tallies.items()},
        "re_saved": {
            "largest_move": max(move for tally in tallies.values() for move in tally.moved),
            "verdicts_changed": sum(changed) / len(changed),
        },
        "milliseconds_an_image": {str(size): float(np.median(tally.milliseconds)) for size, tally in tallies.items()},
        "worst": {"fresh": fresh, "copies": least},
        "goals": {"fresh": FRESH_GOAL, "copies": COPIES_GOAL},
        "met": {"fresh": fresh <= FRESH_GOAL, "copies": least >= COPIES_GOAL},
    }


def _show(outcome: Mapping[str, Any]) -> None:
    """Shares taken for copies, before and now."""

    def cell(share: Mapping[str, float]) -> str:
        return f"{share['value']:.3f} ({share['lower']:.2f} to {share['upper']:.2f})"

    sizes = list(outcome["flagged"])
    rows = [["taken for a copy", *(f"{rule}, {size} trained on" for size in sizes for rule in ("before", "now"))]]
    for name in ("fresh photos", *COPIES):
        rows.append(
            [name, *(cell(outcome["flagged"][size][rule][name]) for size in sizes for rule in ("before", "now"))]
        )
    print_table(rows)
    for size in sizes:
        thresholds = outcome["thresholds"][size]
        typer.echo(
            f"{size} trained on: copies are nearer than {min(thresholds):.3f} to {max(thresholds):.3f}; "
            f"{outcome['milliseconds_an_image'][size]:.1f} ms an image"
        )
    moved = outcome["re_saved"]
    typer.echo(
        f"{RE_SAVED} re-saved photos: threshold moved by at most {100 * moved['largest_move']:.1f} %, "
        f"{100 * moved['verdicts_changed']:.2f} % of the verdicts changed"
    )


if __name__ == "__main__":
    typer.run(main)
