"""A search without workers, whose run folder, journal and tracker are real."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from search.config.search_config import SearchConfig, load_config
from search.storage.result import SearchResult
from search.storage.result_schema import (
    AgainstFirstTrial,
    AmongFinalists,
    BaseResult,
    ChampionResult,
    Cost,
    FinalMetrics,
    MlflowResult,
    Outcome,
    RankCorrelationResult,
    SecondJudgeResult,
    TrialResult,
)
from search.storage.run_folder import RunFolder
from search.storage.trial_record import CheckpointResult, JobState, TrialRecord
from search.study.history import end_note, read_history
from search.study.samplers.study_sampler import StudySampler
from search.study.study import make_sampler
from search.tracking.connection import Connection
from search.tracking.registry import Champion
from search.tracking.tracker import Tracker
from tests.support.command import CEILING

PARAMS = {"model": "base", "trials": 2}
JUDGED = SecondJudgeResult(
    recognizer="Dlib",
    detector="opencv",
    reason="",
    agrees=True,
    prefers="000",
    lead=None,
    rank_correlation=RankCorrelationResult(trials=3, kendall=0.5, spearman=None, reason=""),
    trials={"000": 0.75},
    finalists=(),
    summary="agrees",
)


@dataclass
class FakeSearch:
    """A search called anna, step by step: what its workers would do is written down."""

    config: SearchConfig
    uri: str | None
    make_checkpoint: Callable[..., CheckpointResult]
    sampler: StudySampler = field(init=False)
    records: dict[str, TrialRecord] = field(init=False)
    tune: dict[str, str] = field(init=False)
    """Tune's names of the trials."""

    @property
    def folder(self) -> Path:
        return self.config.runs / self.config.name

    def tracker(self, patience: float = CEILING) -> Tracker:
        return Tracker(self.uri, self.config.tracking.experiment, self.config.runs.parent, patience=patience)

    def begin(self, tracker: Tracker) -> None:
        """From nothing, or from what an earlier process has left."""
        self.folder.mkdir(parents=True, exist_ok=True)
        RunFolder(self.folder, 0, is_new=True).begin(self.config, {})
        self.sampler, self.tune = make_sampler(self.config, self.folder), {}
        self.records = {each.id: each for each in read_history(self.sampler, self.config, self.folder / "trials")}
        tracker.start(self.folder, PARAMS, list(self.records.values()))

    def base(self, tracker: Tracker) -> None:
        self._checkpoint(self.folder / "base-validation", 0, 0.0)
        tracker.changed()

    def propose(self, tracker: Tracker) -> str:
        tune = f"tune-{len(self.tune)}"
        proposed = self.sampler.suggest(tune)
        assert proposed is not None
        name = f"{proposed['number']:03d}"
        if name not in self.records:
            self.records[name] = TrialRecord(id=name, params=proposed["params"], steps=proposed["params"]["steps"])
        self.tune[name] = tune
        tracker.changed(self.records[name])
        return name

    def score(self, tracker: Tracker, name: str, step: int, objective: float) -> CheckpointResult:
        report = self._checkpoint(self.folder / "trials" / name / f"step-{step}", step, objective)
        self.sampler.on_trial_result(self.tune[name], {"step": step, **report.metrics})
        self.records[name].add(report)
        tracker.changed(self.records[name])
        return report

    def end(self, tracker: Tracker, name: str, state: JobState, reason: str = "") -> None:
        record = self.records[name]
        record.state, record.reason, record.seconds = state, reason, 12.5
        self.sampler.on_trial_complete(self.tune[name], error=state is JobState.FAILED)
        self.sampler.note(end_note(name), {"reason": reason, "seconds": record.seconds})
        tracker.changed(record)

    def two_trials(self, tracker: Tracker) -> None:
        """From its beginning to its champion: one trial finished, one failed."""
        self.begin(tracker)
        self.base(tracker)
        first, second = self.propose(tracker), self.propose(tracker)
        self.score(tracker, first, 50, 0.25)
        self.score(tracker, first, 100, 0.5)
        self.end(tracker, first, JobState.FINISHED)
        self.end(tracker, second, JobState.FAILED, "diverged")
        self.finish(tracker)

    def champion(self) -> Champion:
        """Its files, written, and how it is registered."""
        folder = self.folder / "champion"
        folder.mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "samples.png")
        (folder / "README.md").write_text("# anna\n")
        save_file({"weight": torch.zeros(1)}, folder / "pytorch_lora_weights.safetensors")
        return Champion(config=self.config, adapter=folder, trial="000", step=100, final={"objective": 0.4})

    def finish(self, tracker: Tracker, *, status: str = "champion", model_uri: str | None = None) -> None:
        """Write the result, as a whole search would, and close the runs."""
        for name in ("plots/front.svg", "report.html", "trials.csv", "images.parquet"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(name)
        crowned = status == "champion"
        if crowned:
            self.champion()
        champion = ChampionResult(
            trial="000",
            step=100,
            params={},
            search={},
            final=FinalMetrics.model_validate({"objective": 0.4, "intervals": {"objective": (0.3, 0.5)}}),
            shipped_seed=None,
            retrained=(),
            across_seeds={},
            trainings="1",
            among_finalists=AmongFinalists(verdict="winner", leader="000", tied=()),
            choice="the highest objective",
            against_first_trial=AgainstFirstTrial(verdict="it is the first trial", difference=None),
            adapter="champion",
            model_uri=model_uri,
        )
        outcome = Outcome(
            name="anna",
            status=status,
            objective={},
            limits={},
            base=BaseResult(search={}, final={}),
            anchors={},
            champion=champion if crowned else None,
            finalists=(),
            second_judge=JUDGED if crowned else None,
            front=(),
            trials=tuple(TrialResult.model_validate(record.as_result()) for record in self.records.values()),
            seconds={},
            cost=Cost(seats=1, training_seconds=0.0, scoring_seconds=0.0, optimizer_steps=0, images=0, budget=None),
            mlflow=MlflowResult(
                tracking_uri=tracker.shown_uri, experiment_id=tracker.experiment_id, run_id=tracker.run_id
            ),
        )
        SearchResult(folder=self.folder, outcome=outcome).write()
        tracker.finish(list(self.records.values()))

    def _checkpoint(self, folder: Path, step: int, objective: float) -> CheckpointResult:
        folder.mkdir(parents=True)
        Image.new("RGB", (8, 8), (step, 0, 0)).save(folder / "grid.png")
        (folder / "pytorch_lora_weights.safetensors").write_bytes(b"weights")
        report = replace(self.make_checkpoint(step, objective), folder=folder)
        report.write(folder)
        return report


MakeSearch = Callable[..., FakeSearch]

pytest.register_assert_rewrite("tests.support.mlflow_runs")


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables, so it does it once."""
    folder = tmp_path_factory.mktemp("database")
    Connection(None, "Default", folder)
    return folder / "mlflow.db"


@pytest.fixture
def make_search(
    document: dict[str, Any],
    write_config: Callable[[dict[str, Any]], Path],
    make_checkpoint: Callable[..., CheckpointResult],
    empty_database: Path,
    tmp_path: Path,
) -> MakeSearch:
    """Makes a search that has not begun, and MLflow's database where it would have it."""
    shutil.copy(empty_database, tmp_path / "mlflow.db")

    def make(uri: str | None = None, first_steps: Sequence[int] = (100, 100), experiment: str = "people") -> FakeSearch:
        document["tracking"] = {"experiment": experiment, **({"uri": uri} if uri else {})}
        document["first_trials"] = [
            {"learning_rate": 1e-4, "rank": rank, "alpha": 8, "steps": steps}
            for rank, steps in zip((8, 16, 4), first_steps, strict=False)
        ]
        return FakeSearch(load_config(write_config(document)), uri, make_checkpoint)

    return make
