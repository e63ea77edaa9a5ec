"""The benchmark of what searches cost: recording, surrogate, virtual clock, comparison, and a run of all of it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import optuna
import pytest
from numpy.random import Generator
from numpy.typing import NDArray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from benchmarks.search_cost.__main__ import DEMO, Comparison, compare
from benchmarks.search_cost.recording import (
    Checkpoint,
    RecordedTrial,
    read_recording,
    record,
    without_copies,
    write_recording,
)
from benchmarks.search_cost.surrogate import Costs, Surrogate
from benchmarks.search_cost.virtual_search import Course, Moment, VirtualSearch
from search.config.search_config import SearchConfig, load_config
from search.config.space import Value
from search.storage.trial_record import CheckpointResult
from tests.support import quick_benchmark

PARAMS: dict[str, Value] = {"learning_rate": 1e-3, "rank": 4, "alpha": 8, "targets": "attention", "steps": 200}


def checkpoint(step: int, value: float, *, training: float = 5.0, scoring: float = 2.0) -> Checkpoint:
    return Checkpoint(
        step=step, objective=value, search_value=value, training_seconds=training, scoring_seconds=scoring
    )


REPEATED = 3


def smooth_trials(count: int, *, noise: float = 0.0) -> tuple[RecordedTrial, ...]:
    """Trials that are best at one learning rate and better with every step, the last ones repetitions."""
    random = np.random.default_rng(0)
    trials: list[RecordedTrial] = []
    for number in range(count):
        again = number > count - REPEATED
        rate, steps = 10 ** random.uniform(-4, -2), int(random.choice([100, 200, 300]))
        if again:
            rate, steps = float(trials[-1].params["learning_rate"]), trials[-1].steps
        values = [
            0.3 + 0.2 * step / 300 * math.exp(-(math.log10(rate / 1e-3) ** 2)) + random.normal(0, noise)
            for step in range(50, steps + 1, 50)
        ]
        trials.append(
            RecordedTrial(
                id=f"{number:03d}",
                params=trials[-1].params
                if again
                else {
                    "learning_rate": rate,
                    "rank": int(random.choice([4, 32])),
                    "alpha": int(random.choice([4, 32])),
                    "targets": str(random.choice(["attention", "attention+feed_forward+convolutions"])),
                    "steps": steps,
                },
                checkpoints=tuple(checkpoint(50 * place, value) for place, value in enumerate(values, start=1)),
            )
        )
    return tuple(trials)


class ScriptedSurrogate:
    """Trial 0 comes to 0, 0.1 and 0.2, worth 1, 2 and 3; trial N to -N, worth nothing. A step takes 1 s, a score 10."""

    costs = Costs(
        step=dict.fromkeys(("attention", "attention+feed_forward+convolutions"), 1.0),
        scoring=dict.fromkeys(("attention", "attention+feed_forward+convolutions"), 10.0),
    )

    def __init__(self) -> None:
        self.asked = 0

    def trial(self, params: Mapping[str, Value], steps: Sequence[int], random: Generator) -> NDArray[np.float64]:
        number, self.asked = self.asked, self.asked + 1
        return np.array([0.0, 0.1, 0.2]) if number == 0 else np.full(len(steps), -float(number))

    def mean(self, params: Mapping[str, Value], steps: Sequence[int]) -> NDArray[np.float64]:
        return np.array([1.0, 2.0, 3.0]) if self.asked == 1 else np.zeros(len(steps))


@pytest.fixture
def config() -> SearchConfig:
    """The demo's search with trials of 300 steps, scored every 100."""
    return load_config(DEMO, ["trials=4", "space.steps={values: [300]}"])


def virtual(config: SearchConfig, folder: Path, **options: Any) -> VirtualSearch:
    return VirtualSearch(config, cast(Surrogate, ScriptedSurrogate()), 0, folder, **options)


def test_early_stopping_on_the_virtual_clock(config: SearchConfig, tmp_path: Path) -> None:
    # Worker A trains trial 0, which is never stopped; worker B trials 1, 2 and 3, each beaten at step 100.
    course = virtual(config, tmp_path).run()
    assert course == Course(
        moments=tuple(
            Moment(cost=110.0 * place, value=value) for place, value in enumerate([1.0, 1, 2, 2, 3, 3], start=1)
        ),
        trials=4,
        stopped=3,
        trainings=(),
    )
    assert course.trainings == (((100, 200, 300), 3), *[((100, 200, 300), 1)] * 3)
    assert (course.cost_to(1), course.cost_to(2), course.cost_to(2.5), course.cost_to(4)) == (110, 330, 550, None)

    (study,) = JournalStorage(JournalFileBackend(str(tmp_path / "journal.log"))).get_all_studies()
    told = optuna.load_study(
        study_name=study.study_name, storage=JournalStorage(JournalFileBackend(str(tmp_path / "journal.log")))
    ).trials
    assert [trial.state.name for trial in told] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]
    assert told[0].intermediate_values == {100: 0.0, 200: 0.1, 300: 0.2}


def test_full_budgets_and_a_limit_of_cost(config: SearchConfig, tmp_path: Path) -> None:
    full = config.model_copy(
        update={
            "stopping": config.stopping.model_copy(update={"enabled": False}),
            "sampler": config.sampler.model_copy(update={"name": "random"}),
        }
    )
    for name in ("whole", "limited"):
        (tmp_path / name).mkdir()
    course = virtual(full, tmp_path / "whole").run()
    assert (course.cost, course.trials, course.stopped, course.value) == (4 * 330, 4, 0, 3)
    limited = virtual(full, tmp_path / "limited").run(budget=400)
    assert [moment.cost for moment in limited.moments] == [110, 220, 330, 440]
    assert limited.trials == 2


def course(*moments: tuple[float, float]) -> Course:
    return Course(
        moments=tuple(Moment(cost=cost, value=value) for cost, value in moments), trials=3, stopped=1, trainings=()
    )


def test_comparison_counts_who_never_arrives() -> None:
    random = [course((100, 1.0)), course((150, 0.0), (200, 0.5)), course((50, 1.0))]
    ours = [course((10, 0.0), (30, 1.0)), course((50, 2.0)), course((40, 0.5))]
    compared = compare(ours, random, 1.0)
    # Of all that random search spends: 30 / 100, 50 / 200 and infinite.
    assert compared.ratio == pytest.approx(0.3)
    assert (compared.lower, compared.upper) == (0.25, None)
    assert compared.first == pytest.approx(0.3)
    assert (compared.reached, compared.seconds, compared.trials, compared.stopped) == (2, 50.0, 3, 1)
    assert compared.value == pytest.approx((1.0 + 2.0 + 0.5) / 3)
    assert compare(random, random, 1.0) == Comparison(
        ratio=1.0, lower=1.0, upper=None, first=1.0, reached=2, seconds=100.0, value=2.5 / 3, trials=3, stopped=1
    )


def test_what_random_search_spends_until_it_is_there_is_told_beside() -> None:
    random = [course((20, 1.0), (100, 1.0)), course((50, 1.0), (100, 1.0))]
    ours = [course((10, 1.0)), course((40, 1.0))]
    compared = compare(ours, random, 1.0)
    assert compared.ratio == pytest.approx((0.1 + 0.4) / 2)
    assert compared.first == pytest.approx((0.5 + 0.8) / 2)


def test_surrogate_foretells_what_it_has_not_seen() -> None:
    surrogate = Surrogate(smooth_trials(40))
    assert surrogate.fit.rank_correlation > 0.95
    assert surrogate.fit.error < 0.01
    # At the best rate after 100 and 200 of 200 steps.
    assert surrogate.mean(PARAMS, (100, 200)) == pytest.approx([0.3 + 0.2 / 3, 0.3 + 0.4 / 3], abs=0.02)
    assert Surrogate(smooth_trials(40, noise=0.1)).fit.error > 0.03


def test_noise_belongs_to_the_trial() -> None:
    surrogate = Surrogate(smooth_trials(30, noise=0.05))
    first, again, other = (
        surrogate.trial(PARAMS, (100, 200), np.random.default_rng(seed)).tolist() for seed in (1, 1, 2)
    )
    assert first == again
    assert first != other


def test_trainings_differ_as_the_repeated_ones_did() -> None:
    repeated = smooth_trials(30, noise=0.05)[-REPEATED:]
    values = np.array([[checkpoint.search_value for checkpoint in trial.checkpoints] for trial in repeated])
    expected = math.sqrt(float(np.mean((values - values.mean(axis=0)) ** 2)) * REPEATED / (REPEATED - 1))
    surrogate = Surrogate(smooth_trials(30, noise=0.05))
    assert surrogate.fit.noise == pytest.approx(expected)
    mean = surrogate.mean(PARAMS, (200,))
    off = {
        round(float(surrogate.trial(PARAMS, (200,), np.random.default_rng(seed))[0] - mean[0]), 9) for seed in range(50)
    }
    wider = math.sqrt(REPEATED / (REPEATED - 1))
    assert off == {round(float(value), 9) for value in wider * (values - values.mean(axis=0))[:, -1]}


def test_without_repeated_trainings_there_is_no_surrogate() -> None:
    with pytest.raises(ValueError, match="none of the recorded trainings was repeated"):
        Surrogate(smooth_trials(30, noise=0.05)[: -REPEATED + 1])


def test_a_training_that_two_searches_did_with_the_same_seed_is_recorded_once() -> None:
    first, *_, last = smooth_trials(12, noise=0.05)
    assert without_copies([first, replace(first, id="again"), last]) == (first, last)


def test_too_few_trials_make_no_surrogate() -> None:
    with pytest.raises(ValueError, match="11 recorded trials are too few for a surrogate; record 12 or more"):
        Surrogate(smooth_trials(11))


def test_costs_are_medians_by_what_is_adapted() -> None:
    def trial(targets: str, *seconds: tuple[float, float]) -> RecordedTrial:
        checkpoints = [
            checkpoint(50 * place, 0.0, training=training, scoring=scoring)
            for place, (training, scoring) in enumerate(seconds, start=1)
        ]
        return RecordedTrial(id="0", params={**PARAMS, "targets": targets}, checkpoints=tuple(checkpoints))

    costs = Costs.of([trial("attention", (5, 2), (10, 3), (500, 100)), trial("more", (20, 4), (30, 6))])
    assert costs == Costs(step={"attention": 0.2, "more": 0.5}, scoring={"attention": 3, "more": 5})


def test_recording_keeps_the_trials_that_have_run_to_their_ends(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    study = optuna.create_study(
        study_name="run", direction="maximize", storage=JournalStorage(JournalFileBackend(str(run / "journal.log")))
    )
    states = ("COMPLETE", "PRUNED", "RUNNING", "COMPLETE")
    for number, state in enumerate(states):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-2)
        for step in (50, 100):
            folder = run / "trials" / f"{number:03d}" / f"step-{step}"
            folder.mkdir(parents=True)
            CheckpointResult(
                step=step,
                metrics={"objective": number + step / 1000, "search_value": number + step / 1000 - 1},
                rows=(),
                folder=folder,
                training_seconds=99.0,
                scoring_seconds=99.0,
                training_cpu_seconds=step / 10,
                scoring_cpu_seconds=1.23456789,
            ).write(folder)
        if state == "COMPLETE":
            study.tell(trial, 1.0)
        elif state == "PRUNED":
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    recorded = record(run)
    assert [trial.id for trial in recorded] == ["000", "003"]
    assert recorded[1].steps == 100
    assert recorded[1].checkpoints[1] == Checkpoint(
        step=100, objective=3.1, search_value=2.1, training_seconds=10.0, scoring_seconds=1.23457
    )
    write_recording(recorded, tmp_path / "file.json")
    assert read_recording(tmp_path / "file.json") == recorded

    (run / "search.yaml").write_text("training: {rank: 8, learning_rate: 1.0, dropout: 0.1}\n", "utf-8")
    assert record(run)[0].params == {"rank": 8, **recorded[0].params}, "what does not vary is recorded, too"

    last = run / "trials" / "003" / "step-100"
    replace(CheckpointResult.read(last), scoring_cpu_seconds=None).write(last)
    with pytest.raises(ValueError, match=r"003/step-100 does not say what it took of the processor.*; record a run"):
        record(run)


def test_recordings_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"is no run folder: it holds no journal\.log"):
        record(tmp_path)
    with pytest.raises(
        ValueError, match=r"there is no recording .* make one with python -m benchmarks\.search_cost\.recording"
    ):
        read_recording(tmp_path / "missing.json")
    (tmp_path / "torn.json").write_text('[{"id":"000"', "utf-8")
    with pytest.raises(ValueError, match=r"is damaged .* make it again"):
        read_recording(tmp_path / "torn.json")


def test_quick_run_compares_all_methods_and_ends_with_its_outcome(tmp_path: Path) -> None:
    write_recording(smooth_trials(24, noise=0.01), tmp_path / "recorded.json")
    options = ("--quick", "--recording", str(tmp_path / "recorded.json"))
    done = quick_benchmark.finish("search_cost", *options, json_file=tmp_path / "outcome.json")
    *_, goal = done.lines
    outcome = done.outcome
    assert (outcome["benchmark"], outcome["recorded_trials"]) == ("search_cost", 24)
    assert (outcome["seeds"], outcome["trials"]) == (2, 6)
    assert list(outcome["methods"]) == [
        *("random", "random, ASHA", "TPE", "TPE, ASHA", "GP", "GP, ASHA"),
        *("learning curves", "learning curves, ASHA"),
    ]
    assert outcome["methods"]["random"]["trials"] == 6
    assert outcome["methods"]["random"]["first"] == 1
    assert outcome["target"] == pytest.approx(outcome["methods"]["random"]["value"])
    for name, method in outcome["methods"].items():
        assert (method["stopped"] > 0) <= name.endswith("ASHA")
    ratio = outcome["methods"]["learning curves, ASHA"]["ratio"]
    assert outcome["met"] == {"learning curves, ASHA": ratio is not None and ratio <= 0.33}
    assert goal.endswith(": met" if outcome["met"]["learning curves, ASHA"] else "not met")
    assert done.heading.startswith("surrogate of 24 recorded trials; of trials held out: median error")


def test_without_a_recording_it_says_how_to_make_one(tmp_path: Path) -> None:
    run = quick_benchmark.run("search_cost", "--recording", str(tmp_path / "none.json"))
    assert run.returncode == 2
    assert "make one with python -m benchmarks.search_cost.recording RUN... --file FILE" in run.stderr
