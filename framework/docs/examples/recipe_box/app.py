"""A recipe box: every recipe is written when someone opens it, and cooks keep the ones they like.

unwritten run app.py

accounts.py   cooks: joining, logging in, who may read what
recipes.py    the recipes, their photos, and the cookbook of each cook
api.py        JSON for programs
"""

import os

from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import Response

from unwritten import App, Page

from . import accounts, api, recipes
from .recipes import Recipe


async def not_found(request: Request, error: Exception) -> Response:
    return app.render("not_found.html", status_code=404, title="No such recipe")


app = App(
    "The Recipe Box",
    folder=__file__,
    world="A box of recipes for home cooks. Every recipe can be cooked in an ordinary kitchen.",
    links="/recipes/{title}",
    middleware=[Middleware(SessionMiddleware, secret_key=os.environ.get("SESSION_KEY", "only for development"))],
    exception_handlers={404: not_found},
)
app.include_router(accounts.router)
app.include_router(recipes.router, prefix="/recipes")
app.include_router(api.router, prefix="/api")


@app.page("/")
def front() -> Page:
    quick = [source for source, recipe in app.values(Recipe) if recipe.minutes <= 30]
    return Page("front.html", title=app.name, recent=app.store.recent(12), quick=quick, ideas=recipes.IDEAS)
