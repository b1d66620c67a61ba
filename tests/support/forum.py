"""A small forum: threads with posts, and generated replies."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

from pydantic import BaseModel, Field
from starlette.testclient import TestClient
from tests.support.apps import make_app, templates

from unwritten import App, Canvas, Page, Redraw
from unwritten.storage.tables import Table
from unwritten_engine import Engine

THREAD = """{% extends "layout.html" %}{% block main %}<h1>{{ page.title }}</h1>
{% block posts %}{% for post in posts %}<article><p>{{ post.text }}</p>
{% if post.id in replies|default({}) %}{{ replies[post.id] }}{% endif %}</article>{% endfor %}{% endblock %}
<form {{ action("post", id=id) }}><label for="text">Your post</label>
<textarea id="text" name="text">{{ form.value.text }}</textarea>
{% if form.errors.text %}<p class="error" id="error">{{ form.errors.text }}</p>{% endif %}
<button>Post</button></form>{% endblock %}"""
"""The template of a thread."""


class Post(BaseModel):
    """A post in a thread."""

    id: int | None = None
    thread: int
    text: str


class Draft(BaseModel):
    """The fields of the form."""

    text: Annotated[str, Field(min_length=2, max_length=200)]


def make_forum(home: Path, engine: Engine, template: str = THREAD, **given: Any) -> tuple[App, Table[Post]]:
    """Return the forum and its table of posts. Posts with a question mark get a reply."""
    app = make_app(home, engine, folder=templates(home, thread=template), **given)
    posts = app.table(Post, index=["thread"])

    @app.page("/thread/{id}")
    def thread(id: int) -> Page:
        found = posts.select(thread=id)
        replies = {post.id: Canvas(f"A reply to: {post.text}") for post in found if "?" in post.text}
        return Page("thread.html", title=f"Thread {id}", id=id, posts=found, replies=replies)

    @app.action("/thread/{id}/post")
    def post(id: int, draft: Draft) -> Redraw:
        posts.insert(Post(thread=id, text=draft.text))
        return Redraw("posts")

    return app, posts


def action_url(html: str, path: str) -> str:
    """Return the URL that a page's form for this action is submitted to."""
    found = re.search(rf'action="({re.escape(path)}\?[^"]*)"', html)
    assert found, f"there is no form for {path}"
    return found[1].replace("&amp;", "&")


def send(client: TestClient, page: str, path: str, **fields: str) -> Any:
    """Open a page, and submit its form for this action."""
    return client.post(action_url(client.get(page).text, path), data=fields)


def query(url: str) -> dict[str, str]:
    """Return the query parameters of a URL."""
    return {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
