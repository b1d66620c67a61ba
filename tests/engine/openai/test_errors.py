from __future__ import annotations

import email.utils
import time

import pytest

from unwritten_engine.errors import GenerationFailed, ModelNotFound, PromptTooLong, RequestRefused
from unwritten_engine.openai.refusals import Refusal, listed, read_refusal, read_wait, refusal_of


@pytest.mark.parametrize(
    ("body", "said", "kind"),
    [
        ('{"error": {"message": "No.\\nNever.", "type": "bad"}}', "No. Never", "bad"),
        ('{"error": {"message": "No", "code": "model_not_found", "type": "x"}}', "No", "model_not_found"),
        ('{"error": "loading"}', "loading", ""),
        ('{"detail": [{"loc": ["body"]}]}', "[{'loc': ['body']}]", ""),
        ('{"object": "error", "message": "vLLM", "code": 400}', "vLLM", ""),
        ("<html><body><h1>502</h1> nginx</body></html>", "502 nginx", ""),
        ("", "", ""),
        ('"no"', "no", ""),
    ],
)
def test_the_ways_in_which_servers_say_no(body: str, said: str, kind: str) -> None:
    refusal = read_refusal(400, body)
    assert (refusal.status, refusal.said, refusal.kind) == (400, said, kind)


def test_a_status_inside_counts_if_there_is_none_outside() -> None:
    assert refusal_of({"error": {"code": 503, "message": "Busy"}}).status == 503
    assert refusal_of({"error": {"code": 503, "message": "Busy"}}, 500).status == 500
    assert refusal_of({"error": {"code": True, "message": "Busy"}}).status == 0


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (Refusal(401, ""), RequestRefused, "UNWRITTEN_API_KEY"),
        (Refusal(404, "gone"), ModelNotFound, "404 for the model 'm': gone. It has m, n."),
        (Refusal(400, "maximum context length is 5"), PromptTooLong, "larger context"),
        (Refusal(400, "n", "exceed_context_size_error"), PromptTooLong, "7 tokens of text"),
        (Refusal(400, "odd"), RequestRefused, "refused the request .400: odd"),
        (Refusal(429, "", "", 12), GenerationFailed, "after 12 seconds"),
        (Refusal(429, ""), GenerationFailed, "later"),
        (Refusal(307, ""), GenerationFailed, "leads elsewhere"),
        (Refusal(500, "oops"), GenerationFailed, "answers 500: oops"),
        (Refusal(0, "oops"), GenerationFailed, "answers with an error: oops"),
    ],
)
def test_each_becomes_an_error_that_says_what_to_do(refusal: Refusal, kind: type[Exception], message: str) -> None:
    error = refusal.error("http://host", "m", ["m", "n"], 7)
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_what_may_pass() -> None:
    assert [Refusal(status, "").passing for status in (429, 500, 503, 400, 401, 404)] == [True] * 3 + [False] * 3
    assert not Refusal(429, "", "insufficient_quota").passing


def test_how_long_to_wait() -> None:
    assert (read_wait("3"), read_wait("0.5"), read_wait(""), read_wait("soon")) == (3, 0.5, None, None)
    wait = read_wait(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert wait is not None and 55 < wait <= 60
    assert read_wait("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_long_lists_are_cut() -> None:
    assert listed([]) == "It does not say which models it has."
    assert listed([f"m{n}" for n in range(30)]).endswith("m19 and more.")
