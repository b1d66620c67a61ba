"""Forms that are sent to our own routes."""

from __future__ import annotations

import pytest
from starlette.requests import Request

from unwritten.core.errors import BadAddress
from unwritten.web.framework_forms import LARGEST, FrameworkForm, read_form

pytestmark = pytest.mark.anyio

FORM = "application/x-www-form-urlencoded"


async def sent(body: bytes, kind: str = FORM, **headers: str) -> FrameworkForm:
    chunks = [body[start : start + 65536] for start in range(0, len(body), 65536)] or [b""]

    async def receive() -> dict[str, object]:
        chunk = chunks.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

    named = {"host": "here", "content-type": kind, **headers}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return await read_form(Request({"type": "http", "method": "POST", "headers": raw}, receive))


async def test_a_form_has_its_fields_with_plain_line_ends() -> None:
    form = await sent(b"page=%2Fwiki%2FTea&text=one%0D%0Atwo%00&keep=1&keep=2&empty=", origin="http://here")
    assert form.key() == "/wiki/Tea"
    assert form.one("text") == "one\ntwo" and form.all("keep") == ["1", "2"]
    assert form.one("empty") == form.one("absent") == "" and "empty" in form.names and "absent" not in form.names


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"page=/a", {"origin": "https://evil.example"}, 403, "sent from a page elsewhere"),
        (b"page=/a", {"kind": "multipart/form-data; boundary=x"}, 400, "sent as 'multipart/form-data'"),
        (b"text=" + b"x" * LARGEST, {}, 413, "too large: up to 400 kB"),
        (b"page=%FF%FE", {}, 400, "cannot be read"),
        (b"\xff\x00", {}, 400, "cannot be read"),
        (b"&".join(b"f=1" for _ in range(300)), {}, 400, "cannot be read"),
    ],
)
async def test_what_is_no_form_of_ours(body: bytes, headers: dict[str, str], status: int, words: str) -> None:
    with pytest.raises(BadAddress, match=words) as caught:
        await sent(body, **headers)
    assert caught.value.status == status


async def test_fields_that_do_not_belong_there() -> None:
    form = await sent(b"page=/a&seeed=1&page=/b")
    with pytest.raises(BadAddress, match=r"field 'seeed', which nobody asked for. Did you mean 'seed'"):
        form.only({"page", "seed"})
    with pytest.raises(BadAddress, match="'page' 2 times"):
        form.key()
    for body in (b"", b"page=wiki", b"page=/%C3%A9", b"page=/" + b"x" * 9000):
        with pytest.raises(BadAddress, match="does not say which page"):
            (await sent(body)).key()
