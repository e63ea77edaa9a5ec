"""What makes a job that job: its settings and its inputs, and in words how those of a saved state differ."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from trainer.config import TrainingConfig
from trainer.data.photo_input import PhotoInput

NOUNS = {"photos": "", "class images": "class image "}
"""What the message puts before a file's name, by the name of the list."""
NAMED = 5
"""Photos that differ and are named; of the rest the number is told."""

Inputs = Sequence[PhotoInput] | str
"""The photos of a data cache, or where these are not known the SHA-256 of what was computed from them."""


@dataclass(frozen=True, kw_only=True)
class JobIdentity:
    """What must be equal for a saved state to continue a job.

    Inputs count, not what is computed from them: encoded photos differ in their last bits between machines and numbers
    of threads.
    """

    config: TrainingConfig
    base_sha256: str
    photos: Inputs
    class_images: Inputs | None = None
    """None where none are learnt."""
    tag_orders: int = 1
    """As of `trainer.data.views.Views`."""

    def as_json(self) -> dict[str, Any]:
        """As a state's JSON file holds it: the settings by their names, and the inputs."""
        inputs = {"photos": self._listed(self.photos)}
        if self.class_images is not None:
            inputs["class images"] = self._listed(self.class_images)
        if self.config.caption_shuffle:
            inputs["tag orders"] = self.tag_orders
        values = {**asdict(self.config), "base model": self.base_sha256, **inputs}
        plain: dict[str, Any] = json.loads(json.dumps(values))
        return plain

    def differences(self, saved: Mapping[str, Any]) -> list[str]:
        """How a state of `as_json()` differs, each as `NAME (VALUE there, VALUE here)`; [] if it continues this job.

        A setting that the state does not know counts as the default; one that changes nothing here does not count.
        """
        own, defaults = self.as_json(), asdict(TrainingConfig())
        found: list[str] = []
        for name in sorted((saved.keys() | own.keys()) - _without_effect(self.config)):
            there, here = saved.get(name, defaults.get(name)), own.get(name)
            if name in NOUNS and isinstance(there, list) and isinstance(here, list):
                found += _photo_differences(name, there, here)
            elif there != here:
                found.append(f"{name} ({_brief(there)} there, {_brief(here)} here)")
        return found

    def _listed(self, inputs: Inputs) -> Any:
        """Of each photo what counts: without masks no box of a face does."""
        if isinstance(inputs, str):
            return inputs
        unused = {"face"} if self.config.face_loss_weight == 1 else set()
        return [{name: value for name, value in asdict(each).items() if name not in unused} for each in inputs]


def _without_effect(config: TrainingConfig) -> set[str]:
    """Settings that may change without any effect on what is learnt."""
    unread = {"gradient_checkpointing"}
    if config.lr_scheduler != "cosine_with_restarts":
        unread |= {"lr_cycles"}
    if config.loss != "huber":
        unread |= {"huber_c", "huber_schedule"}
    if not config.trains_text_encoder:
        unread |= {"text_encoder_rank", "text_encoder_alpha", "text_encoder_steps"}
    return unread


def _photo_differences(kind: str, saved: list[dict[str, Any]], own: list[dict[str, Any]]) -> list[str]:
    contents = [[{**each, "name": ""} for each in photos] for photos in (saved, own)]
    if contents[0] == contents[1]:
        return []
    there, here = (
        {each["name"]: each for each in photos if {**each, "name": ""} not in others}
        for photos, others in zip((saved, own), reversed(contents), strict=True)
    )
    found: list[str] = []
    for name in sorted(there.keys() | here.keys()):
        before, now, noun = there.get(name), here.get(name), f"{NOUNS[kind]}{name}"
        if before is None or now is None:
            found.append(f"{noun} ({_used(before)} there, {_used(now)} here)")
            continue
        differing = [field for field in now if before.get(field) != now[field]]
        found += [f"{field} of {noun} ({before.get(field)!r} there, {now[field]!r} here)" for field in differing]
    if len(found) > NAMED:
        found[NAMED:] = [f"and {len(found) - NAMED} more of the {kind}"]
    return found or [f"{kind} ({_names(saved)} there, {_names(own)} here)"]


def _used(photo: Mapping[str, Any] | None) -> str:
    return "missing" if photo is None else "used"


def _names(photos: list[dict[str, Any]]) -> str:
    names = [str(photo["name"]) for photo in photos]
    return ", ".join([*names[:NAMED], *(["..."] if len(names) > NAMED else [])])


def _brief(value: Any) -> str:
    return f"{len(value)} files" if isinstance(value, list) else repr(value)
