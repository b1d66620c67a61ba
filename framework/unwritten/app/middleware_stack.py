"""The middleware of an app: the framework's, that of extensions, the author's, and the error handlers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.errors import ServerErrorMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, ExceptionHandler

from unwritten_engine import EngineError

from ..core.errors import UnwrittenError
from ..web.error_pages import ErrorPages

_HARMLESS: frozenset[Any] = frozenset({CORSMiddleware, GZipMiddleware})
"""Middleware that refuses no GET request."""


def may_refuse(middleware: Sequence[Middleware]) -> bool:
    """True if any of these may refuse a GET request."""
    return any(entry.cls not in _HARMLESS for entry in middleware)


def build_stack(
    router: ASGIApp,
    *,
    first: Sequence[Middleware],
    author: Sequence[Middleware],
    handlers: Mapping[Any, ExceptionHandler],
    error_pages: ErrorPages,
    trusted_proxies: str,
    max_body_size: int | None,
) -> ASGIApp:
    """Return the router, wrapped in all middleware.

    Args:
        router: The app's router.
        first: Runs before the error handlers, and so sees error pages, too.
        author: The author's middleware.
        handlers: The author's exception handlers. They take precedence over the error pages.
        error_pages: Responds to all other exceptions.
        trusted_proxies: The setting.
        max_body_size: The largest size of a request's body in bytes. None: no limit.
    """
    all_handlers: dict[Any, ExceptionHandler] = {
        HTTPException: error_pages.http_error,
        UnwrittenError: error_pages.unwritten_error,
        EngineError: error_pages.unwritten_error,
        ClientDisconnect: error_pages.client_disconnect,
        Exception: error_pages.server_error,
        **handlers,
    }
    unexpected = all_handlers.pop(Exception)
    stack = [
        *_proxy_middleware(trusted_proxies),
        *first,
        Middleware(ServerErrorMiddleware, handler=all_handlers.pop(500, unexpected)),
        *_body_limit(max_body_size),
        *author,
        Middleware(ExceptionMiddleware, handlers=all_handlers),
    ]
    app = router
    for cls, args, kwargs in reversed(stack):
        app = cls(app, *args, **kwargs)
    return app


def _proxy_middleware(trusted_proxies: str) -> list[Middleware]:
    if not trusted_proxies:
        return []
    from ..security.trusted_proxies import TrustedProxiesMiddleware  # imports uvicorn, which few apps need here

    return [Middleware(TrustedProxiesMiddleware, trusted_proxies=trusted_proxies)]


def _body_limit(max_body_size: int | None) -> list[Middleware]:
    if max_body_size is None:
        return []
    from starlette.middleware.body_limit import RequestBodyLimitMiddleware  # not in Starlette 1.0

    return [Middleware(RequestBodyLimitMiddleware, max_body_size=max_body_size)]
