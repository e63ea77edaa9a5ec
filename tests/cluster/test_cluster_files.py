"""The cluster files, as Ray reads them: its schema, its preparation, its autoscaler; and what we promise of them."""

import configparser
import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
from ray.core.generated.autoscaler_pb2 import (  # type: ignore[attr-defined] # made when it is imported
    GangResourceRequest,
    ResourceRequest,
)

from search.config.search_config import SearchConfig

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("cluster.yaml", "cluster-local.yaml")
STARTS = ("head_start_ray_commands", "worker_start_ray_commands")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((REPOSITORY / name).read_text("utf-8"))
    return content


def prepared(name: str) -> dict[str, Any]:
    """As `ray up` sees the file once its defaults are filled in."""
    config: dict[str, Any] = prepare_config(read(name))
    validate_config(config)
    return config


def starts(name: str) -> dict[str, str]:
    """The one command that starts Ray, on the head and on workers."""
    config = prepared(name)
    return {key: next(line for line in config[key] if re.search(r"\bray start\b", line)) for key in STARTS}


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file_and_its_defaults_add_no_command(name: str) -> None:
    config, own = prepared(name), read(name)
    common = own["setup_commands"]
    assert config["head_setup_commands"] == common + own["head_setup_commands"]
    assert config["worker_setup_commands"] == common + own.get("worker_setup_commands", [])
    for key in STARTS:
        assert config[key] == own[key]


def test_rays_default_head_command_for_aws_installs_something_else_and_is_replaced() -> None:
    """`head_setup_commands` and `setup_commands` of Ray's own defaults would install another Ray."""
    for line in prepared("cluster.yaml")["head_setup_commands"]:
        assert "ray-wheels" not in line
        assert "boto3>=1.4.8" not in line


@pytest.mark.parametrize("name", FILES)
def test_every_node_has_the_token_and_starts_with_it(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"
    assert "chmod 600 ~/.ray/auth_token" in config["setup_commands"]
    assert any("export RAY_AUTH_MODE=token" in line and "~/.profile" in line for line in config["setup_commands"])
    for line in starts(name).values():
        mode, start = line.index("export RAY_AUTH_MODE=token"), line.index("ray start")
        assert mode < start
        assert "RAY_AUTH_MODE=disabled" not in line


@pytest.mark.parametrize("name", FILES)
def test_dashboard_and_mlflow_listen_on_loopback_only(name: str) -> None:
    head, worker = (shlex.split(starts(name)[key]) for key in STARTS)
    assert "--dashboard-host=127.0.0.1" in head
    assert not [word for word in worker if word.startswith("--dashboard-host")]
    assert "0.0.0.0" not in (REPOSITORY / name).read_text("utf-8")
    assert not [word for word in (*head, *worker) if "ray-client-server-port" in word]


@pytest.mark.parametrize("name", FILES)
def test_ray_reports_no_usage(name: str) -> None:
    head = shlex.split(starts(name)["head_start_ray_commands"])
    assert head.index("--head") < head.index("--disable-usage-stats")


@pytest.mark.parametrize("name", FILES)
def test_no_secret_is_in_the_file(name: str) -> None:
    text = (REPOSITORY / name).read_text("utf-8")
    assert not re.search(r"(?i)(password|secret|token|key_id)\s*[:=]\s*['\"]?[A-Za-z0-9+/]{8,}", text)
    assert not re.search(r"AKIA[0-9A-Z]{16}|[0-9a-f]{32}|-----BEGIN", text)
    assert not re.search(r"://[^/\s:@]+:[^/\s@]+@", text)


@pytest.mark.parametrize("name", FILES)
def test_the_environment_is_the_pinned_one_and_all_of_the_project_is_there(name: str) -> None:
    config = read(name)
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    mounts = {remote: local for remote, local in config["file_mounts"].items() if remote.startswith("~/likeness/")}
    needed = {
        *(name.rstrip("*") for name in project["tool"]["setuptools"]["packages"]["find"]["include"]),
        "pyproject.toml",
        "constraints.txt",
    }
    needed |= {project["project"]["readme"], *project["project"]["license-files"]}
    assert mounts == {f"~/likeness/{local}": local for local in needed}
    for local in mounts.values():
        assert (REPOSITORY / local).exists(), local
    installs = [line for line in config["setup_commands"] if "-m pip install" in line]
    assert len(installs) == 1
    assert "--constraint ~/likeness/constraints.txt" in installs[0]
    extras = re.search(r"likeness\[([a-z,]+)\]", installs[0])
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])


def test_spot_nodes_come_first_and_on_demand_ones_when_spot_has_failed() -> None:
    config = AutoscalingConfig(configs=prepared("cluster.yaml"), skip_content_hash=True)

    def launched(workers: int, **availability: float) -> dict[str, int]:
        """What Ray's autoscaler starts for workers of a GPU each, each asked for by a placement group of its own."""
        worker = ResourceRequest(resources_bundle={"GPU": 1.0, "CPU": 1.0})
        reply = ResourceDemandScheduler().schedule(
            SchedulingRequest(
                disable_launch_config_check=True,
                node_type_configs=config.get_node_type_configs(),
                max_num_nodes=config.get_max_num_worker_nodes(),  # the head is not among these instances
                idle_timeout_s=config.get_idle_timeout_s(),
                gang_resource_requests=[GangResourceRequest(requests=[worker]) for _ in range(workers)],
                recoverable_resource_availabilities=availability,
            )
        )
        return {each.instance_type: each.count for each in reply.to_launch}

    assert launched(0) == {}, "no node without a search"
    assert launched(3) == {"gpu_spot": 3}
    assert launched(3, gpu_spot=0.0) == {"gpu_on_demand": 3}
    assert launched(9) == {"gpu_spot": 4}, "never more than max_workers"


def test_what_aws_is_asked_for() -> None:
    config = read("cluster.yaml")
    types = config["available_node_types"]
    assert config["idle_timeout_minutes"] == 10
    assert types["head"]["resources"] == {"CPU": 0}, "no worker on the head"
    assert "InstanceMarketOptions" not in types["head"]["node_config"]
    assert types["gpu_spot"]["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert "InstanceMarketOptions" not in types["gpu_on_demand"]["node_config"]
    spot = {**types["gpu_spot"]["node_config"]}
    del spot["InstanceMarketOptions"]
    assert spot == types["gpu_on_demand"]["node_config"]
    for node in types.values():
        asked = node["node_config"]
        assert asked["SecurityGroupIds"], "Ray's own group would let everybody knock at SSH"
        assert asked["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in asked["BlockDeviceMappings"])


def test_own_machines_are_brought_up_by_the_autoscaler_that_can() -> None:
    assert "RAY_enable_autoscaler_v2=0" in starts("cluster-local.yaml")["head_start_ray_commands"]
    assert "RAY_enable_autoscaler_v2" not in (REPOSITORY / "cluster.yaml").read_text("utf-8")
    config = prepared("cluster-local.yaml")
    (node,) = config["available_node_types"].values()
    assert (node["min_workers"], node["max_workers"]) == (2, 2), "all of them, at once"


def test_ray_down_finds_ray_on_own_machines_by_its_name(tmp_path: Path) -> None:
    """Ray's `ray down` runs `ray stop` in a login shell of the head, whatever `head_start_ray_commands` say."""
    program = tmp_path / "likeness" / ".venv" / "bin" / "ray"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (line,) = (each for each in read("cluster-local.yaml")["setup_commands"] if "export PATH=" in each)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    for _ in range(2):
        subprocess.run(["bash", "-c", line], env=environment, check=True)
    assert (tmp_path / ".profile").read_text("utf-8") == 'export PATH="$HOME/likeness/.venv/bin:$PATH"\n'
    found = subprocess.run(
        ["bash", "--login", "-c", "command -v ray"], env=environment, check=True, capture_output=True, text=True
    )
    assert found.stdout == f"{program}\n"


def test_own_machines_may_lack_systemd() -> None:
    for line in read("cluster-local.yaml")["head_setup_commands"]:
        assert line.startswith("test ! -d /run/systemd/system || ")


@pytest.mark.parametrize("name", FILES)
def test_mlflow_starts_again_after_a_crash_and_with_the_machine(name: str) -> None:
    config = read(name)
    assert config["file_mounts"]["~/.config/systemd/user/mlflow.service"] == "cluster/mlflow.service"
    setup = " ; ".join(config["head_setup_commands"])
    assert "enable-linger" in setup
    assert "systemctl --user enable mlflow" in setup
    assert not [line for line in config["setup_commands"] if "systemctl" in line], "on the head alone"
    unit = mlflow_unit()
    assert (unit["Service"]["Restart"], unit["Install"]["WantedBy"]) == ("always", "default.target")
    assert unit["Service"]["EnvironmentFile"] == "-%h/.config/likeness/mlflow.env"


def mlflow_unit() -> configparser.ConfigParser:
    unit = configparser.ConfigParser(interpolation=None, strict=False)
    unit.optionxform = str  # type: ignore[method-assign,assignment] # systemd's keys have capitals
    unit.read(REPOSITORY / "cluster" / "mlflow.service")
    return unit


def test_the_manual_names_settings_and_files_that_exist() -> None:
    manual = (REPOSITORY / "docs" / "cluster.md").read_text("utf-8")
    for name in (*FILES, "cluster/mlflow.service", "constraints.txt"):
        assert name in manual
    for path in re.findall(r"`(tests/[\w/.]+)`", manual):
        assert (REPOSITORY / path).exists(), path
    keys = re.findall(r"--set \"?([\w.]+)=", manual)
    assert {"tracking.uri", "seats.count"} <= set(keys)
    for key in keys:
        section, field = key.split(".")
        model = SearchConfig.model_fields[section].annotation
        assert model is not None
        assert field in model.model_fields, key
