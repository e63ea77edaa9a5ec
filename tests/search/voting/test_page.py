"""The page's doors and its blindness, without a browser."""

import dataclasses
import io
import os
import re
import socket
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from PIL import Image
from werkzeug.test import TestResponse

from evaluation.measures import METRICS
from search.voting.candidates import read_run
from search.voting.page import PortError, VotingSession, create_app, listening
from search.voting.votes import Answer, VotesFile, read_votes
from tests.support.command import CEILING
from trainer.config import TrainingConfig

TOKEN = "a-token"
ORIGIN = "http://127.0.0.1:5000"
HEADERS = {"Host": "127.0.0.1:5000", "Origin": ORIGIN}

SIZE = 8


@pytest.fixture
def client(session: VotingSession) -> FlaskClient:
    return create_app(session, TOKEN).test_client()


def get(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    return client.get(path, headers={"Host": HEADERS["Host"], **headers})


def post(client: FlaskClient, path: str, form: dict[str, str], **headers: str) -> TestResponse:
    return client.post(path, data=form, headers={**HEADERS, **headers})


def pictures(page: str) -> list[str]:
    return re.findall(r'src="(picture/[^"]+)"', page)


def answered(run_folder: Path) -> list[str]:
    return [str(vote.answer) for vote in read_votes(run_folder / "votes.jsonl").votes]


def test_the_page_shows_photos_prompt_and_two_pictures(client: FlaskClient, session: VotingSession) -> None:
    page = get(client, f"/{TOKEN}/")
    assert page.status_code == 200
    assert session.showing().prompt in {"a photo of sks man", "a photo of sks man, happy"}
    assert session.showing().prompt in page.text
    *photos, left, right = (get(client, f"/{TOKEN}/{name}") for name in pictures(page.text))
    assert [Image.open(io.BytesIO(photo.data)).size for photo in photos] == [(256, 256)] * 2
    assert [Image.open(io.BytesIO(side.data)).size for side in (left, right)] == [(SIZE, SIZE)] * 2
    assert left.data != right.data


def test_the_sides_are_those_that_the_vote_names(
    client: FlaskClient, session: VotingSession, run_folder: Path, colour: Callable[[int, int], tuple[int, int, int]]
) -> None:
    for answer in ("left", "right", "tie"):
        showing = session.showing()
        shown = [Image.open(io.BytesIO(session.picture(name) or b"")).getpixel((0, 0)) for name in _sides(session)]
        post(client, f"/{TOKEN}/vote", {"showing": showing.id, "answer": answer})
        pair = read_votes(run_folder / "votes.jsonl").votes[-1].pair
        image = ((0, 1), (0, 2), (1, 1), (1, 2)).index((pair.prompt_index, pair.seed))
        assert shown == [colour(int(name.trial[-1]), image) for name in (pair.left, pair.right)]
    assert answered(run_folder) == ["left", "right", "tie"]


def _sides(session: VotingSession) -> tuple[str, str]:
    return session.showing().left, session.showing().right


def test_nothing_tells_which_candidate_is_which(client: FlaskClient, session: VotingSession) -> None:
    """Neither page nor pictures nor their addresses name a trial, a step, a metric, a setting or a file."""
    words = {"crimson", "77077", "runs", "trials", "grid.png", "report.json", *METRICS}
    words |= {field.name for field in dataclasses.fields(TrainingConfig)} - {"seed"}
    for _ in range(6):
        page = get(client, f"/{TOKEN}/")
        names = pictures(page.text)
        loaded = [get(client, f"/{TOKEN}/{name}") for name in names]
        assert len(set(names)) == 4
        said = page.text.replace('href="report"', "").replace(">Report<", "").lower() + str(page.headers).lower()
        assert [word for word in sorted(words) if word in said] == []
        for picture in loaded:
            assert set(picture.headers.keys()) <= {
                "Content-Type",
                "Content-Length",
                "Content-Security-Policy",
                "X-Content-Type-Options",
                "Cross-Origin-Resource-Policy",
                "Referrer-Policy",
                "Cache-Control",
            }
            assert re.findall(rb"(tEXt|zTXt|iTXt|eXIf|tIME)", picture.data) == []
        post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": "left"})


def test_a_picture_gets_a_new_name_each_time(client: FlaskClient, session: VotingSession) -> None:
    before = _sides(session)
    post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": "tie"})
    assert [get(client, f"/{TOKEN}/picture/{name}").status_code for name in before] == [404, 404]
    post(client, f"/{TOKEN}/undo", {"showing": session.showing().id})
    assert set(_sides(session)).isdisjoint(before)


@pytest.mark.parametrize(
    "path", ["/", "/favicon.ico", "/wrong/", "/wrong/report", "//", f"/x/{TOKEN}/", "/%C3%A9/", f"/{TOKEN}x/"]
)
def test_without_the_token_nothing_is_answered(client: FlaskClient, path: str) -> None:
    assert get(client, path).status_code == 403
    assert post(client, path, {}).status_code == 403


def test_every_address_wants_the_token(client: FlaskClient, session: VotingSession, run_folder: Path) -> None:
    form = {"showing": session.showing().id, "answer": "left"}
    assert get(client, f"/wrong/picture/{session.showing().left}").status_code == 403
    assert post(client, "/wrong/vote", form).status_code == 403
    assert post(client, "/wrong/undo", form).status_code == 403
    assert answered(run_folder) == []


@pytest.mark.parametrize("host", ["evil.example", "evil.example:5000", "127.0.0.1.evil.example", "10.0.0.1:5000"])
def test_a_foreign_host_is_refused(client: FlaskClient, session: VotingSession, run_folder: Path, host: str) -> None:
    for path in ("", "report", f"picture/{session.showing().left}"):
        assert get(client, f"/{TOKEN}/{path}", Host=host).status_code == 400
    form = {"showing": session.showing().id, "answer": "left"}
    assert post(client, f"/{TOKEN}/vote", form, Host=host, Origin=f"http://{host}").status_code == 400
    assert answered(run_folder) == []


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "http://127.0.0.1:5001", "https://127.0.0.1:5000", "null", None]
)
def test_a_form_of_another_site_is_refused(
    client: FlaskClient, session: VotingSession, run_folder: Path, origin: str | None
) -> None:
    headers = {"Host": HEADERS["Host"], **({} if origin is None else {"Origin": origin})}
    form = {"showing": session.showing().id, "answer": "left"}
    for path in ("vote", "undo"):
        assert client.post(f"/{TOKEN}/{path}", data=form, headers=headers).status_code == 403
    assert answered(run_folder) == []


def test_localhost_is_this_machine_too(client: FlaskClient, session: VotingSession, run_folder: Path) -> None:
    form = {"showing": session.showing().id, "answer": "left"}
    done = post(client, f"/{TOKEN}/vote", form, Host="localhost:9000", Origin="http://localhost:9000")
    assert (done.status_code, answered(run_folder)) == (303, ["left"])


@pytest.mark.parametrize(
    "path",
    [
        "picture/../../search.yaml",
        "picture/..%2f..%2fsearch.yaml",
        "picture/%2e%2e/search.yaml",
        "picture//etc/passwd",
        "picture/grid.png",
        "static/page.html",
        "votes.jsonl",
        "picture/",
    ],
)
def test_no_address_reaches_a_file(client: FlaskClient, path: str) -> None:
    answer = get(client, f"/{TOKEN}/{path}")
    # Flask tells a double slash's right address; there is nothing either.
    assert answer.status_code in {404, 308}
    assert b"root:" not in answer.data
    assert b"trigger" not in answer.data


def test_only_forms_vote(client: FlaskClient, session: VotingSession, run_folder: Path) -> None:
    assert get(client, f"/{TOKEN}/vote?showing={session.showing().id}&answer=left").status_code == 405
    assert get(client, f"/{TOKEN}/undo").status_code == 405
    for answer in ("", "both", "LEFT"):
        done = post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": answer})
        assert done.status_code == 400
    assert post(client, f"/{TOKEN}/vote", {"showing": "x" * 5000, "answer": "left"}).status_code == 413
    assert answered(run_folder) == []


def test_the_browser_is_told_to_load_nothing_from_elsewhere(client: FlaskClient) -> None:
    first, second = (get(client, f"/{TOKEN}/") for _ in range(2))
    policy = first.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    nonce = re.search(r"script-src 'nonce-([^']+)'", policy)
    assert nonce is not None
    assert re.findall(r'<(?:script|style) nonce="([^"]+)"', first.text) == [nonce[1]] * 2
    assert nonce[1] not in second.text, "a nonce is used once"
    assert not re.search(r'(?:src|href|action)="(?:https?:|//)', first.text)
    assert first.headers["Cache-Control"] == "no-store"


def test_a_pair_is_answered_once(client: FlaskClient, session: VotingSession, run_folder: Path) -> None:
    form = {"showing": session.showing().id, "answer": "left"}
    assert post(client, f"/{TOKEN}/vote", form).status_code == 303
    late = post(client, f"/{TOKEN}/vote", {**form, "answer": "right"})
    assert (late.status_code, "answered that pair already" in late.text) == (409, True)
    assert post(client, f"/{TOKEN}/undo", form).status_code == 409
    assert answered(run_folder) == ["left"]


def test_undo_shows_the_withdrawn_pair_again(client: FlaskClient, session: VotingSession, run_folder: Path) -> None:
    post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": "left"})
    before = [session.picture(name) for name in _sides(session)]
    post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": "right"})
    assert post(client, f"/{TOKEN}/undo", {"showing": session.showing().id}).status_code == 303
    assert [session.picture(name) for name in _sides(session)] == before
    assert answered(run_folder) == ["left"]
    for _ in range(2):
        post(client, f"/{TOKEN}/undo", {"showing": session.showing().id})
    assert answered(run_folder) == []


def test_a_full_disk_is_told_and_the_pair_stays(
    client: FlaskClient, session: VotingSession, run_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    showing = session.showing()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        done = post(client, f"/{TOKEN}/vote", {"showing": showing.id, "answer": "left"})
    assert (done.status_code, "could not be kept: No space left on device" in done.text) == (500, True)
    assert session.showing() == showing
    assert answered(run_folder) == []


def test_the_report_view(client: FlaskClient, session: VotingSession) -> None:
    assert "There are no votes yet" in get(client, f"/{TOKEN}/report").text
    for _ in range(3):
        post(client, f"/{TOKEN}/vote", {"showing": session.showing().id, "answer": "left"})
    page = get(client, f"/{TOKEN}/report").text
    for words in ("3 votes, 3 decided", "configured weights", "Too few votes", "crimson-1, step 77077"):
        assert words in page


def test_voting_goes_on_where_it_stopped(run_folder: Path) -> None:
    run = read_run(run_folder)
    with VotesFile(run_folder / "votes.jsonl") as votes:
        session = VotingSession(run, votes, seed=0)
        session.vote(session.showing().id, Answer.LEFT)
        before = [session.picture(name) for name in _sides(session)]
    with VotesFile(run_folder / "votes.jsonl") as votes:
        session = VotingSession(run, votes, seed=0)
        assert session.showing().votes == 1
        assert [session.picture(name) for name in _sides(session)] == before


def test_pairs_come_round_again_with_a_word(session: VotingSession) -> None:
    for _ in range(12):  # three pairs of candidates, four images each
        assert not session.showing().repeated
        session.vote(session.showing().id, Answer.TIE)
    assert session.showing().repeated


def test_the_server_listens_to_this_machine_only(session: VotingSession) -> None:
    with listening(create_app(session, TOKEN), 0) as server:
        assert server.socket.getsockname() == ("127.0.0.1", server.port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/{TOKEN}/", timeout=CEILING) as page:
                assert page.status == 200
        finally:
            server.shutdown()
            thread.join()


def test_a_port_that_is_taken_is_named(session: VotingSession) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(PortError, match=f"port {port} cannot be had: Address already in use"),
            listening(create_app(session, TOKEN), port),
        ):
            pass
