"""The polling place: the booth as a page on this machine, for the one person who was given its address."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flask import Flask, Response, abort, g, redirect, render_template, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.wrappers import Response as AnyResponse

from search.booth import Booth
from search.tally import percent
from search.votes import Answer

ADDRESS = "127.0.0.1"

HOSTS = (ADDRESS, "localhost")
"""Names that a request may call this machine by. Another site's name that resolves to it (DNS rebinding) is refused."""

LARGEST_REQUEST = 4096
"""Bytes of a form that is read at all."""


class PortError(ValueError):
    """The port cannot be listened on; the message says why and the remedy."""


def create_app(booth: Booth, token: str) -> Flask:
    """The page. Every address begins with the token; without it nothing is answered.

    No part of an address ever becomes a file's name: pictures are looked up in the booth.
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
    def ballot(token: str) -> str:
        return render_template("ballot.html", booth=booth, showing=booth.showing(), notice="")

    @app.post("/<token>/vote")
    def vote(token: str) -> AnyResponse | tuple[str, int]:
        answer = request.form.get("answer")
        if answer not in set(Answer):
            abort(400, "A vote says left, right or tie.")
        return _next(booth.vote, Answer(answer))

    @app.post("/<token>/undo")
    def undo(token: str) -> AnyResponse | tuple[str, int]:
        return _next(booth.withdraw)

    @app.get("/<token>/picture/<name>")
    def picture(token: str, name: str) -> Response:
        content = booth.picture(name)
        if content is None:
            abort(404)
        return Response(content, mimetype="image/png")

    @app.get("/<token>/report")
    def report(token: str) -> str:
        return render_template("tally.html", booth=booth, tally=booth.tally())

    def _next(act: Callable[..., bool], *arguments: Answer) -> AnyResponse | tuple[str, int]:
        try:
            done = act(request.form.get("showing", ""), *arguments)
        except OSError as error:
            abort(500, f"That could not be kept: {error.strerror}. Go back and try again.")
        if done:
            return redirect("./", 303)
        notice = "Another page has answered that pair already; this is the next one."
        return render_template("ballot.html", booth=booth, showing=booth.showing(), notice=notice), 409

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
