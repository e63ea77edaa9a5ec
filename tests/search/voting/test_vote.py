"""The command: its flags, its answers to bad input, and an end by Ctrl-C."""

import re
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from search.voting import __main__ as vote
from search.voting.candidates import read_run
from search.voting.votes import Answer, ImagePair, VotesFile
from tests.support.command import CEILING

WITHOUT_RAY = """
import runpy, sys
sys.argv = ["search.vote", *sys.argv[1:]]
try:
    runpy.run_module("search.vote", run_name="__main__")
except SystemExit as error:
    assert "ray" not in sys.modules and "torch" not in sys.modules, "started what takes seconds"
    raise
"""


APP = typer.Typer(add_completion=False)
APP.command()(vote.main)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def cast(folder: Path, answer: Answer) -> None:
    first, second, *_ = (candidate.name for candidate in read_run(folder).candidates)
    with VotesFile(folder / "votes.jsonl") as votes:
        votes.add(ImagePair(left=first, right=second, prompt_index=0, seed=1), answer)


def test_the_flags_are_these_and_no_others() -> None:
    options = typer.main.get_command(APP).params
    assert sorted(name for option in options for name in (*option.opts, *option.secondary_opts)) == [
        "--browser",
        "--no-browser",
        "--port",
        "--report",
        "--seed",
        "run",
    ]


def test_the_report_is_printed(run_folder: Path) -> None:
    cast(run_folder, Answer.LEFT)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_RAY, str(run_folder), "--report"],
        capture_output=True,
        text=True,
        timeout=CEILING,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "anna: 1 votes, 1 decided, 0 undecided" in done.stdout
    assert re.search(r"configured weights +100 % \(21 to 100\) +100 % \(21 to 100\)", done.stdout)
    assert re.search(r"crimson-0 +77077 ", done.stdout)
    assert "Too few votes to say anything about the weights" in done.stdout


def test_no_votes_are_bad_input(run_folder: Path) -> None:
    done = command(run_folder, "--report")
    assert done.exit_code == 2
    assert done.stderr == f"{run_folder} has no votes yet; cast some with: python -m search.vote {run_folder}\n"


def test_a_cut_off_line_is_a_warning_and_a_damaged_one_an_error(run_folder: Path) -> None:
    cast(run_folder, Answer.LEFT)
    path = run_folder / "votes.jsonl"
    whole = path.read_text()
    path.write_text(whole + whole[:30])
    done = command(run_folder, "--report")
    assert (done.exit_code, "line 2 is cut off" in done.stderr) == (0, True)
    path.write_text(whole[:30] + "\n" + whole)
    for arguments in ([run_folder, "--report"], [run_folder, "--no-browser"]):
        done = command(*arguments)
        assert (done.exit_code, "line 1 is neither a vote nor a withdrawal" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "65536"], "Invalid value for '--port'"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--report"], "is not a run folder"),
        (["--no-browser"], "is not a run folder"),
    ],
)
def test_bad_input_is_answered_with_2(arguments: list[str], words: str, tmp_path: Path) -> None:
    done = command(tmp_path / "nowhere", *arguments)
    assert (done.exit_code, words in done.stderr) == (2, True)


def test_photos_that_are_gone_and_a_voting_under_way_are_bad_input(run_folder: Path, tmp_path: Path) -> None:
    with VotesFile(run_folder / "votes.jsonl"):
        done = command(run_folder, "--no-browser")
        assert (done.exit_code, "is open in another voting" in done.stderr) == (2, True)
    shutil.rmtree(tmp_path / "photos")
    done = command(run_folder, "--no-browser")
    assert (done.exit_code, "there is no such folder" in done.stderr) == (2, True)


def test_it_serves_until_ctrl_c(run_folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "search.vote", str(run_folder), "--no-browser"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            address = re.search(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", server.stdout.readline())
            assert address is not None
            with urllib.request.urlopen(address[0], timeout=CEILING) as page:
                assert "Which is the better picture" in page.read().decode()
            server.send_signal(signal.SIGINT)
            output, errors = server.communicate(timeout=CEILING)
        except BaseException:
            server.kill()
            raise
    assert (server.returncode, errors) == (0, "")
    assert f"0 votes in {run_folder}/votes.jsonl" in output
