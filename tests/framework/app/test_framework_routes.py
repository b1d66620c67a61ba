"""The framework's own routes under ``/_unwritten``."""

from __future__ import annotations

from pathlib import Path

from tests.support.apps import browser, make_app, make_wiki

from unwritten.core.paths import FRAMEWORK_PREFIX
from unwritten_engine import scripted


def test_the_fallback_does_not_match_framework_urls(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("A note."))

    @app.fallback
    def note(path: str) -> str:
        return f"A note on {path}."

    with browser(app) as client:
        assert client.get(f"{FRAMEWORK_PREFIX}nothing").status_code == 404
        assert client.get("/something").status_code == 200


def test_an_unknown_form_field_is_named_in_the_error(tmp_path: Path) -> None:
    with browser(make_wiki(tmp_path, scripted("A tower."))) as client:
        assert client.get(f"{FRAMEWORK_PREFIX}rewrite").status_code == 405
        response = client.post(f"{FRAMEWORK_PREFIX}rewrite", data={"page": "/wiki/Tea", "colour": "red"})
        assert response.status_code == 400 and "colour" in response.text
