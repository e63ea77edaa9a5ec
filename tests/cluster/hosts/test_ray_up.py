"""`ray up` with `cluster-local.yaml` as it is, on three machines with addresses, homes and SSH servers of their own.

`make test-cluster` runs it, as root. What was entered and seen is in `build/cluster-test.log`.
"""

import json
import re
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.hosts.evidence import Evidence
from tests.cluster.hosts.machine import Listener, missing, own_listeners
from tests.cluster.hosts.site import CLUSTER, REPOSITORY, STEPS, TRIALS, Site, programs, rays

pytestmark = pytest.mark.hosts

LOG = REPOSITORY / "build" / "cluster-test.log"
SEARCH_LIMIT = 1200.0
"""Seconds for a search on three machines that share two cores."""

DASHBOARD = "http://localhost:8265"
PLAIN = "--log-style pretty --log-color false"
"""As Ray tells it at a terminal, without colours."""

ENVIRONMENT = {
    "PATH": "/root/environment/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "RAY_AUTH_MODE": "token",
    "PYTHONUNBUFFERED": "1",  # what is followed is read as it comes
}
STRANGER = {"PATH": ENVIRONMENT["PATH"], "HOME": "/tmp", "RAY_AUTH_MODE": "disabled"}
"""Who has no token."""

POST = """
import json, sys, urllib.error, urllib.request
headers = {"Content-Type": "application/json"} | ({"Authorization": "Bearer " + sys.argv[2]} if sys.argv[2:] else {})
request = urllib.request.Request(sys.argv[1], json.dumps({"entrypoint": "true"}).encode(), headers)
try:
    print(urllib.request.urlopen(request, timeout=30).status)
except urllib.error.HTTPError as error:
    print(error.code)
except urllib.error.URLError as error:
    print(type(error.reason).__name__)
"""

CLIENT = """
import sys, ray
try:
    ray.init(sys.argv[1])
    print(ray.get(ray.remote(lambda: "served").remote()))
except Exception as error:
    print(type(error).__name__)
"""


@dataclass(kw_only=True)
class Seen:
    """What was seen from the first command to the last."""

    codes: dict[str, int] = field(default_factory=dict)
    """Exit code of each command."""
    nodes: str = ""
    """What `ray status` says when all have come."""
    job: str = ""
    """The search's last state, as Ray names it."""
    result: dict[str, Any] = field(default_factory=dict)
    writers: dict[str, dict[int, str]] = field(default_factory=dict)
    """By trial and step: the machine that wrote the checkpoint."""
    interrupted: dict[str, int] = field(default_factory=dict)
    """The trials that the machine was at when it was killed, and the step of its last checkpoint in each."""
    answers: dict[str, str] = field(default_factory=dict)
    """What strangers are told, by the door at which they knock."""
    listeners: dict[str, set[Listener]] = field(default_factory=dict)
    left: dict[str, set[str]] = field(default_factory=dict)
    """What runs on the machines when the cluster is down."""
    token: str = ""


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    if reason := missing():
        pytest.fail(reason)
    site, evidence, seen = Site(tmp_path_factory.mktemp("hosts")), Evidence(LOG), Seen()
    try:
        site.start()
        happen(site, evidence, seen)
    finally:
        site.stop()
        evidence.note("the machines are gone")
    return seen


def happen(site: Site, evidence: Evidence, seen: Seen) -> None:
    """From `ray up` to `ray down`, as docs/cluster.md has it."""
    laptop, (head, victim, survivor) = site.laptop, site.hosts

    def enter(command: str) -> str:
        code, said = evidence.run(laptop, f"cd ~/likeness && {command}", limit=900, **ENVIRONMENT)
        seen.codes[command] = code
        return said

    def complete() -> bool:
        seen.nodes = enter(f"ray exec {CLUSTER} 'ray status' {PLAIN}")
        return f"{len(site.hosts)} local.cluster.node" in seen.nodes

    evidence.note("machines: " + ", ".join(f"{each.name} {each.address}" for each in (laptop, *site.hosts)))
    enter("ray get-auth-token --generate > /dev/null")
    enter("chmod 600 ~/.ray/auth_token")
    seen.token = (laptop.root / "root/.ray/auth_token").read_text("utf-8").strip()
    enter(f"ray up {CLUSTER} --yes {PLAIN}")
    evidence.wait(lambda: all(rays(host) for host in site.hosts), "all three run Ray", 300)
    evidence.wait(complete, "all three belong to the cluster", 120)

    with ExitStack() as background:

        def follow(command: str, output: Path) -> subprocess.Popen[bytes]:
            """Enter a command that goes on while others are entered."""
            evidence.note(f"laptop$ {command} &")
            with output.open("wb") as file:
                words = ["bash", "-c", f"cd ~/likeness && exec {command}"]
                process = laptop.spawn(words, output=file, **ENVIRONMENT)
            background.callback(laptop.end, process)
            return process

        follow(f"ray dashboard {CLUSTER}", laptop.root / "root/dashboard.log")
        evidence.wait(lambda: 8265 in {each.port for each in laptop.listeners()}, "the forwarded port listens", 60)
        seen.answers = knock(site)
        for door, answer in seen.answers.items():
            evidence.note(f"{door}: {answer}")
        enter(f"ray rsync-up {CLUSTER} ~/anna/ /shared/anna/ {PLAIN}")
        enter(
            f"ray job submit --address {DASHBOARD} {PLAIN} --no-wait --submission-id anna -- bash -c "
            "'cd /shared/anna && ~/likeness/.venv/bin/python -m search.run my.yaml --address auto'"
        )
        log = laptop.root / "root/search.log"
        search = follow(f"ray job logs --address {DASHBOARD} {PLAIN} --follow anna", log)

        def interrupted() -> dict[str, int]:
            """Trials that are not over, with the step of a checkpoint from the victim that has been reported."""
            said = log.read_text("utf-8", "replace")
            return {
                trial: max(steps)
                for trial, steps in site.checkpoints().items()
                if max(steps) < STEPS[-1]
                and steps[max(steps)] == victim.name
                and re.search(rf"trial {trial} +step +{max(steps)}/", said)
            }

        def midway() -> bool:
            assert search.poll() is None, "the search was over too soon"
            seen.interrupted = interrupted()
            return bool(seen.interrupted) and any(STEPS[-1] in steps for steps in site.checkpoints().values())

        def at_work() -> bool:
            return all(any("RayTrainWorker" in command for command in rays(host)) for host in site.hosts)

        evidence.wait(at_work, "a worker on each of the three", SEARCH_LIMIT)
        seen.listeners = {machine.name: machine.listeners() for machine in (laptop, *site.hosts)}
        seen.listeners["outside"] = own_listeners()
        evidence.wait(midway, f"a trial has ended, {victim.name} is midway in another", SEARCH_LIMIT)
        victim.kill()
        evidence.note(f"{victim.name} is dead, all of its processes at once; it was at {seen.interrupted}")
        search.wait(SEARCH_LIMIT)
        evidence.note("the search has ended")
        evidence.quote(log.read_text("utf-8"))
        seen.job = enter(f"ray job status --address {DASHBOARD} {PLAIN} anna")
    seen.writers = site.checkpoints()
    seen.result = json.loads((site.shared / "anna/runs/anna/result.json").read_text("utf-8"))
    for trial, steps in seen.writers.items():
        evidence.note(f"trial {trial}: " + ", ".join(f"step {step} by {name}" for step, name in steps.items()))
    for name, listeners in seen.listeners.items():
        for each in sorted(listeners):
            evidence.note(f"{name}: {each.process} listens on {each.address}:{each.port}")

    enter(f"ray down {CLUSTER} --yes {PLAIN}")
    enter(f"ssh -o StrictHostKeyChecking=no likeness@{survivor.address} likeness/.venv/bin/ray stop {PLAIN}")
    evidence.wait(lambda: not rays(head) and not rays(survivor), "no process of Ray on the machines that are left", 60)
    seen.left = {host.name: programs(host) for host in site.hosts}
    evidence.note(f"what runs: {seen.left}")


def knock(site: Site) -> dict[str, str]:
    """Ask for work at the cluster's doors without its token."""
    laptop, (head, worker, _) = site.laptop, site.hosts
    python = "/root/environment/bin/python"

    def post(address: str, *token: str) -> str:
        return laptop.ask(python, "-c", POST, address, *token, **STRANGER).strip()

    return {
        "jobs, without a token": post(f"{DASHBOARD}/api/jobs/"),
        "jobs, with a wrong token": post(f"{DASHBOARD}/api/jobs/", "wrong"),
        "jobs, past the forward": post(f"http://{head.address}:8265/api/jobs/"),
        "jobs, at the agent of a worker": post(f"http://{worker.address}:52365/api/job_agent/jobs/"),
        "Ray's client server": laptop.ask(python, "-c", CLIENT, f"ray://{head.address}:10001", **STRANGER).split()[-1],
    }


def test_every_command_succeeds(seen: Seen) -> None:
    assert {command: code for command, code in seen.codes.items() if code} == {}


def test_head_and_workers_come_up_as_one_cluster(seen: Seen) -> None:
    assert "3 local.cluster.node" in seen.nodes
    assert "(no pending nodes)" in seen.nodes
    assert "(no failures)" in seen.nodes


def test_every_machine_trains(seen: Seen) -> None:
    writers = {name for steps in seen.writers.values() for name in steps.values()}
    assert writers == {"head", "worker-1", "worker-2"}


def test_the_search_ends_well_without_the_machine_that_was_killed(seen: Seen) -> None:
    assert "succeeded" in seen.job, "exit code 0"
    assert seen.result["status"] == "champion"
    assert [trial["id"] for trial in seen.result["trials"]] == [f"{number:03d}" for number in range(TRIALS)]
    for trial in seen.result["trials"]:
        assert trial["state"] == "finished"
        assert [checkpoint["step"] for checkpoint in trial["checkpoints"]] == list(STEPS)
    assert {trial: tuple(steps) for trial, steps in seen.writers.items()} == {
        f"{number:03d}": STEPS for number in range(TRIALS)
    }


def test_others_go_on_with_what_the_killed_machine_was_at(seen: Seen) -> None:
    assert seen.interrupted
    for trial, step in seen.interrupted.items():
        assert seen.writers[trial][step] == "worker-1", "not made anew"
        assert seen.writers[trial][STEPS[-1]] in {"head", "worker-2"}


def test_strangers_get_no_work_done(seen: Seen) -> None:
    answers = dict(seen.answers)
    assert answers.pop("Ray's client server") != "served"
    assert answers == {
        "jobs, without a token": "401",
        "jobs, with a wrong token": "403",
        "jobs, past the forward": "ConnectionRefusedError",
        "jobs, at the agent of a worker": "401",
    }


def test_where_commands_are_entered_only_loopback_listens(seen: Seen) -> None:
    assert seen.listeners["outside"] == set()
    assert {(each.process, each.port) for each in seen.listeners["laptop"]} == {("ssh", 8265)}
    assert [each for each in seen.listeners["laptop"] if not each.on_loopback] == []


def test_between_machines_only_ssh_and_ray_listen(seen: Seen) -> None:
    for name in ("head", "worker-1", "worker-2"):
        open_to_others = {each for each in seen.listeners[name] if not each.on_loopback}
        others = {each.process for each in open_to_others if not each.process.startswith("ray::")}
        assert others <= {"sshd", "gcs_server", "raylet", "python"}
        assert 8265 not in {each.port for each in open_to_others}


def test_nothing_of_ray_is_left(seen: Seen) -> None:
    assert seen.left == {"head": {"sshd"}, "worker-1": set(), "worker-2": {"sshd"}}


def test_the_log_tells_no_secret(seen: Seen) -> None:
    text = LOG.read_text("utf-8")
    assert len(seen.token) == 64
    assert seen.token not in text
    assert "PRIVATE KEY" not in text
    assert str(REPOSITORY) not in text
