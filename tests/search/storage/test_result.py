"""The result file: written and read back the same, refused by name where it is damaged or of a later version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evaluation.scores import Anchors
from search.storage.result import SearchResult, find_result, mark_unfinished, read_result
from search.storage.run_folder import RunFolderError
from tests.support.outcomes import an_outcome

INTERVAL = {"lower": 0.1, "mean": 0.2, "upper": 0.3}
FINAL = {"objective": 0.6, "likeness": 0.7, "intervals": {"objective": [0.5, 0.7]}}
CHAMPION: dict[str, Any] = {
    "trial": "003",
    "step": 200,
    "params": {"learning_rate": 1e-3, "rank": 4, "targets": "attention", "rslora": True},
    "search": {"objective": 0.5},
    "final": FINAL,
    "shipped_seed": None,
    "retrained": [{"seed": 1000003, "metrics": {}, "reason": "the loss is no longer finite"}],
    "across_seeds": {"objective": INTERVAL},
    "trainings": "2 (1 of 2 diverged, which counts as the untuned model)",
    "among_finalists": {"verdict": "tie", "leader": "001", "tied": ["001", "003"]},
    "choice": "a tie",
    "against_first_trial": {"verdict": "better", "difference": INTERVAL},
    "adapter": "champion",
    "model_uri": None,
}


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    result = SearchResult(folder=tmp_path, outcome=an_outcome(status="champion", champion=CHAMPION))
    written = json.loads(result.write().read_text("utf-8"))
    assert next(iter(written)) == "schema_version"
    assert written["schema_version"] == 2
    assert written["champion"] == CHAMPION
    assert written["anchors"]["validation"].keys() == {
        "untuned",
        "real",
        "others",
        "faceless_prompts",
        "pairings",
    }
    assert written["mlflow"].keys() == {"tracking_uri", "experiment_id", "run_id"}
    again = read_result(tmp_path)
    assert again == result
    assert again.has_champion
    assert not again.has_no_candidate
    champion = again.outcome.champion
    assert champion is not None
    assert champion.final.metrics == {"objective": 0.6, "likeness": 0.7}
    assert champion.final.intervals == {"objective": (0.5, 0.7)}
    assert [type(value) for value in champion.params.values()] == [float, int, str, bool]
    assert again.outcome.anchors["validation"].anchors == Anchors.between(
        untuned_distance=0.9, real_distance=0.5, clip_score=30.0
    )


def test_a_file_without_a_version_is_of_the_first_whose_scores_were_others(tmp_path: Path) -> None:
    values = an_outcome().model_dump(mode="json", exclude={"schema_version"})
    (tmp_path / "result.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunFolderError, match=r"by an earlier version .* \(schema 1, here 2\), whose scores"):
        read_result(tmp_path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "holds no result.json; give a run whose search has ended"),
        ("", "is damaged (Expecting value"),
        ('{"status": "cham', "is damaged (Unterminated string"),
        ("[]", "is damaged (the file: "),
        ("{}", "was written by an earlier version of this program (schema 1, here 2), whose scores do not compare"),
        ('{"schema_version": 2}', "is damaged (name: Field required); restore it from a copy"),
        ('{"schema_version": 3}', "was written by a later version of this program (schema 3, here 2); read it with"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_name(content: str | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "result.json").write_text(content)
    with pytest.raises(RunFolderError) as refused:
        read_result(tmp_path)
    assert said in str(refused.value)
    assert find_result(tmp_path) is None


def test_a_misspelt_or_missing_field_is_named(tmp_path: Path) -> None:
    values = an_outcome(champion=CHAMPION).model_dump(mode="json")
    values["champion"]["among_finalists"]["leeder"] = values["champion"]["among_finalists"].pop("leader")
    (tmp_path / "result.json").write_text(json.dumps(values), "utf-8")
    with pytest.raises(RunFolderError, match=r"champion\.among_finalists\.leader: Field required"):
        read_result(tmp_path)


def test_while_a_run_is_resumed_its_earlier_result_is_not_the_last_word(tmp_path: Path) -> None:
    mark_unfinished(tmp_path)
    assert not list(tmp_path.iterdir())
    before = SearchResult(folder=tmp_path, outcome=an_outcome(status="champion", champion=CHAMPION))
    before.write()
    mark_unfinished(tmp_path)
    after = read_result(tmp_path)
    assert after.interrupted
    assert after.outcome == before.outcome.model_copy(update={"status": "interrupted"})
