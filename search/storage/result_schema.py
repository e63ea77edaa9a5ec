"""The shape of the result file: each part that a search writes down, with the meaning of its fields."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from evaluation.bootstrap import Interval
from evaluation.scores import Anchors
from search.config.space import Value

SCHEMA_VERSION = 2
"""Of the file's shape. Files without one are of version 1, whose scores were others."""

Metrics: TypeAlias = dict[str, float]
"""Finite values by the names of `evaluation.measures.METRICS`."""

Measured: TypeAlias = Annotated[float | None, Field(exclude_if=lambda value: value is None)]
"""Left out of the file where it was not measured."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class FinalMetrics(_Part):
    """An adapter's metrics in the final: their intervals, and beside them each metric by its name."""

    model_config = ConfigDict(extra="allow")

    intervals: dict[str, tuple[float, float]] = {}
    """Lower and upper end by metric, over prompts and seeds."""
    __pydantic_extra__: Metrics = Field(init=False)

    @property
    def metrics(self) -> Metrics:
        return self.__pydantic_extra__


class RetrainingResult(_Part):
    """A finalist's configuration trained again."""

    seed: int
    metrics: Metrics
    """On the final's prompts; empty if the training failed."""
    reason: str
    """Why it failed."""


class AmongFinalists(_Part):
    """The champion beside the other finalists."""

    verdict: Literal["tie", "winner"]
    leader: str
    """The trial with the highest mean objective."""
    tied: tuple[str, ...]
    """Trials that the images cannot tell from the leader."""


class AgainstFirstTrial(_Part):
    """The champion beside the first trial, by default the homework's configuration."""

    verdict: str
    difference: Interval | None
    """Of the objective, paired by prompt and seed; None where they are not compared."""


class ChampionResult(_Part):
    """The winner."""

    trial: str
    step: int
    params: dict[str, Value]
    search: Metrics
    """As scored on the validation prompts."""
    final: FinalMetrics
    """Of the adapter that is handed over."""
    shipped_seed: int | None
    """Training seed of that adapter, where it is a retraining; None for the search's own."""
    retrained: tuple[RetrainingResult, ...]
    across_seeds: dict[str, Interval]
    """Of the configuration: over its trainings, prompts and seeds."""
    trainings: str
    """How many trainings those are and what became of them, in words."""
    among_finalists: AmongFinalists
    choice: str
    """Why it won, in words."""
    against_first_trial: AgainstFirstTrial
    adapter: str
    """Folder of its files, relative to the run folder."""
    model_uri: str | None
    """`models:/NAME/VERSION` in MLflow; None where it is not registered."""


class FinalistResult(_Part):
    """A trial's best checkpoint in the final."""

    trial: str
    step: int
    search: Metrics
    final: FinalMetrics
    unfit: tuple[str, ...]
    """Why it may not win, in words."""
    retrained: tuple[RetrainingResult, ...]
    across_seeds: dict[str, Interval]
    trainings: str
    """How many trainings those are and what became of them, in words."""
    behind_leader: Interval | None
    """Objective of the leader less its own; None for the leader and for the unfit."""


class CheckpointValue(_Part):
    """A scored checkpoint."""

    step: int
    objective: float


class TrialResult(_Part):
    """What became of a trial."""

    id: str
    state: str
    """As in `search.storage.trial_record.JobState`."""
    reason: str
    params: dict[str, Value]
    best_step: int | None
    """Of its best checkpoint; None if none was scored."""
    metrics: Metrics
    """Of its best checkpoint; of a duplicate, of the first with its configuration."""
    unfit: tuple[str, ...]
    remarks: tuple[str, ...]
    checkpoints: tuple[CheckpointValue, ...]
    seconds: float
    training_seconds: float | None
    scoring_seconds: float | None
    training_cpu_seconds: float | None
    scoring_cpu_seconds: float | None


class AnchorsResult(_Part):
    """The anchors of one prompt set. In the file, what was not measured is left out."""

    untuned: Metrics
    """Means over the untuned model's images that have the measure."""
    real: Metrics
    """The same of the person's own photos."""
    others: Metrics
    """The same of the untuned model's images of other people; empty if there are none."""
    copy_distance: Measured = None
    faceless_prompts: tuple[int, ...]
    """Prompts on which the untuned model draws no face."""
    base_spread: Measured = None
    pairings: str
    """File of what was paired with what, relative to the run folder."""

    @property
    def anchors(self) -> Anchors:
        """For computing with them."""
        values = self.model_dump(exclude={"pairings"})
        return Anchors(**{**values, "faceless_prompts": frozenset(self.faceless_prompts)})


class RankCorrelationResult(_Part):
    """Of two judges' likeness over the trials."""

    trials: int
    kendall: float | None
    spearman: float | None
    reason: str
    """Why there is none."""


class JudgedFinalistResult(_Part):
    """A finalist in the second judge's eyes."""

    trial: str
    likeness: float
    interval: tuple[float, float]
    objective: float


class SecondJudgeResult(_Part):
    """What another face model says of the same images."""

    recognizer: str
    detector: str
    reason: str
    """Why it has no opinion; empty if it has one."""
    agrees: bool | None
    prefers: str | None
    lead: Interval | None
    rank_correlation: RankCorrelationResult | None
    trials: dict[str, float]
    """Likeness by trial."""
    finalists: tuple[JudgedFinalistResult, ...]
    summary: str


class StrengthPoint(_Part):
    """The champion's adapter at one strength."""

    strength: float
    folder: str
    """Relative to the run folder."""
    metrics: Metrics


class StrengthsResult(_Part):
    """The champion's adapter at several strengths."""

    points: tuple[StrengthPoint, ...]
    reason: str
    """Why there are none."""


class FrontPoint(_Part):
    """A checkpoint on the front of likeness and fidelity."""

    trial: str
    step: int
    likeness: float
    fidelity: float
    faceless_rate: float


class Spent(_Part):
    """Time and what it costs."""

    seconds: float
    hours: float
    price: float | None


class LimitResult(Spent):
    """The limit that would be reached first."""

    name: str


class ForecastResult(Spent):
    """What was predicted for the whole search."""

    after_trials: int
    error: float
    """Predicted by measured seconds, less 1."""


class BudgetResult(Spent):
    """What the search used, could use, and was predicted to use."""

    unit: str
    """Of `hours`."""
    limit: LimitResult | None
    cut_off: str
    """Why the study was ended before its last trial; empty if the budget did not end it."""
    forecast: ForecastResult | None


class Cost(_Part):
    """What the search took."""

    seats: int
    """Workers."""
    training_seconds: float
    scoring_seconds: float
    optimizer_steps: int
    images: int
    budget: BudgetResult | None
    """None if no trial began."""


class BaseResult(_Part):
    """The untuned model; empty where it was not scored."""

    search: Metrics
    final: Metrics
    remarks: tuple[str, ...] = ()
    """What makes the ends of the scores poor, in words."""


class MlflowResult(_Part):
    """Where MLflow keeps the search."""

    tracking_uri: str
    experiment_id: str
    run_id: str
    failure: str = Field(default="", exclude_if=lambda failure: not failure)
    """Why its record is not whole."""


class Outcome(_Part):
    """What the file holds, in its order."""

    schema_version: int = SCHEMA_VERSION
    name: str
    status: str
    """`champion`, or why there is none."""
    objective: dict[str, Any]
    """Weights and rule, and the protocol."""
    limits: dict[str, float | None]
    base: BaseResult
    anchors: dict[str, AnchorsResult]
    """By prompt set, `validation` and `final`."""
    champion: ChampionResult | None
    finalists: tuple[FinalistResult, ...]
    """The highest mean objective first; those that proved unfit last."""
    second_judge: SecondJudgeResult | None
    strengths: StrengthsResult | None = None
    front: tuple[FrontPoint, ...]
    trials: tuple[TrialResult, ...]
    seconds: dict[str, float]
    """By phase, and `total`."""
    cost: Cost
    mlflow: MlflowResult
