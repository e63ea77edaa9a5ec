"""A search on several nodes, behind a token: it begins with the first worker, others join, a node is taken away."""

import ast
import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.command import CEILING
from tests.support.short_search import (
    REPOSITORY,
    SearchRun,
    finish,
    short_search,
    start,
    training_workers,
    write_search,
)
from tests.support.staged_search import GATE

TOKEN = "c1u5ter-t0ken-that-n0b0dy-may-write-d0wn"
SECRET = "a-pa55word-in-the-environment"
HOSTILE = """<i>"'.x() # `id`../x"""
"""Markup, quotes, a comment, a command and a path; the demo's text encoder reads no more."""
TRIALS = 5


@dataclass
class TestCluster:
    """The nodes of `cluster_process.py`."""

    __test__ = False
    process: subprocess.Popen[str]
    state: dict[str, Any] = field(default_factory=dict)

    def answer(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # Ray may have something to say besides
                self.state = json.loads(line)
                return
        pytest.fail("the cluster died")

    def tell(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        self.answer()

    def workers(self, node: int) -> list[psutil.Process]:
        """The training workers on a node."""
        try:
            children = psutil.Process(self.state["raylets"][node]).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return training_workers(children)


@dataclass(frozen=True, kw_only=True)
class Outcome(SearchRun):
    """What was seen of a search that has ended."""

    doors: list[str]
    answers: dict[str, int]
    logs: Path


def configuration(home: Path) -> Path:
    """Five trials that differ in the learning rate alone, each scored three times on one seed; hostile prompts."""
    content = short_search()
    content |= {"trials": TRIALS, "first_trials": []}
    content["space"] = {"learning_rate": content["space"]["learning_rate"]}
    content["training"] |= {"steps": 60, "rank": 4}
    content["evaluation"] |= {"seeds": [1], "others": {"count": 0}, "second_judge": None}
    content["final"] |= {"seeds": [101], "candidates": 1, "retrain": 0}
    # Two workers on nodes that are not there; for the third no node ever comes.
    content["seats"] = {"count": 3, "coming": {"nodes": 2, "cpus": 1}}
    path = write_search(home, content)
    photo = "a photo of {trigger} man"
    (home / "validation.txt").write_text(f"{{trigger}} {HOSTILE}\n{photo}\n")
    (home / "final.txt").write_text(f"{{trigger}} {HOSTILE}\n{photo}, smug\n")
    return path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    return {
        **os.environ,
        "HF_HUB_OFFLINE": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # nodes and driver call this machine 127.0.0.1
        "LIKENESS_TEST_PASSWORD": SECRET,
    }


@pytest.fixture(scope="module")
def cluster(environment: dict[str, str]) -> Iterator[TestCluster]:
    started = TestCluster(
        subprocess.Popen(
            [sys.executable, str(REPOSITORY / "tests" / "support" / "cluster_process.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )
    )
    with started.process:
        tree: list[psutil.Process] = []
        try:
            started.answer()
            started.tell("add")
            yield started
        finally:
            if started.process.poll() is None:
                tree = psutil.Process(started.process.pid).children(recursive=True)
            assert started.process.stdin is not None
            started.process.stdin.close()
            started.process.wait(CEILING)
            for process in tree:
                if process.is_running():
                    process.kill()


@pytest.fixture(scope="module")
def outcome(
    cluster: TestCluster,
    environment: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    beyond_loopback: Callable[[int], list[str]],
) -> Outcome:
    home = tmp_path_factory.mktemp("nodes")
    options = (str(configuration(home)), "--address", cluster.state["address"])
    with start(home, *options, scene="gated", environment=environment) as search:
        search.until(lambda: cluster.workers(0), "a worker on the first node")
        cluster.tell("add")
        search.until(lambda: cluster.workers(1), "a worker on the node that came later")
        search.until_line(r"trial \d+  step +20/60 ")
        doors = [*beyond_loopback(search.process.pid), *beyond_loopback(cluster.process.pid)]
        answers = {
            "no token": knock(cluster.state["dashboard"], {}),
            "a wrong token": knock(cluster.state["dashboard"], {"Authorization": "Bearer wrong"}),
        }
        cluster.tell("remove 0")
        (home / GATE).touch()
        ended = search.finish()
    return Outcome(**vars(ended), home=home, doors=doors, answers=answers, logs=Path(cluster.state["logs"]))


def knock(dashboard: str, headers: dict[str, str]) -> int:
    """Ask Ray's jobs API to run a command; the status of its answer."""
    request = urllib.request.Request(
        f"http://{dashboard}/api/jobs/",
        data=json.dumps({"entrypoint": "true"}).encode(),
        headers={"Content-Type": "application/json", **headers},
    )
    try:
        with urllib.request.urlopen(request, timeout=CEILING) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_a_node_is_taken_away_and_every_trial_is_accounted_for(outcome: Outcome) -> None:
    assert outcome.code == 0, outcome.output
    result = outcome.result
    assert result["status"] == "champion"
    assert [trial["id"] for trial in result["trials"]] == [f"{number:03d}" for number in range(TRIALS)]
    assert {trial["state"] for trial in result["trials"]} <= {"finished", "stopped"}
    for trial in result["trials"]:
        steps = [checkpoint["step"] for checkpoint in trial["checkpoints"]]
        assert steps == [20, 40, 60][: len(steps)], "no checkpoint twice, none left out"
        assert trial["state"] == "stopped" or len(steps) == 3


def test_the_search_does_not_wait_for_the_worker_whose_node_never_comes(outcome: Outcome) -> None:
    assert "starting 3 worker(s)" in outcome.output
    assert outcome.result["cost"]["seats"] == 3


def test_what_the_cluster_can_never_give_is_refused_and_named(
    outcome: Outcome, cluster: TestCluster, environment: dict[str, str]
) -> None:
    """One node is left, and two more may come."""
    options = ("--address", cluster.state["address"], "--set", "seats.count=4", "--name", "greedy")
    done = finish(start(outcome.home, "search.yaml", *options, environment=environment), outcome.home)
    assert done.code == 2, done.output
    assert "4 worker(s) of 1 process(es) need 4 CPUs" in done.output
    assert "may come to have 2 CPUs on 2 node(s) more, which is enough for 3 worker(s)" in done.output
    assert not (outcome.home / "runs" / "greedy" / "trials").exists()


def test_everything_that_listens_does_so_on_loopback_only(outcome: Outcome) -> None:
    assert outcome.doors == []


def test_rays_jobs_are_for_those_who_have_the_token(outcome: Outcome) -> None:
    assert outcome.answers == {"no token": 401, "a wrong token": 403}


def test_a_prompts_text_is_only_text(outcome: Outcome) -> None:
    run = outcome.folder
    assert "<script>" not in (run / "report.html").read_text("utf-8")
    card = (run / "champion" / "README.md").read_text("utf-8")
    outside, code, _ = re.split(r"```(?:python)?\n", card)
    assert "<script>" not in outside
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    assert [ast.unparse(call.func) for call in calls] == [
        "DiffusionPipeline.from_pretrained",
        "pipeline.load_lora_weights",
        "pipeline",
    ]
    assert [ast.literal_eval(argument) for argument in calls[-1].args] == [f"sks {HOSTILE}"]
    assert {path.name for path in (run / "trials").iterdir()} == {f"{number:03d}" for number in range(TRIALS)}


def test_neither_token_nor_environment_is_written_down(outcome: Outcome) -> None:
    written = [path for folder in (outcome.home, outcome.logs) for path in folder.rglob("*") if path.is_file()]
    assert {"result.json", "report.html", "README.md", "mlflow.db", "journal.log"} <= {path.name for path in written}
    for secret in (TOKEN, SECRET):
        assert secret not in outcome.output
        assert not [path for path in written if secret.encode() in path.read_bytes()]
