"""The machines that `cluster-local.yaml` names, the one where commands are entered, and what they begin with."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil
import yaml

from tests.cluster.hosts.machine import USER_ID, Machine

REPOSITORY = Path(__file__).resolve().parents[3]
DEMO = REPOSITORY / "demo"
CLUSTER = "cluster-local.yaml"
TRIALS = 16
STEPS = (20, 40, 60)
"""At which a trial has a checkpoint; the last is its end."""


class Site:
    """A laptop with this checkout, head and workers at the addresses that the file has, and what they share."""

    def __init__(self, folder: Path) -> None:
        root, self.shared = folder / "root", folder / "shared"
        root.mkdir()
        self.shared.mkdir()
        os.chown(self.shared, USER_ID, USER_ID)
        provider = yaml.safe_load((REPOSITORY / CLUSTER).read_text("utf-8"))["provider"]
        self.laptop = Machine(
            "laptop",
            "192.0.2.1",
            group=USER_ID,
            folder=root,
            environment="/root/environment",
            init=("sleep", "infinity"),
            project=REPOSITORY,
        )
        addresses = {"head": provider["head_ip"]}
        addresses |= {f"worker-{number}": address for number, address in enumerate(provider["worker_ips"], 1)}
        self.hosts = tuple(
            Machine(
                name,
                address,
                group=USER_ID + number,
                folder=root,
                environment="/home/likeness/likeness/.venv",
                init=("/usr/sbin/sshd", "-D"),
                shared=self.shared,
            )
            for number, (name, address) in enumerate(addresses.items(), 1)
        )

    def start(self) -> None:
        """Start and join them; the laptop's key opens the others, and the search to come lies in its ~/anna."""
        self.laptop.start()
        self.laptop.make_switch()
        self.laptop.ask("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        for host in self.hosts:
            host.start()
            host.plug(self.laptop)
            keys = host.root / "home/likeness/.ssh/authorized_keys"
            shutil.copyfile(self.laptop.root / "root/.ssh/id_ed25519.pub", keys)
        write_search(self.laptop.root / "root/anna")

    def stop(self) -> None:
        """Kill them; what they were made of goes with them."""
        for machine in (*self.hosts, self.laptop):
            machine.kill()

    def checkpoints(self) -> dict[str, dict[int, str]]:
        """By trial and step: the machine that wrote the checkpoint, told by its group."""
        names = {host.group: host.name for host in self.hosts}
        found: dict[str, dict[int, str]] = {}
        for step in STEPS:
            for folder in self.shared.glob(f"anna/runs/anna/trials/*/step-{step}"):
                found.setdefault(folder.parent.name, {})[step] = names[folder.stat().st_gid]
        return dict(sorted(found.items()))


def write_search(home: Path) -> None:
    """The demo's search, cut down: `my.yaml`, photos and prompts, to be sent to the machines."""
    home.mkdir()
    shutil.copytree(DEMO / "photos", home / "photos")
    photo = "a photo of {trigger} man"
    (home / "validation.txt").write_text(f"{photo}, happy, green background\n{photo}, neutral\n")
    (home / "final.txt").write_text(f"{photo}, sad, red background\n{photo}, smug\n")
    content = yaml.safe_load((DEMO / "search.yaml").read_text("utf-8"))
    # The base model and CLIP lie on every machine beside the code.
    content |= {"name": "anna", "model": "~/likeness/demo/base", "trials": TRIALS, "first_trials": []}
    content["space"] = {"learning_rate": {"low": 1e-3, "high": 4e-3, "log": True}}
    content["training"] |= {"batch_size": 2, "lr_warmup_steps": 5, "steps": STEPS[-1], "rank": 4}
    content["stopping"] = {"enabled": False}  # what a killed machine was at must be gone on with, not given up
    content["evaluation"] |= {"prompts": "validation.txt", "seeds": [1], "every": STEPS[0]}
    content["evaluation"] |= {"clip": "~/likeness/demo/clip", "others": {"count": 0}, "second_judge": None}
    content["final"] = {"prompts": "final.txt", "seeds": [101], "candidates": 2, "retrain": 0}
    (home / "my.yaml").write_text(yaml.safe_dump(content), "utf-8")


def rays(machine: Machine) -> list[str]:
    """The processes of Ray on a machine, by their command."""
    found = []
    for process in machine.processes():
        try:
            command = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        if command.startswith("ray::") or "/ray/" in command:
            found.append(command)
    return found


def programs(machine: Machine) -> set[str]:
    """What runs on a machine, by name."""
    found = set()
    for process in machine.processes():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                found.add(process.name())
        except psutil.NoSuchProcess:
            continue
    return found
