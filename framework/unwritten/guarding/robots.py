"""Robots: what crawlers are asked to leave alone.

Those that ask keep to it; for those that do not there are ``gates`` and ``budgets``.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .gates import SIGNATURE

RULES = f"""# Pages that are written may be read by anybody. What is not written yet is not there to be crawled.
User-agent: *
Disallow: /_unwritten/
Disallow: /*?{SIGNATURE}=
Disallow: /*&{SIGNATURE}=
"""


async def robots(request: Request) -> Response:
    """``/robots.txt``."""
    return PlainTextResponse(RULES, headers={"cache-control": "max-age=3600"})
