"""Streamed pages: without JavaScript, and for command-line clients."""

from __future__ import annotations

import http.client
import socket
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from tests.support.apps import LIGHTHOUSE, browser, make_app, make_two, make_wiki, templates, write
from tests.support.hostile import few_examples, markdown_texts
from tests.support.html_checks import inner, page_faults
from tests.support.servers import PATIENCE, served, wait_for

from unwritten import Canvas
from unwritten.formats.text_ends import finalize_text, settled_text
from unwritten_engine import Frame, Usage, scripted
from unwritten_engine.errors import GenerationFailed
from unwritten_engine.scripted import HANG, denoising_frames


class Facts(BaseModel):
    kind: str


KEY = "/wiki/Lighthouse"


def test_a_streamed_page_is_complete_and_equals_the_stored_one(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE, delay=0.005))) as client:
        plain = client.get(KEY + "?plain=1")
        assert plain.headers["cache-control"] == "no-store"
        kept = client.get(KEY)
    assert page_faults(plain.text) == []
    assert plain.text.rstrip().endswith("</html>")
    assert inner(plain.text, "body") == inner(kept.text, "body")
    assert 'data-state="written"' in plain.text and "unsettled" not in plain.text and "skeleton" not in plain.text
    assert "a script" in plain.text  # the colophon shows figures


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Wave \ud83d\udc4b end.", "Wave 👋 end."),
        ("Wave \ud83d end.", "Wave \ufffd end."),
        ("A\0 \ue000wave\ue001.", "A \ufffdwave\ufffd."),
        ("One.<think>Hidden.</think> Two.<|im_end|>Hidden.", "One. Two."),
        ("It ends at `</think>`, they say.", "It ends at <code>&lt;/think&gt;</code>, they say."),
    ],
)
def test_what_a_model_may_write(tmp_path: Path, text: str, shown: str) -> None:
    pieces = [text[: end + 1] for end in range(len(text))]
    with browser(make_wiki(tmp_path, scripted(pieces))) as client:
        assert f"{shown}</p>" in client.get(KEY + "?plain=1").text
        stored = client.get(KEY).text
        assert f"{shown}</p>" in stored and "Hidden" not in stored
        assert client.get("/wiki/Other?plain=1").status_code == 200


def test_clients_that_do_not_accept_html_get_a_stream(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        assert "light</li>" in client.get(KEY, headers={"accept": "*/*"}).text
        assert "skeleton" in client.get("/wiki/Other?plain=0", headers={"accept": "*/*"}).text


def test_regions_are_streamed_block_by_block_in_document_order(tmp_path: Path) -> None:
    engine = scripted(
        by_ask={
            "Lead": ["One.\n\n", "One.\n\nTwo.", 1.5, "One.\n\nTwo.\n\nThree."],
            "Body": "The body.",  # finished earlier, but sent in document order
        }
    )
    with served(make_two(tmp_path, engine)) as address:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", "/?plain=1")
        answer = connection.getresponse()
        first = b""
        while b">One.</p>" not in first:
            first += answer.read1()
        assert b"Three" not in first and b"The body" not in first
        rest = answer.read()
        connection.close()
    whole = (first + rest).decode()
    assert page_faults(whole) == []
    assert whole.index("Three") < whole.index("The body")


def test_streamed_regions_equal_the_stored_ones(tmp_path: Path) -> None:
    engine = scripted(by_ask={"Lead": denoising_frames(LIGHTHOUSE, canvases=2), "Body": LIGHTHOUSE}, delay=0.002)
    two = """{% extends "layout.html" %}{% block main %}{% set word = "before" %}
{% block lead %}<section>{{ word }}{{ lead }} after</section>{% endblock %}
{% block body %}{% if body.text %}{{ body.text|length }}{% endif %}{{ body }}{% endblock %}{% endblock %}"""
    with browser(make_two(tmp_path, engine, two)) as client:
        plain = client.get("/?plain=1").text
        kept = client.get("/").text
    for name in ("lead", "body"):
        assert inner(plain, name) == inner(kept, name)


def test_a_truncated_text_is_the_same_everywhere(tmp_path: Path) -> None:
    """Sent text cannot be removed, so text that may still be cut off is not sent."""
    text = "A sentence that stays.\n\n- a list\n\nwithout any end\n\nand still without\n\n"
    usage = Usage(9, 9, 0, 9, 1, 0.1, 0.0, "length", 0)
    steps = [Frame(text[:n], fixed=n) for n in range(1, len(text) + 1)]
    engine = scripted([*steps, Frame(text, usage=usage)])
    with browser(make_wiki(tmp_path, engine)) as client:
        plain = client.get(KEY + "?plain=1").text
        assert inner(plain, "body") == inner(client.get(KEY).text, "body")


@few_examples
@given(markdown_texts, st.integers(0, 60))
def test_settled_text_is_a_prefix_of_the_final_text(text: str, more: int) -> None:
    whole = text + "\n\nand so on"[:more]
    for reason in ("length", "end"):
        end = finalize_text(whole, reason)
        sure = text[: settled_text(text)].rstrip()
        assert end.startswith(sure) or not end.strip()


def test_a_failure_is_shown_in_its_region(tmp_path: Path) -> None:
    engine = scripted(["One.\n\nTwo", GenerationFailed("The lamp <broke>.")])
    with browser(make_wiki(tmp_path, engine)) as client:
        plain = client.get(KEY + "?plain=1").text
    assert "the details under the number" in inner(plain, "body") and "broke" not in plain
    assert page_faults(plain) == []


def test_a_block_that_raises_shows_its_error(tmp_path: Path) -> None:
    two = """{% extends "layout.html" %}{% block main %}
{% block lead %}{% if lead.text %}{{ 1 / 0 }}{% endif %}{% endblock %}
{% block body %}{{ body }}{% endblock %}{% endblock %}"""
    with browser(make_two(tmp_path, scripted("Words."), two)) as client:
        plain = client.get("/?plain=1").text
    assert "the details under the number" in inner(plain, "lead") and "division" not in plain
    assert "Words." in inner(plain, "body")
    assert page_faults(plain) == []


def test_a_disconnected_client_abandons_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.1)
    engine = scripted(["One.\n\nTwo.\n\n", HANG])
    with served(make_wiki(tmp_path, engine)) as address:
        connection = http.client.HTTPConnection(address, timeout=PATIENCE)
        connection.request("GET", KEY)
        answer = connection.getresponse()
        answer.read1()
        time.sleep(0.4)
        assert engine.stopped == 0
        answer.close()
        connection.close()
        wait_for(lambda: engine.stopped == 1)


def test_a_streaming_client_counts_as_a_subscriber(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.generation.job_queue.GRACE_PERIOD", 0.1)
    engine = scripted(["One.\n\nTwo.\n\n", 0.5, "One.\n\nTwo.\n\nThree."])
    with browser(make_wiki(tmp_path, engine)) as client:
        assert "Three" in client.get(KEY + "?plain=1").text
    assert engine.stopped == 0


def test_a_stored_page_is_not_streamed(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted(LIGHTHOUSE))) as client:
        write(client, KEY)
        assert client.get(KEY + "?plain=1").headers["etag"] == client.get(KEY).headers["etag"]


def test_a_region_with_a_schema_is_sent_when_it_is_finished(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted('{"kind":"tower"}'), folder=templates(tmp_path))

    @app.page("/")
    def front() -> Canvas:
        return Canvas("Facts.", schema=Facts)

    with browser(app) as client:
        assert (
            inner(client.get("/?plain=1").text, "body") == '<dl><dt dir="auto">kind</dt><dd dir="auto">tower</dd></dl>'
        )


def test_the_colophon_of_a_failed_page_has_no_stop_button(tmp_path: Path) -> None:
    engine = scripted(["A light", GenerationFailed("The lamp broke.")])
    with browser(make_wiki(tmp_path, engine)) as client:
        html = client.get("/wiki/Lamp?plain=1").text
    assert "the details under the number" in html
    assert "data-stop" not in html


def test_a_client_that_does_not_read_its_stream_is_no_subscriber_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.web.streaming.SEND_TIMEOUT", 0.3)
    blocks = [f"Block {number * number}: " + "x" * 1000 + "\n\n" for number in range(1000)]
    engine = scripted(["".join(blocks[: 100 * i]) for i in range(1, 11)] + [HANG])
    app = make_app(tmp_path, engine)

    @app.page("/wiki/{title}")
    def article(title: str) -> Canvas:
        return Canvas(f"A long article about {title}.", canvases=200)

    with served(app, send_buffer=16_384) as address, socket.socket() as client:
        host, port = address.split(":")
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        client.sendall(f"GET {KEY}?plain=1 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
        wait_for(lambda: (job := app.site.jobs.get(KEY)) and job.num_subscribers == 1)
        job = app.site.jobs.get(KEY)
        assert job is not None
        wait_for(lambda: job.num_subscribers == 0)
