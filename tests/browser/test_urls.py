"""URLs in Chromium: the server and the scripts agree with the browser on what leads to a page of this app."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from tests.browser.tabs import OpenTab
from tests.support.apps import make_wiki, write
from tests.support.servers import served
from tests.support.urls import url_vectors

from unwritten.core.paths import page_key, page_path
from unwritten_engine import scripted

pytestmark = pytest.mark.browser

PARSE = """(urls) => urls.map((text) => {
  const parse = (text) => {
    if (!URL.canParse(text, location.href)) return null;
    const { origin, pathname, search, hash } = new URL(text, location.href);
    return [origin, pathname, search, hash];
  };
  const key = unwritten.key(text);
  return { seen: parse(text), key, again: key === null ? null : parse(unwritten.url(key)) };
})"""


@pytest.mark.parametrize("prefix", ["", "/gu ide"])
def test_the_server_and_the_scripts_agree_with_the_browser(tmp_path: Path, open_tab: OpenTab, prefix: str) -> None:
    app = make_wiki(tmp_path, scripted("A tower."))
    with TestClient(app) as client:
        write(client, "/wiki/Here")
    lifespan: Any = app.router.lifespan_context
    outer = Starlette(routes=[Mount(prefix, app)], lifespan=lambda _: lifespan(app))
    vectors = [text for text in url_vectors() if text.isascii() or text.encode("utf-8", "ignore").decode() == text]
    with served(outer if prefix else app) as address:
        origin, root = f"http://{address}", quote(prefix)
        tab = open_tab()
        tab.goto(f"{origin}{root}/wiki/Here")
        results = tab.js(PARSE, vectors)
        on_site = 0
        for text, result in zip(vectors, results, strict=True):
            seen, key, again = result["seen"], result["key"], result["again"]
            path = page_path(text, "/wiki/Here")
            if path is not None and not text.strip().startswith("/"):  # relative URLs depend on the prefix
                on_site += 1
                assert seen is not None and seen[0] == origin, text
                if ".." not in text:
                    assert same(root + path, "".join(seen[1:])), text
                    assert key is not None and same(key, path.partition("#")[0]), text
            elif path is not None and not root:
                on_site += 1
                assert seen is not None and seen[0] == origin and same(path, "".join(seen[1:])), text
                assert key is not None and same(key, path.partition("#")[0]), text
            if key is not None:
                assert again[0] == origin and again[1].startswith(f"{root}/"), text
                assert not unquote(unquote(again[1].removeprefix(root))).lower().startswith(("//", "/_unwritten/")), (
                    text
                )
        assert on_site > (20 if not root else 5)
        # What the server accepts as a key is the same page for the browser, with the prefix.
        keys = [key for text in vectors if (key := page_key(text)) is not None]
        for key, result in zip(keys, tab.js(PARSE, [root + key for key in keys]), strict=True):
            assert result["seen"][0] == origin and same(root + key, "".join(result["seen"][1:]))
            assert same(result["key"], key)


def same(one: str, other: str) -> bool:
    """True if two URLs are equal after decoding: browsers encode fewer characters."""
    first, second = urlsplit(f"http://x{one}"), urlsplit(f"http://x{other}")
    return [unquote(part) for part in first[2:]] == [unquote(part) for part in second[2:]]
