"""The paths of a configuration: relative to its file's folder, and absolute once they are resolved."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from evaluation.config import FaceConfig, OnnxRecognizer
from search.config.run_layout import RunLayout
from trainer.settings_file import ConfigurationError, resolve_model

if TYPE_CHECKING:
    from search.config.search_config import SearchConfig


def resolved_config(config: SearchConfig, folder: Path) -> SearchConfig:
    """The configuration with all its paths absolute.

    Args:
        config: as a file in `folder` has it.
        folder: of the file.

    Raises:
        ConfigurationError: a path leads nowhere.
        OSError, RuntimeError: one is none (`trainer.settings_file.path_errors`).
    """

    def file(value: Path) -> Path:
        resolved = (folder / value.expanduser()).resolve()
        if not resolved.is_file():
            raise ConfigurationError(f"{value} is not a file (looked for {resolved})")
        return resolved

    def judge(faces: FaceConfig | None) -> FaceConfig | None:
        if faces is None or not isinstance(faces.recognizer, OnnxRecognizer):
            return faces
        found = dataclasses.replace(faces.recognizer, onnx=file(faces.recognizer.onnx))
        return dataclasses.replace(faces, recognizer=found)

    evaluation = config.evaluation.model_copy(
        update={
            "prompts": file(config.evaluation.prompts),
            "faces": judge(config.evaluation.faces),
            "second_judge": judge(config.evaluation.second_judge),
            "clip": resolve_model(config.evaluation.clip, folder, needed="config.json"),
        }
    )
    others = config.evaluation.others
    if others.prompts is not None:
        others = others.model_copy(update={"prompts": file(others.prompts)})
        evaluation = evaluation.model_copy(update={"others": others})
    runs = config.runs.expanduser().resolve()
    runs.exists()  # the system says whether it can be a path at all
    final = config.final.model_copy(update={"prompts": file(config.final.prompts)})
    return config.model_copy(
        update={
            "model": resolve_model(config.model, folder, needed="model_index.json"),
            "photos": config.photos.resolved(folder),
            "evaluation": evaluation,
            "final": final,
            "runs": runs,
            "warm_start": _journal(config.warm_start, folder),
        }
    )


def _journal(value: Path | None, folder: Path) -> Path | None:
    """The journal of an earlier run that a configuration in `folder` names by its run folder or itself.

    Raises:
        ConfigurationError: there is none.
    """
    if value is None:
        return None
    # A run folder lies where searches are started, a path in the configuration beside it: either may be meant.
    for resolved in ((folder / value.expanduser()).resolve(), value.expanduser().resolve()):
        for journal in (RunLayout(resolved).journal, resolved):
            if journal.is_file():
                return journal
    raise ConfigurationError(
        f"warm_start: {value} is neither a run folder that holds {RunLayout(resolved).journal.name} nor such a file"
    )
