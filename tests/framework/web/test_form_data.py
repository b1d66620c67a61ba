"""The one form parser: fields, limits, and forms of other origins."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from unwritten.core.errors import BadForm
from unwritten.web.form_data import MAX_FIELDS, SubmittedForm, read_form

pytestmark = pytest.mark.anyio

URLENCODED = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"
LIMIT = 1000


async def submit(body: bytes, kind: str = URLENCODED, **headers: str) -> SubmittedForm:
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]

    async def receive() -> dict[str, object]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    named = {"host": "here", "content-type": kind, **{name.replace("_", "-"): text for name, text in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return await read_form(Request({"type": "http", "method": "POST", "headers": raw}, receive), LIMIT)


def part(name: str, value: bytes, extra: bytes = b"") -> bytes:
    head = b'--x\r\ncontent-disposition: form-data; name="' + name.encode() + b'"' + extra
    return head + b"\r\n\r\n" + value + b"\r\n"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"page=%2Fwiki%2FTea&text=one%0D%0Atwo%0Dthree%00&keep=1&keep=2&empty=", URLENCODED),
        (
            part("page", b"/wiki/Tea")
            + part("text", b"one\r\ntwo\rthree\0")
            + part("keep", b"1")
            + part("keep", b"2")
            + part("empty", b"")
            + b"--x--\r\n",
            MULTIPART,
        ),
    ],
)
async def test_fields_are_read_with_plain_line_ends(body: bytes, kind: str) -> None:
    form = await submit(body, kind, origin="http://here")
    assert form.page_key() == "/wiki/Tea"
    assert form.one("text") == "one\ntwo\nthree" and form.all("keep") == ["1", "2"]
    assert form.one("empty") == form.one("absent") == "" and "empty" in form and "absent" not in form
    assert [name for name, _ in form.pairs] == ["page", "text", "keep", "keep", "empty"]


@pytest.mark.parametrize(
    ("body", "headers", "status", "message"),
    [
        (b"page=/a", {"origin": "https://evil.example"}, 403, "sent from another site"),
        (b"page=/a", {"origin": "null"}, 403, "sent from another site"),
        (b"page=/a", {"sec_fetch_site": "cross-site", "origin": "http://here"}, 403, "sent from another site"),
        (b"page=/a", {"sec_fetch_site": "same-site"}, 403, "sent from another site"),
        (b"{}", {"kind": "application/json"}, 415, "not sent as application/json"),
        (b"text=" + b"x" * (LIMIT + 1), {}, 413, "A field of this form is too large. It may have 1000 B"),
        (b"text=" + b"%C3%9F" * LIMIT, {}, 413, "too large"),
        (b"text=" + b"x" * 200_000, {}, 413, "This form is too large"),
        (b"&".join(b"f=" for _ in range(MAX_FIELDS + 1)), {}, 413, f"more than {MAX_FIELDS:,} fields"),
        (part("text", b"x", b'; filename="a.txt"') + b"--x--\r\n", {"kind": MULTIPART}, 400, "contains a file"),
        (b"nonsense", {"kind": MULTIPART}, 400, "cannot be parsed"),
        (b"", {"kind": "multipart/form-data"}, 400, "cannot be parsed"),
    ],
)
async def test_invalid_forms_are_refused(body: bytes, headers: dict[str, str], status: int, message: str) -> None:
    with pytest.raises(BadForm, match=message) as caught:
        await submit(body, **headers)
    assert caught.value.status == status


async def test_same_origin_forms_are_accepted_by_any_of_the_headers() -> None:
    for headers in (
        {},
        {"origin": "http://here"},
        {"sec_fetch_site": "same-origin", "origin": "http://proxied.example"},
    ):
        assert (await submit(b"a=1", **headers)).one("a") == "1"


async def test_unknown_repeated_and_missing_fields() -> None:
    form = await submit(b"page=/a&seeed=1&page=/b")
    with pytest.raises(BadForm, match=r"unknown field 'seeed'.*Did you mean 'seed'"):
        form.require_only({"page", "seed"})
    with pytest.raises(BadForm, match="2 values for its field 'page'"):
        form.page_key()
    with pytest.raises(BadForm, match="is not valid text"):
        await submit(b"a%00=1")
    assert (await submit(b"page=/%C3%A9")).page_key() == "/%C3%A9"
    for body in (b"", b"page=wiki", b"page=//evil.example", b"page=/a%0D%0Ab", b"page=%FF%FE", b"\xff"):
        with pytest.raises(BadForm, match="does not name its page"):
            (await submit(body)).page_key()
