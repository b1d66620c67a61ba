"""Access rules: ``@app.page(…, allow=signed_in)``, an author's function that decides who may read a page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.requests import Request

from ..core.errors import BadURL
from ..core.localization import gettext_lazy as _
from .request_rule import RequestRule


class AccessRule(RequestRule):
    """An author's function that decides who may read a page.

    Args:
        function: Sync or async. It takes the request. True allows, False denies. It may raise instead, such as an
            ``HTTPException`` that redirects to a login.

    Raises:
        BadApp: If it cannot be called with a request.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, "allow")

    async def check(self, request: Request) -> None:
        """Call the function.

        Raises:
            BadURL: With status 403 if the visitor may not read the page.
            BadApp: If the function returns something else than True or False.
            TimeoutError: If it takes too long.
        """
        answer = await self.call(request)
        if not isinstance(answer, bool):
            raise self.error(f"The access rule returned {answer!r}, but must return True or False. Write bool(…).")
        if not answer:
            raise BadURL(_("You may not read this page."), 403)
