"""The outcome of a small search, for tests that need a whole one."""

from __future__ import annotations

from typing import Any

from search.storage.result_schema import Outcome

COST: dict[str, Any] = {
    "seats": 1,
    "training_seconds": 100.0,
    "scoring_seconds": 200.0,
    "optimizer_steps": 1000,
    "images": 100,
    "budget": None,
}


def an_outcome(**changes: Any) -> Outcome:
    """Of a search without a champion; `changes` are fields as the result file has them."""
    values: dict[str, Any] = {
        "name": "anna",
        "status": "no usable candidate",
        "objective": {"likeness": 0.5, "fidelity": 0.4, "faceless": 0.5, "mode": "weighted", "protocol": "likeness"},
        "limits": {"memorisation": 0.1, "leakage": None},
        "base": {"search": {"objective": 0.3}, "final": {}},
        "anchors": {
            "validation": {
                "untuned": {"face_distance": 0.9, "clip_score": 30.0, "mismatched_clip_score": 0.0},
                "real": {"face_distance": 0.5},
                "others": {},
                "faceless_prompts": [],
                "pairings": "base-validation/anchors.json",
            }
        },
        "champion": None,
        "finalists": [],
        "second_judge": None,
        "strengths": None,
        "front": [],
        "trials": [],
        "seconds": {"start": 30.0, "total": 330.0},
        "cost": COST,
        "mlflow": {"tracking_uri": "sqlite:///mlflow.db", "experiment_id": "1", "run_id": "abc"},
    }
    return Outcome.model_validate({**values, **changes})
