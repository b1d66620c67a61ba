"""A travel guide in three languages: /en/Portugal/Lisbon/Harbour_Street.

unwritten run app.py
unwritten run app.py --root-path /travel     # behind a proxy that removes /travel

places.py    countries, cities and sights, under a prefix with the language
proxied.py   the same app, mounted below /travel
"""

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import App

from . import places
from .places import LANGUAGES

app = App(
    "A Travel Guide",
    folder=__file__,
    world="A calm and exact travel guide to the real world.",
)
app.include_router(places.router, prefix="/{lang}")
app.alias("/en/Portugal/Lisboa", "/en/Portugal/Lisbon")
app.alias("/fr/Portugal/Lisboa", "/fr/Portugal/Lisbon")


@app.route("/")
async def front(request: Request) -> Response:
    """Lead to a language. The pages do not depend on the visitor, because their URLs name the language."""
    wanted = request.headers.get("accept-language", "")[:2].lower()
    lang = wanted if wanted in LANGUAGES else "en"
    return RedirectResponse(request.url_for("countries", lang=lang), headers={"Vary": "Accept-Language"})
