"""The guide below /travel, in a Starlette app that could have other parts: uvicorn travel_guide.proxied:site"""

import contextlib
from collections.abc import AsyncIterator

from starlette.applications import Starlette
from starlette.routing import Mount

from .app import app


@contextlib.asynccontextmanager
async def lifespan(site: Starlette) -> AsyncIterator[None]:
    async with app.router.lifespan_context(app):  # Starlette runs none of a mounted app
        yield


site = Starlette(routes=[Mount("/travel", app)], lifespan=lifespan)
