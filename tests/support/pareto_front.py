"""The Pareto front of scored checkpoints, worked out pair by pair."""

from typing import Any


def front_of(scored: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with a face that no other beats: by the constraint first, then in likeness and fidelity at once."""
    scored = [each for each in scored if each["faceless_rate"] < 1]
    breaches = [max(0.0, each["faceless_rate"] - 0.1) for each in scored]
    least = [each for each, breach in zip(scored, breaches, strict=True) if breach == min(breaches)]
    unbeaten = [
        one
        for one in least
        if not any(
            other["likeness"] >= one["likeness"]
            and other["fidelity"] >= one["fidelity"]
            and (other["likeness"], other["fidelity"]) != (one["likeness"], one["fidelity"])
            for other in least
        )
    ]
    names = ("trial", "step", "likeness", "fidelity", "faceless_rate")
    return [{name: one[name] for name in names} for one in sorted(unbeaten, key=lambda each: each["likeness"])]
