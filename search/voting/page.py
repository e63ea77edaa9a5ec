"""The voting page: shows one pair of images after the other under names that say nothing, and keeps the answers."""

from __future__ import annotations

import io
import secrets
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask import Flask, Response, abort, g, redirect, render_template, request
from PIL import Image
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as AnyResponse

from search.voting.candidates import Run
from search.voting.next_pair import next_pair
from search.voting.results import VotingResults, judge_votes, percent
from search.voting.votes import Answer, ImagePair, VotesFile

REFERENCE_SIDE = 256
"""Width and height of a real photo on the page, pixels."""


@dataclass(frozen=True, kw_only=True)
class ShownPair:
    """A pair as a voter may see it: every name is random, and none outlives the pair."""

    id: str
    prompt: str
    left: str
    """Name of the left picture."""
    right: str
    votes: int
    """That stand so far."""
    repeated: bool
    """True once every pair of images has been voted on."""


class VotingSession:
    """One run's voting. Safe to use from several threads.

    Args:
        run: What is voted on.
        votes: Where answers go; the caller closes it.
        seed: Decides between equals, see `search.voting.next_pair`.

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
        if votes.content.votes:
            judge_votes(run, votes.content.votes, votes.path)
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

    def showing(self) -> ShownPair:
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
            OSError: the answer could not be kept; the same pair stays.
        """
        with self._lock:
            if showing != self._showing.id:
                return False
            self._votes.add(self._pair, answer)
            self._show()
            return True

    def withdraw(self, showing: str) -> bool:
        """Take the last vote back and show its pair again; False as in `vote`.

        Raises:
            OSError: that could not be kept; the same pair stays.
        """
        with self._lock:
            if showing != self._showing.id:
                return False
            self._votes.withdraw()
            self._show()
            return True

    def results(self) -> VotingResults | None:
        """What the votes say; None before the first."""
        with self._lock:
            votes = self._votes.content.votes
        return judge_votes(self._run, votes, self._votes.path) if votes else None

    def _show(self) -> None:
        votes = self._votes.content.votes
        self._pair: ImagePair = next_pair(tuple(self._candidates), self._images, votes, seed=self._seed)
        left, right = (
            _png(self._candidates[name].picture(self._pair.prompt_index, self._pair.seed))
            for name in (self._pair.left, self._pair.right)
        )
        self._showing = ShownPair(
            id=_random(),
            prompt=self._prompts[self._pair.prompt_index],
            left=_random(),
            right=_random(),
            votes=len(votes),
            repeated=any(vote.pair.key == self._pair.key for vote in votes),
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


ADDRESS = "127.0.0.1"

HOSTS = (ADDRESS, "localhost")
"""Names that a request may call this machine by. Another site's name that resolves to it (DNS rebinding) is refused."""

LARGEST_REQUEST = 4096
"""Bytes of a form that is read at all."""


class PortError(ValueError):
    """The port cannot be listened on; the message says why and the remedy."""


def create_app(session: VotingSession, token: str) -> Flask:
    """The page. Every address begins with the token; without it nothing is answered.

    No part of an address ever becomes a file's name: pictures are looked up in the session.
    """
    app = Flask(__name__, static_folder=None)
    app.config["TRUSTED_HOSTS"] = list(HOSTS)
    app.config["MAX_CONTENT_LENGTH"] = LARGEST_REQUEST
    app.jinja_env.globals["percent"] = percent

    @app.before_request
    def admit() -> None:
        given = request.path.split("/")[1]
        if not secrets.compare_digest(given.encode(), token.encode()):
            abort(403, "This address lacks the token; open the one that the command has printed.")
        # A form on another site would be sent with the token only if that had leaked; this door is shut all the same.
        if request.method not in {"GET", "HEAD"} and request.headers.get("Origin") != request.host_url.rstrip("/"):
            abort(403, "A vote is taken from this page only.")
        g.nonce = secrets.token_urlsafe(16)

    @app.after_request
    def guard(response: Response) -> Response:
        nonce = g.get("nonce", "")
        response.headers["Content-Security-Policy"] = (
            f"default-src 'none'; img-src 'self' data:; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        # With no-referrer browsers would send the page's own forms with the origin "null".
        response.headers["Referrer-Policy"] = "same-origin"
        response.headers["Cache-Control"] = "no-store"
        return response

    @app.get("/<token>/")
    def page(token: str) -> str:
        return render_template("vote.html", voting=session, showing=session.showing(), notice="")

    @app.post("/<token>/vote")
    def vote(token: str) -> AnyResponse | tuple[str, int]:
        answer = request.form.get("answer")
        if answer not in set(Answer):
            abort(400, "A vote says left, right or tie.")
        return _next(session.vote, Answer(answer))

    @app.post("/<token>/undo")
    def undo(token: str) -> AnyResponse | tuple[str, int]:
        return _next(session.withdraw)

    @app.get("/<token>/picture/<name>")
    def picture(token: str, name: str) -> Response:
        content = session.picture(name)
        if content is None:
            abort(404)
        return Response(content, mimetype="image/png")

    @app.get("/<token>/report")
    def report(token: str) -> str:
        return render_template("results.html", voting=session, results=session.results())

    def _next(act: Callable[..., bool], *arguments: Answer) -> AnyResponse | tuple[str, int]:
        try:
            done = act(request.form.get("showing", ""), *arguments)
        except OSError as error:
            abort(500, f"That could not be kept: {error.strerror}. Go back and try again.")
        if done:
            return redirect("./", 303)
        notice = "Another page has answered that pair already; this is the next one."
        return render_template("vote.html", voting=session, showing=session.showing(), notice=notice), 409

    return app


class _QuietHandler(WSGIRequestHandler):
    """Logs no request: the terminal belongs to the voter, and an address holds the token."""

    protocol_version = "HTTP/1.0"

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        pass


@contextmanager
def listening(app: Flask, port: int) -> Iterator[BaseWSGIServer]:
    """A server for this machine only; `serve_forever()` serves until `shutdown()` or Ctrl-C.

    Args:
        app: See `create_app`.
        port: 0 takes any free one; it is then the server's `port`.

    Raises:
        PortError: the port cannot be had.
    """
    try:
        listener = socket.create_server((ADDRESS, port))
    except OSError as error:
        raise PortError(f"port {port} cannot be had: {error.strerror}; give another, or none for any free") from error
    with listener:
        # In threads: a browser opens connections in advance and leaves them idle.
        server = make_server(ADDRESS, port, app, threaded=True, request_handler=_QuietHandler, fd=listener.fileno())
        try:
            yield server
        finally:
            server.server_close()
