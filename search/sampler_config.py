"""How a search proposes its configurations, as the configuration file says it. Imports neither Optuna nor torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from trainer.settings_file import ConfigurationError

SamplerName = Literal["tpe", "gp", "qmc", "random", "nsga2"]

JOURNAL = "journal.log"
"""The file in a run folder that holds the Optuna study."""


class SamplerConfig(BaseModel):
    """Optuna's sampler; see `search.samplers` for what each learns from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: SamplerName = "tpe"
    """`tpe`: Parzen estimators. `gp`: a Gaussian process. `nsga2`: generations. `qmc`: an even spread (Sobol), and
    `random`, which both learn nothing."""
    startup_trials: int = Field(default=5, ge=1)
    """Trials drawn at random before results steer the draws; with `nsga2` the size of a generation, at least 2."""

    @model_validator(mode="after")
    def _generation(self) -> SamplerConfig:
        if self.name == "nsga2" and self.startup_trials < 2:
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
