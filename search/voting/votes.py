"""`votes.jsonl`: what people answered, one line an answer, only ever appended to."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from itertools import combinations
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from search.voting.preference import fit_strengths


class VotesError(ValueError):
    """The votes cannot be used; the message names the file, the line and the remedy."""


class Answer(StrEnum):
    """What a vote says."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    """They could not tell: half a win for each."""


@dataclass(frozen=True, kw_only=True, order=True)
class CandidateName:
    """One checkpoint of one trial."""

    trial: str
    step: int

    def __str__(self) -> str:
        return f"trial {self.trial} at step {self.step}"


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """Two candidates on the same prompt and seed, and which side each is shown on."""

    left: CandidateName
    right: CandidateName
    prompt_index: int
    seed: int

    @property
    def pair(self) -> tuple[CandidateName, CandidateName, int, int]:
        """The same whichever side each candidate is on."""
        first, second = sorted((self.left, self.right))
        return first, second, self.prompt_index, self.seed


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A ballot and its answer."""

    ballot: Ballot
    answer: Answer
    id: str
    """By which a withdrawal names it."""
    line: int
    """Where it stands in the file, from 1."""

    @property
    def outcome(self) -> float:
        """1 if the left won, 0 if the right did, 0.5 for a tie."""
        return {Answer.LEFT: 1.0, Answer.RIGHT: 0.0, Answer.TIE: 0.5}[self.answer]


@dataclass(frozen=True, kw_only=True)
class Record:
    """What a votes file holds."""

    votes: tuple[Vote, ...] = ()
    """Those that stand: without what was withdrawn."""
    size: int = 0
    """Bytes of the whole lines."""
    warning: str = ""
    """Says which line was left out because its end is missing; empty if none."""


def read_votes(path: Path) -> Record:
    """Read a votes file; one that does not exist holds no votes.

    A last line that was cut off, as by a power cut, was never confirmed to the voter; it is left out and named in the
    record's warning.

    Raises:
        VotesError: any other line that is not a vote or a withdrawal, by number; or the file cannot be read.
    """
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise VotesError(f"{path} cannot be read: {error.strerror}") from error
    return _parse(content, path)


class VotesFile:
    """A votes file open for voting, by one process at a time; use it in a `with` statement.

    Raises:
        VotesError: as `read_votes`; or another process votes into the same file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        new = not path.exists()
        try:
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise VotesError(f"{path} cannot be written: {error.strerror}") from error
        try:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise VotesError(f"{path} is open in another voting; end that one first") from error
            if new:
                _fsync_folder(path.parent)
            self.record = read_votes(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> VotesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def add(self, ballot: Ballot, answer: Answer) -> None:
        """Append a vote; it is on the disk when this returns.

        Raises:
            OSError: it could not be kept; then the file is as before.
        """
        self._append(
            {
                "id": uuid.uuid4().hex,
                "left": asdict(ballot.left),
                "right": asdict(ballot.right),
                "prompt_index": ballot.prompt_index,
                "seed": ballot.seed,
                "answer": str(answer),
            }
        )

    def withdraw(self) -> None:
        """Append a line that withdraws the last vote that stands; nothing if none does.

        Raises:
            OSError: it could not be kept; then the file is as before.
        """
        if self.record.votes:
            self._append({"withdraws": self.record.votes[-1].id})

    def _append(self, values: Mapping[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
        before = self.record.size
        # A cut-off line is in the way, and a whole one may lack its end.
        os.ftruncate(self._descriptor, before)
        separator = b"\n" if before and os.pread(self._descriptor, 1, before - 1) != b"\n" else b""
        text = separator + json.dumps(line, allow_nan=False).encode() + b"\n"
        try:
            with os.fdopen(os.dup(self._descriptor), "ab") as file:
                file.write(text)
            os.fsync(self._descriptor)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, before)
            raise
        self.record = read_votes(self.path)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(content: bytes, path: Path) -> Record:
    *lines, rest = content.split(b"\n")
    size, warning = len(content) - len(rest), ""
    if rest:
        try:
            json.loads(rest)
        except ValueError:
            warning = f"{path}: line {len(lines) + 1} is cut off and left out; it holds {len(rest)} bytes"
        else:
            lines.append(rest)
            size = len(content)
    votes: list[Vote] = []
    for number, line in enumerate(lines, start=1):
        try:
            values = json.loads(line.decode())
            if not isinstance(values, dict):
                raise ValueError(f"it holds {values!r}")
            if "withdraws" in values:
                _withdraw(values, votes)
            else:
                votes.append(_vote(values, number))
        except (ValueError, KeyError, TypeError) as error:
            reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
            raise VotesError(
                f"{path}: line {number} is neither a vote nor a withdrawal ({reason}); mend the line or remove it"
            ) from error
    return Record(votes=tuple(votes), size=size, warning=warning)


def _vote(values: Mapping[str, Any], line: int) -> Vote:
    ballot = Ballot(
        left=_name(values["left"]),
        right=_name(values["right"]),
        prompt_index=_whole(values, "prompt_index"),
        seed=_whole(values, "seed"),
    )
    if ballot.left == ballot.right:
        raise ValueError(f"{ballot.left} is on both sides")
    return Vote(ballot=ballot, answer=Answer(values["answer"]), id=str(values["id"]), line=line)


def _name(values: Mapping[str, Any]) -> CandidateName:
    return CandidateName(trial=str(values["trial"]), step=_whole(values, "step"))


def _whole(values: Mapping[str, Any], key: str) -> int:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}, not a whole number")
    return value


def _withdraw(values: Mapping[str, Any], votes: list[Vote]) -> None:
    if not votes or values["withdraws"] != votes[-1].id:
        raise ValueError(f"it withdraws {values['withdraws']!r}, which is not the last vote that stands")
    votes.pop()


Image = tuple[int, int]
"""(prompt index, seed): the same image of two candidates."""


def next_ballot(
    candidates: Sequence[CandidateName], images: Sequence[Image], votes: Sequence[Vote], *, seed: int
) -> Ballot:
    """Choose by these rules, each deciding what those above leave open:

    1. Two images that were compared least often: no pair comes twice before all have come once.
    2. The candidate with the fewest votes ...
    3. ... against the one that it met least often,
    4. and of those the nearest in strength (Bradley-Terry, by the votes so far): the outcome is open.
    5. The prompt and seed that were shown least often.

    What is open still, and the side that each is shown on, falls to a generator. The same seed and votes give the
    same ballot, so a page that is loaded again shows it again, and so does a withdrawn vote.

    Args:
        candidates: At least two.
        images: At least one.
        votes: Those that stand. Votes on others than the candidates are no help here and skipped.
        seed: At least 0.
    """
    generator = np.random.default_rng([seed, len(votes)])
    number = {name: index for index, name in enumerate(candidates)}
    counted = [vote for vote in votes if vote.ballot.left in number and vote.ballot.right in number]
    shown = Counter(vote.ballot.pair for vote in counted)
    met = Counter(vote.ballot.pair[:2] for vote in counted)
    prompts = Counter((vote.ballot.prompt_index, vote.ballot.seed) for vote in counted)
    voted = Counter(name for vote in counted for name in (vote.ballot.left, vote.ballot.right))
    strengths = fit_strengths(
        [(number[vote.ballot.left], number[vote.ballot.right]) for vote in counted],
        [vote.outcome for vote in counted],
        len(candidates),
    ).values
    # Drawn anew for every ballot: the lot that decides between equals.
    lots = dict(zip(candidates, generator.permutation(len(candidates)).tolist(), strict=True))

    pairs = list(combinations(sorted(candidates), 2))
    least = min(shown[(*pair, *image)] for pair in pairs for image in images)
    unseen_images = {pair: [image for image in images if shown[(*pair, *image)] == least] for pair in pairs}
    opponents: dict[CandidateName, list[CandidateName]] = {name: [] for name in candidates}
    for (first, second), unseen in unseen_images.items():
        if unseen:
            opponents[first].append(second)
            opponents[second].append(first)

    one = min((name for name in candidates if opponents[name]), key=lambda name: (voted[name], lots[name]))

    def informative(other: CandidateName) -> tuple[int, float, int]:
        gap = abs(strengths[number[one]] - strengths[number[other]])
        return met[_ordered(one, other)], float(gap), lots[other]

    other = min(opponents[one], key=informative)
    choices = unseen_images[_ordered(one, other)]
    order = generator.permutation(len(choices)).tolist()
    prompt_index, image_seed = choices[min(range(len(choices)), key=lambda at: (prompts[choices[at]], order[at]))]
    left, right = (one, other) if generator.random() < 0.5 else (other, one)
    return Ballot(left=left, right=right, prompt_index=prompt_index, seed=image_seed)


def _ordered(one: CandidateName, other: CandidateName) -> tuple[CandidateName, CandidateName]:
    first, second = sorted((one, other))
    return first, second
