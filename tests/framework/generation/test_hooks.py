"""Prompt policies and text policies of authors."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.support.apps import browser, follow, make_two, make_wiki, tables, text_frame, write

from unwritten.core.errors import BadApp
from unwritten.generation.hooks import PromptCheck
from unwritten_engine import scripted


def test_the_prompt_policy_is_asked_before_a_page_is_generated(tmp_path: Path) -> None:
    engine = scripted("Words.")
    app = make_wiki(tmp_path, engine)
    seen: list[PromptCheck] = []

    @app.allow_prompt
    def policy(check: PromptCheck) -> bool | str | None:
        seen.append(check)
        answers: dict[str, bool | str] = {"Bomb": "No bombs here.", "Secret": False, "Tea": True}
        return answers.get(check.title)

    with browser(app) as client:
        denied = client.get("/wiki/Bomb")
        assert denied.status_code == 403
        assert ">This page is not generated here</h1>" in denied.text and "No bombs here." in denied.text
        assert "This page is not written here." in client.get("/wiki/Secret").text
        assert not engine.requests
        write(client, "/wiki/Tea")
        write(client, "/wiki/Sea")
        client.get("/wiki/Tea")
    assert [check.key for check in seen] == ["/wiki/Bomb", "/wiki/Secret", "/wiki/Tea", "/wiki/Sea"]
    assert seen[2].client_id == "testclient"
    assert seen[2].prompts["body"].ask == "An encyclopedia article about Tea."


def test_the_prompt_policy_is_asked_before_a_rewrite(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    allowed = [True, False]
    app.allow_prompt(lambda check: allowed.pop(0))
    with browser(app) as client:
        write(client, "/wiki/Tea")
        assert client.post("/_unwritten/rewrite", data={"page": "/wiki/Tea"}).status_code == 403
        assert client.get("/wiki/Tea").status_code == 200


def test_the_text_policy_is_asked_before_a_text_is_shown(tmp_path: Path) -> None:
    cut = text_frame("A draft. An en", done=True)
    assert cut.usage
    cut = replace(cut, usage=replace(cut.usage, reason="length"))
    app = make_two(tmp_path, scripted(["A dr", "A draft.", cut]))
    seen: list[tuple[str, str, str]] = []

    @app.allow_text
    async def policy(key: str, region: str, text: str) -> str | None:
        seen.append((key, region, text))
        return "This text was not polite." if region == "body" else None

    with browser(app) as client:
        client.get("/")
        heard = follow(client, "/")
        assert heard[-1]["state"] == "failed"
        assert heard[-1]["message"] == "This text was not polite."
        texts = [m["html"] for m in heard if m["type"] == "frame" and m["region"] == "body"]
        assert not any("draft" in html for html in texts), "no draft was shown"
    assert sorted(seen) == [("/", "body", "A draft."), ("/", "lead", "A draft.")], (
        "the text that is stored is the text that is checked"
    )
    assert tables(tmp_path / "pages.db")["pages"] == []


def test_with_a_text_policy_an_allowed_page_has_one_frame(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted(["A", "A text."]))
    app.allow_text(lambda key, region, text: None)
    with browser(app) as client:
        frames = [m for m in write(client, "/wiki/Tea") if m["type"] == "frame"]
        assert [m["state"] for m in frames] == ["written"]
        assert client.get("/wiki/Tea").status_code == 200


def raises(*arguments: Any) -> bool:
    raise RuntimeError("the word list is gone")


def returns_nonsense(*arguments: Any) -> Any:
    return 1


@pytest.mark.parametrize("policy", [raises, returns_nonsense])
def test_a_policy_that_fails_denies_and_names_the_log_entry(
    policy: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    app.allow_prompt(policy)
    with caplog.at_level(logging.ERROR, "unwritten"), browser(app) as client:
        denied = client.get("/wiki/Tea")
    assert denied.status_code == 403
    number = denied.text.partition("under the number ")[2][:8]
    assert f"/wiki/Tea is denied, because its policy failed ({number})" in caplog.text
    assert "word list is gone" not in denied.text


def test_a_text_policy_that_raises_denies_and_nothing_is_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    app.allow_text(raises)
    with caplog.at_level(logging.ERROR, "unwritten"), browser(app) as client:
        last = write(client, "/wiki/Tea")[-1]
    assert last["state"] == "failed"
    assert last["message"].startswith(
        "The text that the model wrote was rejected, and is not stored. Its check failed."
    )
    assert "/wiki/Tea (body) is denied, because its policy failed" in caplog.text
    assert tables(tmp_path / "pages.db")["pages"] == []


def test_a_policy_that_takes_too_long_denies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwritten.routing.page_function.FUNCTION_TIME_LIMIT", 0.1)
    app = make_wiki(tmp_path, scripted("Words."))

    @app.allow_prompt
    async def policy(check: PromptCheck) -> None:
        await asyncio.sleep(20)

    with browser(app) as client:
        assert client.get("/wiki/Tea").status_code == 403


def test_there_is_one_policy_of_each_kind(tmp_path: Path) -> None:
    app = make_wiki(tmp_path, scripted("Words."))
    app.allow_prompt(lambda check: True)
    app.allow_text(lambda key, region, text: True)
    with pytest.raises(BadApp, match="has an allow_prompt check already"):
        app.allow_prompt(lambda check: True)
    with pytest.raises(BadApp, match="has an allow_text check already"):
        app.allow_text(lambda key, region, text: True)
