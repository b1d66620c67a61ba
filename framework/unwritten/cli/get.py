"""``unwritten get``: one page to standard output, without a server."""

from __future__ import annotations

import asyncio
import sys
from urllib.parse import quote, urljoin

import click

from ..app.application import App
from ..testing.asgi_client import request, running
from .flags import app_options, chosen_app, given, settings_options
from .server import prepare

REDIRECTS = 5

_REGION_ERROR = b'class="region-error"'
"""In a plain page: a part that was not finished."""


@click.command("get")
@click.argument("path")
@app_options
@settings_options("host", "port")
def command(path: str, target: str | None, demo: str | None, **options: object) -> None:
    """Write the page PATH, or take it from the database if it is written, and print its HTML.

    \b
    unwritten get /wiki/Lighthouse --demo wiki > lighthouse.html
    unwritten get / --app app.py
    """
    if not path.startswith("/"):
        raise click.UsageError(f"A path begins with a slash: unwritten get /{path.lstrip('/')}")
    app = chosen_app(target, demo, {"signed_links": "off", **given(options)})  # it is asked for by whoever runs the app
    prepare(app)
    status, whole = asyncio.run(_print(app, _plain(path)))
    if status >= 400:
        raise click.ClickException(f"{path} was answered with status {status}; the page above says why.")
    if not whole:
        raise click.ClickException(f"{path} could not be finished, and is not kept; the page above says why.")


def _plain(path: str) -> str:
    """The URL that asks for a page whole, without script."""
    place, _, query = path.partition("?")
    place = quote(place, safe="/%:@!$&'()*+,;=~-._")
    if "plain=1" in query.split("&"):
        return f"{place}?{query}"
    return f"{place}?{query}&plain=1" if query else f"{place}?plain=1"


async def _print(app: App, url: str) -> tuple[int, bool]:
    """Print a page. Returns its status, and whether it is whole."""
    whole = True

    def write(body: bytes) -> None:
        nonlocal whole
        whole = whole and _REGION_ERROR not in body  # such a mark comes in one piece
        sys.stdout.buffer.write(body)
        sys.stdout.buffer.flush()

    async with running(app):
        answer = await request(app, url, write)
        for _ in range(REDIRECTS):
            if answer.location:
                url = _plain(urljoin(url, answer.location))
                answer = await request(app, url, write)
    return answer.status, whole
