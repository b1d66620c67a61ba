"""The guide below /travel, in a Starlette app that could have other parts: uvicorn travel_guide.proxied:site"""

from starlette.applications import Starlette
from starlette.routing import Mount

from .app import app

site = Starlette(routes=[Mount("/travel", app)], lifespan=lambda site: app.router.lifespan_context(app))
