"""`votes.jsonl`: what people answered, one line an answer, only ever appended to."""

from __future__ import annotations

import fcntl
import json
import os
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any


class VotesError(ValueError):
    """The votes cannot be used; the message names the file, the line and the remedy."""


class Answer(StrEnum):
    """What a vote says."""

    LEFT = "left"
    RIGHT = "right"
    TIE = "tie"
    """They could not tell: half a win for each."""


@dataclass(frozen=True, kw_only=True, order=True)
class CheckpointName:
    """One checkpoint of one trial."""

    trial: str
    step: int

    def __str__(self) -> str:
        return f"trial {self.trial} at step {self.step}"


@dataclass(frozen=True, kw_only=True)
class ImagePair:
    """Two candidates on the same prompt and seed, and which side each is shown on."""

    left: CheckpointName
    right: CheckpointName
    prompt_index: int
    seed: int

    @property
    def key(self) -> tuple[CheckpointName, CheckpointName, int, int]:
        """The same whichever side each candidate is on."""
        first, second = sorted((self.left, self.right))
        return first, second, self.prompt_index, self.seed


@dataclass(frozen=True, kw_only=True)
class Vote:
    """A pair and its answer."""

    pair: ImagePair
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
class VotesContent:
    """What a votes file holds."""

    votes: tuple[Vote, ...] = ()
    """Those that stand: without what was withdrawn."""
    size: int = 0
    """Bytes of the whole lines."""
    warning: str = ""
    """Says which line was left out because its end is missing; empty if none."""


def read_votes(path: Path) -> VotesContent:
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
            self.content = read_votes(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> VotesFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def add(self, pair: ImagePair, answer: Answer) -> None:
        """Append a vote; it is on the disk when this returns.

        Raises:
            OSError: it could not be kept; then the file is as before.
        """
        self._append(
            {
                "id": uuid.uuid4().hex,
                "left": asdict(pair.left),
                "right": asdict(pair.right),
                "prompt_index": pair.prompt_index,
                "seed": pair.seed,
                "answer": str(answer),
            }
        )

    def withdraw(self) -> None:
        """Append a line that withdraws the last vote that stands; nothing if none does.

        Raises:
            OSError: it could not be kept; then the file is as before.
        """
        if self.content.votes:
            self._append({"withdraws": self.content.votes[-1].id})

    def _append(self, values: Mapping[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}
        before = self.content.size
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
        self.content = read_votes(self.path)


def _fsync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parse(content: bytes, path: Path) -> VotesContent:
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
                f"{path}: line {number} is neither a vote nor a withdrawal ({reason}); repair the line or remove it"
            ) from error
    return VotesContent(votes=tuple(votes), size=size, warning=warning)


def _vote(values: Mapping[str, Any], line: int) -> Vote:
    pair = ImagePair(
        left=_name(values["left"]),
        right=_name(values["right"]),
        prompt_index=_whole(values, "prompt_index"),
        seed=_whole(values, "seed"),
    )
    if pair.left == pair.right:
        raise ValueError(f"{pair.left} is on both sides")
    return Vote(pair=pair, answer=Answer(values["answer"]), id=str(values["id"]), line=line)


def _name(values: Mapping[str, Any]) -> CheckpointName:
    return CheckpointName(trial=str(values["trial"]), step=_whole(values, "step"))


def _whole(values: Mapping[str, Any], key: str) -> int:
    value = values[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{key} is {value!r}, not a whole number")
    return value


def _withdraw(values: Mapping[str, Any], votes: list[Vote]) -> None:
    if not votes or values["withdraws"] != votes[-1].id:
        raise ValueError(f"it withdraws {values['withdraws']!r}, which is not the last vote that stands")
    votes.pop()
