"""How a search proposes its configurations, as the configuration file says it. Imports neither Optuna nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.settings_file import ConfigurationError

SamplerName = Literal["learning_curves", "tpe", "gp", "qmc", "random", "nsga2"]

JOURNAL = "journal.log"
"""The file in a run folder that holds the Optuna study."""


class SamplerConfig(BaseModel):
    """The sampler; see `search.samplers` for what each learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: SamplerName = "learning_curves"
    """`learning_curves`: a Gaussian process over settings and progress, mindful of what a training takes. `tpe`: Parzen
    estimators. `gp`: a Gaussian process. `nsga2`: generations. `qmc`: an even spread (Sobol), and `random`, which both
    learn nothing. Of likeness and fidelity at once (`evaluation.objective.mode: pareto`) all but `learning_curves`
    know; there `tpe` is the default."""
    startup_trials: int | None = Field(default=None, ge=1)
    """Trials drawn at random before results steer the draws; with `nsga2` the size of a generation, at least 2.
    Without it 5, with `learning_curves` 4."""

    @property
    def startup(self) -> int:
        """Trials drawn at random."""
        if self.startup_trials is not None:
            return self.startup_trials
        return 4 if self.name == "learning_curves" else 5

    @model_validator(mode="after")
    def _generation(self) -> SamplerConfig:
        if self.name == "nsga2" and self.startup < 2:
            raise ValueError(f"startup_trials is {self.startup_trials}; a generation of nsga2 needs at least 2")
        return self


def resolve_earlier(value: Path | None, folder: Path) -> Path | None:
    """The journal of an earlier run that a configuration in `folder` names by its run folder or itself.

    Raises:
        ConfigurationError: there is none.
    """
    if value is None:
        return None
    # A run folder lies where searches are started, a path in the configuration beside it: either may be meant.
    for resolved in ((folder / value.expanduser()).resolve(), value.expanduser().resolve()):
        for journal in (resolved / JOURNAL, resolved):
            if journal.is_file():
                return journal
    raise ConfigurationError(f"warm_start: {value} is neither a run folder that holds {JOURNAL} nor such a file")
