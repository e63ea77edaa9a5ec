"""The votes file: what it keeps, what it survives, and what it refuses."""

import json
import os
from pathlib import Path

import pytest

from search.voting.votes import Answer, CheckpointName, ImagePair, VotesError, VotesFile, read_votes

FIRST, SECOND = CheckpointName(trial="000", step=100), CheckpointName(trial="001", step=200)


def pair(seed: int = 1) -> ImagePair:
    return ImagePair(left=SECOND, right=FIRST, prompt_index=0, seed=seed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "votes.jsonl"


@pytest.fixture
def three(path: Path) -> bytes:
    """The content of a file of three votes."""
    with VotesFile(path) as votes:
        for seed, answer in enumerate((Answer.LEFT, Answer.RIGHT, Answer.TIE)):
            votes.add(pair(seed), answer)
    return path.read_bytes()


def test_a_vote_is_a_line_that_says_all(path: Path) -> None:
    with VotesFile(path) as votes:
        votes.add(pair(), Answer.LEFT)
    (line,) = path.read_text().splitlines()
    values = json.loads(line)
    assert set(values) == {"time", "id", "left", "right", "prompt_index", "seed", "answer"}
    assert values["left"] == {"trial": "001", "step": 200}
    assert values["right"] == {"trial": "000", "step": 100}
    assert (values["prompt_index"], values["seed"], values["answer"]) == (0, 1, "left")
    (vote,) = read_votes(path).votes
    assert (vote.pair, vote.answer, vote.outcome, vote.line) == (pair(), Answer.LEFT, 1.0, 1)


def test_outcomes_are_the_lefts(three: bytes, path: Path) -> None:
    assert [vote.outcome for vote in read_votes(path).votes] == [1.0, 0.0, 0.5]


def test_no_file_is_no_votes(path: Path) -> None:
    assert read_votes(path).votes == ()


def test_voting_goes_on_and_only_appends(three: bytes, path: Path) -> None:
    with VotesFile(path) as votes:
        assert len(votes.content.votes) == 3
        votes.add(pair(9), Answer.RIGHT)
    assert path.read_bytes().startswith(three)
    assert [vote.pair.seed for vote in read_votes(path).votes] == [0, 1, 2, 9]


def test_withdrawing_appends_and_goes_back_one_by_one(three: bytes, path: Path) -> None:
    with VotesFile(path) as votes:
        votes.withdraw()
        votes.withdraw()
        assert [vote.pair.seed for vote in votes.content.votes] == [0]
        votes.add(pair(7), Answer.LEFT)
        votes.withdraw()
        votes.withdraw()
        assert votes.content.votes == ()
        size = path.stat().st_size
        votes.withdraw()
        assert path.stat().st_size == size, "there was nothing to withdraw"
    content = path.read_bytes()
    assert content.startswith(three)
    assert len(content.splitlines()) == 3 + 1 + 4
    assert read_votes(path).votes == ()


@pytest.mark.parametrize("cut", [1, 20, 100])
def test_a_line_cut_off_by_a_power_cut_is_named_and_left_out(three: bytes, path: Path, cut: int) -> None:
    last = three.splitlines(keepends=True)[-1]
    path.write_bytes(three[: len(three) - len(last) + cut])
    content = read_votes(path)
    assert [vote.pair.seed for vote in content.votes] == [0, 1]
    assert content.warning == f"{path}: line 3 is cut off and left out; it holds {cut} bytes"
    with VotesFile(path) as votes:
        votes.add(pair(9), Answer.LEFT)
    content = read_votes(path)
    assert ([vote.pair.seed for vote in content.votes], content.warning) == ([0, 1, 9], "")


def test_zeros_that_a_power_cut_leaves_are_a_cut_off_line(three: bytes, path: Path) -> None:
    path.write_bytes(three + bytes(16))
    content = read_votes(path)
    assert (len(content.votes), "line 4 is cut off" in content.warning) == (3, True)


def test_a_whole_last_line_without_its_end_counts(three: bytes, path: Path) -> None:
    path.write_bytes(three[:-1])
    content = read_votes(path)
    assert (len(content.votes), content.warning) == (3, "")
    with VotesFile(path) as votes:
        votes.add(pair(9), Answer.LEFT)
    assert [vote.pair.seed for vote in read_votes(path).votes] == [0, 1, 2, 9]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b'{"time": "2026-01-01T00:0', "Unterminated string"),
        (b"", "Expecting value"),
        (b"12", "it holds 12"),
        (b"\xff\xfe{}", "codec can't decode"),
        (b'{"left": {"trial": "000", "step": 1}}', "'right' is missing"),
        (b'{"id": "a", "withdraws": "nobody"}', "not the last vote that stands"),
    ],
)
def test_any_other_damaged_line_is_named(three: bytes, path: Path, damage: bytes, reason: str) -> None:
    first, *others = three.splitlines(keepends=True)
    path.write_bytes(first + damage + b"\n" + b"".join(others))
    with pytest.raises(VotesError, match=f"line 2 is neither a vote nor a withdrawal .*{reason}"):
        read_votes(path)
    with pytest.raises(VotesError, match="line 2"):
        VotesFile(path)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("answer", "both", "'both' is not a valid Answer"),
        ("seed", 1.5, "seed is 1.5, not a whole number"),
        ("prompt_index", True, "prompt_index is True"),
        ("left", {"trial": "000", "step": 100}, "trial 000 at step 100 is on both sides"),
        ("left", "000", "string indices"),
    ],
)
def test_a_vote_with_an_impossible_value_is_named(
    three: bytes, path: Path, key: str, value: object, reason: str
) -> None:
    lines = three.decode().splitlines()
    lines[2] = json.dumps({**json.loads(lines[2]), key: value})
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(VotesError, match=f"line 3 .*{reason}"):
        read_votes(path)


def test_a_vote_that_cannot_be_kept_leaves_the_file_as_it_was(
    three: bytes, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with VotesFile(path) as votes:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left"):
                votes.add(pair(9), Answer.LEFT)
        assert path.read_bytes() == three
        assert len(votes.content.votes) == 3
        votes.add(pair(9), Answer.LEFT)
    assert [vote.pair.seed for vote in read_votes(path).votes] == [0, 1, 2, 9]


def test_a_vote_is_on_the_disk_before_it_counts(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    fsync = os.fsync

    def note(descriptor: int) -> None:
        synced.append((os.fstat(descriptor).st_size, len(votes.content.votes)))
        fsync(descriptor)

    with VotesFile(path) as votes:
        monkeypatch.setattr(os, "fsync", note)
        votes.add(pair(), Answer.LEFT)
    assert synced == [(path.stat().st_size, 0)]


def test_two_votings_at_once_are_refused(path: Path) -> None:
    with VotesFile(path), pytest.raises(VotesError, match="open in another voting"):
        VotesFile(path)
    with VotesFile(path):
        pass


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(VotesError, match=r"gone/votes\.jsonl cannot be written: No such file"):
        VotesFile(tmp_path / "gone" / "votes.jsonl")
