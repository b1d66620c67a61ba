from __future__ import annotations

import email.utils
import time

import pytest

from unwritten_engine.errors import GenerationFailed, ModelNotFound, PromptTooLong, RequestRefused
from unwritten_engine.openai.errors import ServerError, list_models, parse_error, parse_retry_after, read_error


@pytest.mark.parametrize(
    ("body", "said", "kind"),
    [
        ('{"error": {"message": "No.\\nNever.", "type": "bad"}}', "No. Never", "bad"),
        ('{"error": {"message": "No", "code": "model_not_found", "type": "x"}}', "No", "model_not_found"),
        ('{"error": "loading"}', "loading", ""),
        ('{"detail": [{"loc": ["body"]}]}', '{"loc": ["body"]}', ""),
        ('{"object": "error", "message": "vLLM", "code": 400}', "vLLM", ""),
        ("<html><body><h1>502 Bad Gateway</h1> nginx</body></html>", "502 Bad Gateway", ""),
        ("<!DOCTYPE html><head><title>A &amp; B</title><style>p {}</style></head><h1>No</h1>", "A & B", ""),
        ("<html><body>Out of <b>memory</b></body></html>", "Out of memory", ""),
        ('[{"error": {"message": "Quota.", "type": "t"}}]', "Quota", "t"),
        ('{"errors": [{"message": "One."}, {"message": "Two"}]}', "One.; Two", ""),
        ('{"detail": [{"loc": ["body"], "msg": "field required"}]}', "field required", ""),
        ('{"object": "error", "message": "No \\ud83d", "code": 404}', "No \ufffd", ""),
        ("", "", ""),
        ('"no"', "no", ""),
    ],
)
def test_error_formats_of_servers_are_parsed(body: str, said: str, kind: str) -> None:
    refusal = read_error(400, body)
    assert (refusal.status, refusal.message, refusal.kind) == (400, said, kind)


def test_a_status_in_the_body_counts_without_an_http_error() -> None:
    assert parse_error({"error": {"code": 503, "message": "Busy"}}).status == 503
    assert parse_error({"error": {"code": 503, "message": "Busy"}}, 500).status == 500
    assert parse_error({"error": {"code": True, "message": "Busy"}}).status == 0


@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        (ServerError(401, ""), RequestRefused, "UNWRITTEN_API_KEY"),
        (ServerError(404, "gone"), ModelNotFound, "404 for the model 'm': gone. It has m, n."),
        (ServerError(400, "maximum context length is 5"), PromptTooLong, "larger context"),
        (ServerError(400, "n", "exceed_context_size_error"), PromptTooLong, "7 tokens of text"),
        (ServerError(400, "odd"), RequestRefused, "refused the request .400: odd"),
        (ServerError(429, "", "", 12), GenerationFailed, "after 12 seconds"),
        (ServerError(429, ""), GenerationFailed, "later"),
        (ServerError(307, ""), GenerationFailed, "redirects"),
        (ServerError(500, "oops"), GenerationFailed, "answers 500: oops"),
        (ServerError(0, "oops"), GenerationFailed, "answers with an error: oops"),
    ],
)
def test_each_error_says_what_to_do(refusal: ServerError, kind: type[Exception], message: str) -> None:
    error = refusal.to_engine_error("http://host", "m", ["m", "n"], 7)
    assert type(error) is kind
    with pytest.raises(kind, match=message):
        raise error


def test_transient_errors_are_recognized() -> None:
    assert [ServerError(status, "").transient for status in (429, 500, 503, 400, 401, 404)] == [True] * 3 + [False] * 3
    assert not ServerError(429, "", "insufficient_quota").transient


def test_retry_delays_are_read() -> None:
    assert (parse_retry_after("3"), parse_retry_after("0.5"), parse_retry_after(""), parse_retry_after("soon")) == (
        3,
        0.5,
        None,
        None,
    )
    wait = parse_retry_after(email.utils.formatdate(time.time() + 60, usegmt=True))
    assert wait is not None and 55 < wait <= 60
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:00 GMT") == 0


def test_long_lists_are_cut() -> None:
    assert list_models([]) == "It does not list its models."
    assert list_models([f"m{n}" for n in range(30)]).endswith("m19 and more.")


def test_an_error_that_is_nested_too_deeply_is_read() -> None:
    body = '{"error":' * 900 + '"x"' + "}" * 900
    error = read_error(500, body)
    assert error.status == 500 and len(error.message) <= 401
    assert len(read_error(500, "word " * 100_000).message) <= 401
