"""The benchmark of the final's rule: its rules by hand, and a quick run for real."""

from pathlib import Path

import numpy as np

from benchmarks.deciding.__main__ import RULES
from search.final.decision import Entrant
from tests.support import quick_benchmark


def test_only_the_former_rule_gives_a_lead_away_for_nothing_but_noise() -> None:
    noise = np.random.default_rng(0).normal(0.0, 0.3, (2, 3, 12, 2))
    noise -= noise.mean(axis=(1, 2, 3), keepdims=True)
    leader, cheap = (
        Entrant(id=name, cost=cost, objective=mean + each)
        for name, cost, mean, each in (("0", 2.0, 0.6, noise[0]), ("1", 1.0, 0.55, noise[1]))
    )
    winners = {name: rule([leader, cheap], 0) for name, rule in RULES.items()}
    assert (winners["the leader"], winners["the search's"], winners["the cheapest of the tied"]) == ("0", "0", "1")


def test_quick_run_compares_the_rules_and_ends_with_its_outcome(tmp_path: Path) -> None:
    outcome = quick_benchmark.finish("deciding", "--quick", json_file=tmp_path / "outcome.json").outcome
    assert (outcome["benchmark"], outcome["finals"], len(outcome["kinds"])) == ("deciding", 4, 4)
    for kind in outcome["kinds"]:
        assert set(kind["losses"]) == set(RULES)
        assert min(kind["losses"].values()) >= 0.0
