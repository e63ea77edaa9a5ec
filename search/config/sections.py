"""The sections of a configuration file, each with the units and ranges of its fields."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from evaluation.config import FaceConfig, GenerationConfig, LimitsConfig, ObjectiveConfig
from evaluation.hw10 import GENERATION
from search.config.space import distinct
from trainer.data.captions import names_person
from trainer.data.photos_config import PhotoFolderConfig
from trainer.settings_file import Section

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""Of a generator of NumPy's, which takes 32 bits."""
ImageSeeds = Annotated[tuple[Annotated[int, Field(ge=0, le=2**63 - 1)], ...], AfterValidator(distinct)]
SamplerName = Literal["learning_curves", "tpe", "gp", "qmc", "random", "nsga2"]


class PhotosConfig(PhotoFolderConfig):
    """The person's photos."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    class_word: str = Field(default="", alias="class", pattern=r"^$|^[^\s{}<>]([^{}<>]*[^\s{}<>])?$", max_length=100)
    """What the person is, such as `man`: takes the trigger's place where other people are asked for and where CLIP
    reads a prompt. Default: the noun that follows the trigger in the prompt, as in `{trigger} man`, else `person`."""
    reference_share: float = Field(default=0.3, gt=0, lt=1)
    """Share of the photos that are kept out of training: likeness is measured against these only."""
    seed: Seed = 0
    """Seed of the split into training and reference photos."""
    face_crop: float | None = Field(default=None, ge=1, le=100)
    """Side of the square that is cut out around the face, in longer sides of the face's box: about 2 is a head, 4 a
    bust. Default: the middle square of the photo, as for photos in which no face is found."""
    nearest: int | None = Field(default=None, ge=3)
    """Keep only this many photos, those whose faces are nearest to the mean of all. Default: keep all."""

    @model_validator(mode="after")
    def _class_is_not_the_person(self) -> PhotosConfig:
        if names_person(self.class_word, self.trigger):
            raise ValueError(
                f"class is {self.class_word!r}, which holds the trigger {self.trigger!r}; the class is what other "
                "people are, too: leave the trigger out of it, or choose a trigger that is no common word"
            )
        return self

    @model_validator(mode="after")
    def _one_way_to_cut(self) -> PhotosConfig:
        if self.buckets is not None and self.face_crop is not None:
            raise ValueError(
                f"face_crop is {self.face_crop!r} and cuts squares, so all buckets but one would be empty; "
                "leave out face_crop or buckets"
            )
        return self


class OthersConfig(Section):
    """Images of other people, without the trigger: whether they turn into the person."""

    prompts: Path | None = None
    """Text file, one prompt a line, none with the trigger. Default: the validation's and the final's own prompts with
    the class word in its place, so that `a photo of {trigger} man, happy` asks for any man."""
    count: int = Field(default=6, ge=0)
    """Prompts at most, spread over the file; 0 turns the meter off. The validation makes one image a prompt, with its
    first seed, the final one with each of its seeds."""


class EvaluationConfig(Section):
    """How a checkpoint is scored."""

    protocol: Literal["likeness", "hw10"] = "likeness"
    """`hw10` makes images in the homework's way (its seed, 30 steps, guidance 7.5, the model's own scheduler, batches
    of 4, no negative prompt) whatever `generation` says, and reports its three numbers besides; likeness, fidelity and
    objective steer the search all the same. What `generation` leaves out is then the homework's, too, as 512 px; a
    stated resolution is used. What differs from the homework is said when the search starts. See `evaluation.hw10`."""
    prompts: Path
    """Text file, one prompt a line. Every candidate is scored on every prompt with every seed."""
    seeds: ImageSeeds = Field(default=(1, 2), min_length=1)
    """Seeds of the images: one image for each prompt and each seed."""
    every: int = Field(default=100, ge=1)
    """Optimizer steps between two scored checkpoints. The last step is always scored."""
    clip: str = "openai/clip-vit-base-patch32"
    """CLIP model of the CLIP score: a folder or a hub name."""
    generation: GenerationConfig
    faces: FaceConfig = FaceConfig()
    second_judge: FaceConfig | None = None
    """Another face model, which steers nothing: when the search is over it looks at the same images and says whether it
    would have chosen the same champion. Default: none."""
    objective: ObjectiveConfig = ObjectiveConfig()
    limits: LimitsConfig = LimitsConfig()
    """What makes a candidate unfit to win."""
    others: OthersConfig = OthersConfig()
    judges: tuple[str, ...] = ()
    """Judges of your own, `module:Class` each, whose measures of every image are reported beside the built-in ones
    (`evaluation.judges`); `objective.measures` weighs them. Default: none."""

    @model_validator(mode="before")
    @classmethod
    def _homework_is_the_default(cls, data: Any) -> Any:
        if not isinstance(data, dict) or data.get("protocol") != "hw10":
            return data
        generation = data.get("generation", {})
        return {**data, "generation": {**GENERATION, **generation}} if isinstance(generation, dict) else data

    @model_validator(mode="after")
    def _two_judges(self) -> EvaluationConfig:
        if self.second_judge == self.faces:
            raise ValueError(
                f"second_judge is the same as faces ({self.faces.name}) and could only agree with it; give it another "
                "recognizer or detector, or leave it out"
            )
        return self


class FinalConfig(Section):
    """The final: the best candidates once more, on prompts and seeds that did not steer the search.

    Each is also trained again with other training seeds, for a candidate may be the best of the search by the luck of
    its own. A training that diverges counts as the untuned model. Of the winner's trainings the one whose objective is
    nearest to their mean is handed over, so that what was measured of the configuration holds for it.
    """

    prompts: Path
    """Text file, one prompt a line; no prompt with a seed that the validation shows already."""
    seeds: ImageSeeds = Field(default=(101, 102), min_length=1)
    """Seeds of the images: one image for each prompt and each seed."""
    candidates: int = Field(default=3, ge=1)
    """How many trials send their best checkpoint into the final. The first trial is scored besides, to compare."""
    retrain: int = Field(default=2, ge=0, le=100)
    """How often each finalist's configuration is trained again, each time with another training seed."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Level of the bootstrap intervals, a probability."""
    indifference: float = Field(default=0.02, ge=0, le=1)
    """Objective that a cheaper finalist, by trained parameters times steps, may lack and still win, if its lag is also
    within one standard error. 0: the highest objective wins."""
    strengths: tuple[Annotated[float, Field(gt=0, le=10)], ...] = (0.25, 0.5, 0.75, 1.25)
    """Strengths at which the champion's adapter is drawn besides, to show what more or less of it does; it decides
    nothing. 0 and 1 are known from the final and cost nothing. `[]` turns it off."""
    strength_prompts: int = Field(default=4, ge=1)
    """How many of the final prompts, the first ones, each with the first seed, are drawn at each strength."""


class StoppingConfig(Section):
    """ASHA (Li et al. 2020, arXiv:1810.05934): at each rung only the best 1/reduction_factor of the trials continue.

    With `evaluation.objective.mode: pareto` a trial is stopped at a rung that all but 1/reduction_factor of the others
    dominate there (`search.study.scheduler`).
    """

    enabled: bool = True
    """False trains every trial to its end."""
    grace_period: int = Field(default=100, ge=1)
    """Optimizer steps that every trial may take before it can be stopped."""
    reduction_factor: float = Field(default=3, gt=1)
    """At a rung one in so many trials goes on, and the next rung is so many times as far."""


class ComingNodesConfig(Section):
    """Nodes that an autoscaler may start; Ray does not know them before."""

    nodes: int = Field(ge=1)
    """How many at most, beside those that run when the search starts."""
    cpus: float = Field(gt=0)
    """CPU cores that Ray offers on each."""
    gpus: float = Field(default=0, ge=0)
    """GPUs on each."""


class SeatsConfig(Section):
    """The workers: each holds the base model and trains one trial after the other."""

    count: int | None = Field(default=None, ge=1)
    """How many workers. Default: as many as fit, that is one a GPU of the cluster, or one a CPU core where there is no
    GPU."""
    workers: int = Field(default=1, ge=1)
    """Training processes of each worker, which share every batch (data parallel)."""
    gpus_per_worker: float = Field(default=1.0, gt=0, le=1)
    """GPUs that each process of a worker reserves where the cluster has any; a fraction lets several share one."""
    threads: int = Field(default=1, ge=1)
    """CPU threads of each process of a worker, and CPU cores that it reserves on a cluster without GPUs."""
    tries: int = Field(default=3, ge=1)
    """How often a job may lose its worker before the trial has failed, and a worker may fail to start before it alone
    is given up."""
    coming: ComingNodesConfig | None = None
    """Nodes that workers may wait for: the search begins with the first worker, the others join as their nodes come.
    Default: none, workers that do not fit at once are refused."""


class TrackingConfig(Section):
    """Where MLflow keeps the record."""

    uri: str | None = None
    """MLflow tracking URI. Default: the sqlite database `mlflow.db` beside the folder of runs."""
    experiment: str = Field(default="likeness", min_length=1)
    """Name of the MLflow experiment that holds the runs; made if missing."""


class BudgetConfig(Section):
    """What a search may cost, its final included. Without limits it does all its trials."""

    max_gpu_hours: Positive | None = None
    """Hours of reserved GPUs: two GPUs for half an hour are one. Without GPUs the workers' hours count."""
    max_cost: Positive | None = None
    """Money, in the currency of `gpu_hour_price`."""
    max_minutes: Positive | None = None
    """Minutes by the clock, from the start of the search to its result."""
    gpu_hour_price: Positive | None = None
    """Price of one GPU's hour, or of a worker's where there are no GPUs."""

    @model_validator(mode="after")
    def _priced(self) -> BudgetConfig:
        if self.max_cost is not None and self.gpu_hour_price is None:
            raise ValueError(
                f"max_cost is {self.max_cost:g}, but nothing says what an hour costs; set budget.gpu_hour_price as well"
            )
        return self


class SamplerConfig(Section):
    """The sampler; see `search.study.samplers.factory` for what each learns from."""

    name: SamplerName = "learning_curves"
    """`learning_curves`: a Gaussian process over settings and progress, which weighs what a training takes. `tpe`:
    Parzen estimators. `gp`: a Gaussian process. `nsga2`: generations. `qmc`: an even spread (Sobol), and `random`,
    which both learn nothing. Of likeness and fidelity at once (`evaluation.objective.mode: pareto`) all but
    `learning_curves` know; there `tpe` is the default."""
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
