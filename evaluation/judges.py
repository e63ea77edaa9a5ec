"""Judges: each says some measures of every image.

A judge of one's own is a class with `measures` and `judge` in any module that Python finds. `evaluation.judges` of a
search names it (`load_judges`), and `evaluation.objective.measures` weighs what it says.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from PIL import Image

from evaluation.config import ObjectiveConfig
from evaluation.measures import COPY_DISTANCE, IMAGE_MEASURES, METRICS, REAL, RESERVED, Measure, Value
from evaluation.terms import anchored


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """What judges look at: images that a model drew, or real photos, which have no prompts."""

    images: Sequence[Image.Image]
    texts: Sequence[str] = ()
    """The prompts of the set as CLIP reads them; empty for photos."""
    prompts: Sequence[int] = ()
    """Of each image, the place of its prompt in `texts`; empty for photos."""


class Judge(Protocol):
    """Says measures of images."""

    @property
    def measures(self) -> Sequence[Measure]:
        """All that it may say of an image."""

    def judge(self, pictures: Pictures) -> Sequence[Mapping[str, Value]]:
        """The measures of each image by name, in the images' order; what an image does not have is left out.

        An image's measures must not depend on the model that drew it, nor on chance.
        """


def judged(judges: Sequence[Judge], pictures: Pictures) -> list[dict[str, Value]]:
    """What all judges say of each image.

    Raises:
        ValueError: one says nothing of some image, or something that it did not declare.
    """
    measured: list[dict[str, Value]] = [{} for _ in pictures.images]
    for judge in judges:
        name = type(judge).__name__
        said = judge.judge(pictures)
        if len(said) != len(measured):
            raise ValueError(f"{name} measured {len(said)} of {len(measured)} images; it has to measure each")
        declared = {measure.name for measure in judge.measures}
        for place, values in enumerate(said):
            if unknown := set(values) - declared:
                raise ValueError(f"{name} says {sorted(unknown)[0]!r}, which is not among its measures; declare it")
            measured[place].update(values)
    return measured


def known_metrics(judges: Sequence[str], objective: ObjectiveConfig) -> dict[str, Measure]:
    """Every metric of a search by name: the built-in ones, those of its own judges as far as these are at hand, and the
    terms of its objective."""
    declared = []
    for name in judges:
        try:
            declared += [each for judge in load_judges([name]) for each in judge.measures if each.kind is not str]
        except ValueError:  # a result is also read where its judges are not
            continue
    measures = {measure.name: measure for measure in (*IMAGE_MEASURES, *declared)}
    terms = [
        Measure(
            name=anchored(name),
            meaning=f"{measures[name].meaning if name in measures else name}: "
            f"0 at {each.zero}, 1 at {each.one}; counts {each.weight:g} a unit",
            direction="maximize" if each.weight > 0 else "minimize",
            lower=each.low,
            upper=each.high,
        )
        for name, each in objective.measures.items()
    ]
    return {**METRICS, **{metric.name: metric for metric in (*declared, *terms)}}


def check_measures(judges: Sequence[str], objective: ObjectiveConfig) -> None:
    """That the judges can be used, and that every measure which the objective weighs is a number that one of them says.

    Raises:
        ValueError: not so; the message names it and the remedy.
    """
    declared = [measure for judge in load_judges(judges) for measure in judge.measures]
    known = {measure.name: measure for measure in (*IMAGE_MEASURES, *declared)}
    for name in objective.measures:
        if name not in known:
            names = ", ".join(each.name for each in known.values() if each.kind is not str)
            raise ValueError(f"objective.measures names {name!r}, which no judge measures; known: {names}")
        if known[name].kind is str:
            raise ValueError(f"objective.measures names {name!r}, which is no number; take it out")


def load_judges(names: Sequence[str]) -> tuple[Judge, ...]:
    """Judges of one's own, made without arguments.

    Args:
        names: `module:Class` each.

    Raises:
        ValueError: one cannot be imported or made, or declares a measure whose name is taken.
    """
    judges = []
    taken = {measure.name for measure in IMAGE_MEASURES} | {*METRICS, *RESERVED, COPY_DISTANCE}
    for name in names:
        module, _, attribute = name.partition(":")
        try:
            judge: Judge = getattr(importlib.import_module(module), attribute)()
            declared = [measure.name for measure in judge.measures]
            if not callable(judge.judge):
                raise TypeError("its judge is no method")
        except Exception as error:  # whatever a stranger's module does when it is imported
            raise ValueError(
                f"judges: {name!r} cannot be used: {type(error).__name__}: {error}; give module:Class of a module "
                "that Python finds on every machine; the class takes no arguments and has `measures` and `judge`"
            ) from error
        for measure in declared:
            if measure in taken or measure.startswith((REAL, anchored(""))):
                raise ValueError(f"judges: {name!r} declares the measure {measure!r}, which is taken; rename it")
            taken.add(measure)
        judges.append(judge)
    return tuple(judges)
