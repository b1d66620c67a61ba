"""Action routes, and the forms that are sent to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints
from urllib.parse import urlencode

from markupsafe import Markup
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp
from ..core.mount import MountPoint
from ..rendering.document import FORM_KEY
from ..routing.form_fields import FormParser
from ..routing.patterns import PagePattern
from ..routing.routes import PageFunction, TextRoute
from ..security.signer import Signer

PAGE, TOKEN = "_page", "_form"
"""Parts of the address that a form is sent to: the page where it stands; its token, with its key."""


class ActionFunction(PageFunction):
    """An author's function that handles a form. What its signature asks for beyond the path comes from the form.

    Args:
        function: sync or async.
        pattern: the path pattern.

    Raises:
        BadApp: if the signature and the pattern do not fit together.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern, name: str | None = None) -> None:
        super().__init__(function, pattern, name)
        hints = get_type_hints(function, include_extras=True)
        fields = {name: (hints.get(name, str), self._defaults.get(name, ...)) for name in self.query}
        self.query = {}
        self.form = FormParser(self.name, fields)


class ActionRoute(TextRoute):
    """A Starlette route of an action."""

    def __init__(self, pattern: PagePattern, function: ActionFunction, endpoint: Callable[[Request], Any]) -> None:
        super().__init__(pattern, function.name, endpoint, "POST")
        self.function = function

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match, and note the route in the scope."""
        match, child = super().matches(scope)
        return match, {**child, "action_route": self} if child else child


class FormTags:
    """Makes the attributes of forms.

    Args:
        mount: The prefix under which the app is served.
        signer: Signs forms.
    """

    def __init__(self, mount: MountPoint, signer: Signer) -> None:
        self._mount = mount
        self._signer = signer

    def attributes(self, path: str, page: str) -> Markup:
        """Return the attributes of a form on a page that is sent to an action."""
        # Each response puts a key of its own in place of FORM_KEY: see ``insert_nonce``.
        token = self._signer.sign_form(path, page)
        address = f"{self._mount.url(path)}?{urlencode({PAGE: page, TOKEN: f'{token}.'})}{FORM_KEY}"
        return Markup('method="post" action="{}" data-action').format(address)


def find_action(routes: Sequence[BaseRoute], name: str, parameters: Mapping[str, Any]) -> str:
    """The address of an action by its name: ``find(routes, "reply", {"id": 3}, 120)``.

    Raises:
        BadApp: if there is no action of that name, or it takes other parameters.
        BadAddress: if its address cannot have these.
    """
    actions = {route.name: route for route in routes if isinstance(route, ActionRoute)}
    if name not in actions:
        raise BadApp(f"There is no action {name!r}.{suggestion(name, actions)}")
    pattern = actions[name].pattern
    if parameters.keys() != pattern.parameters.keys():
        raise BadApp(f"The action {name!r} has the pattern {pattern.path!r}, but was given {sorted(parameters)}.")
    return pattern.build(pattern.parse(parameters))
