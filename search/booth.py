"""The booth: shows one ballot after the other under names that say nothing, and keeps the answers."""

from __future__ import annotations

import io
import secrets
import threading
from dataclasses import dataclass

from PIL import Image

from search.ballot import next_ballot
from search.candidates import Run
from search.tally import Tally, tally
from search.votes import Answer, Ballot, VotesFile

REFERENCE_SIDE = 256
"""Width and height of a real photo on the page, pixels."""


@dataclass(frozen=True, kw_only=True)
class Showing:
    """A ballot as a voter may see it: every name is random, and none outlives the ballot."""

    id: str
    prompt: str
    left: str
    """Name of the left picture."""
    right: str
    votes: int
    """That stand so far."""
    repeated: bool
    """True once every pair of images has been voted on."""


class Booth:
    """One run's voting. Safe to use from several threads.

    Args:
        run: What is voted on.
        votes: Where answers go; the caller closes it.
        seed: Decides between equals, see `search.ballot`.

    Raises:
        RunFolderError, ConfigurationError, PhotoFolderError: pictures, prompts or photos cannot be shown.
        VotesError: a vote that was cast earlier does not belong to this run.
    """

    def __init__(self, run: Run, votes: VotesFile, *, seed: int) -> None:
        self._run = run
        self._votes = votes
        self._seed = seed
        self._lock = threading.Lock()
        self._prompts = run.prompts()
        self._photos = {_random(): _png(photo) for photo in run.reference_photos(REFERENCE_SIDE)}
        if votes.record.votes:
            tally(run, votes.record.votes, votes.path)
        self._candidates = {candidate.name: candidate for candidate in run.candidates}
        self._images = tuple(next(iter(self._candidates.values())).measures)
        self._show()

    @property
    def name(self) -> str:
        """Of the run."""
        return self._run.folder.name

    @property
    def photos(self) -> tuple[str, ...]:
        """Names of the real photos."""
        return tuple(self._photos)

    def showing(self) -> Showing:
        """What is to be voted on now."""
        with self._lock:
            return self._showing

    def picture(self, name: str) -> bytes | None:
        """The PNG of a real photo or of a picture that is shown now; None for every other name."""
        with self._lock:
            return self._photos.get(name) or self._pictures.get(name)

    def vote(self, showing: str, answer: Answer) -> bool:
        """Keep an answer and move on; False, and nothing is kept, if something else is shown by now.

        Raises:
            OSError: the answer could not be kept; the same ballot stays.
        """
        with self._lock:
            if showing != self._showing.id:
                return False
            self._votes.add(self._ballot, answer)
            self._show()
            return True

    def withdraw(self, showing: str) -> bool:
        """Take the last vote back and show its ballot again; False as in `vote`.

        Raises:
            OSError: that could not be kept; the same ballot stays.
        """
        with self._lock:
            if showing != self._showing.id:
                return False
            self._votes.withdraw()
            self._show()
            return True

    def tally(self) -> Tally | None:
        """What the votes say; None before the first."""
        with self._lock:
            votes = self._votes.record.votes
        return tally(self._run, votes, self._votes.path) if votes else None

    def _show(self) -> None:
        votes = self._votes.record.votes
        self._ballot: Ballot = next_ballot(tuple(self._candidates), self._images, votes, seed=self._seed)
        left, right = (
            _png(self._candidates[name].picture(self._ballot.prompt_index, self._ballot.seed))
            for name in (self._ballot.left, self._ballot.right)
        )
        self._showing = Showing(
            id=_random(),
            prompt=self._prompts[self._ballot.prompt_index],
            left=_random(),
            right=_random(),
            votes=len(votes),
            repeated=any(vote.ballot.pair == self._ballot.pair for vote in votes),
        )
        self._pictures = {self._showing.left: left, self._showing.right: right}


def _random() -> str:
    return secrets.token_urlsafe(12)


def _png(picture: Image.Image) -> bytes:
    """The pixels and nothing else: no text chunk, no camera's notes."""
    plain = Image.frombytes(picture.mode, picture.size, picture.tobytes())
    buffer = io.BytesIO()
    plain.save(buffer, "PNG")
    return buffer.getvalue()
