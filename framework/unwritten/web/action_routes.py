"""Routes of actions, and the attributes of the forms that are submitted to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_type_hints
from urllib.parse import urlencode

from markupsafe import Markup
from pydantic import TypeAdapter
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from unwritten_engine.errors import suggestion

from ..core.errors import BadApp
from ..core.mount import MountPoint
from ..rendering.document import FORM_KEY
from ..routing.form_fields import FormParser, file_kind
from ..routing.page_function import PageFunction, annotated
from ..routing.patterns import PagePattern
from ..routing.routes import PatternRoute
from ..security.signer import Signer

PAGE, TOKEN = "_page", "_form"
"""Query parameters of the URL that a form is submitted to: the key of the form's page; its token with a unique key."""


class ActionFunction(PageFunction):
    """An author's function that handles a form. Parameters that are not in the path come from the form's fields.

    Args:
        function: A sync or async function.
        pattern: The pattern of its path.
        name: The action's name. None: the function's name.

    Raises:
        BadApp: If the signature does not fit the pattern, or a form cannot hold a parameter.
    """

    def __init__(self, function: Callable[..., Any], pattern: PagePattern, name: str | None = None) -> None:
        super().__init__(function, pattern, name)
        hints = get_type_hints(annotated(function), include_extras=True)
        fields = {name: (hints.get(name, str), self._defaults.get(name, ...)) for name in self.query}
        self.query = {}
        self.form = FormParser(self.name, fields)

    def _adapter(self, annotation: Any) -> TypeAdapter[Any] | None:
        return None if file_kind(annotation) else super()._adapter(annotation)


class ActionRoute(PatternRoute):
    """A Starlette route of an action, for POST requests."""

    def __init__(self, pattern: PagePattern, function: ActionFunction, endpoint: Callable[[Request], Any]) -> None:
        super().__init__(pattern, function.name, endpoint, "POST")
        self.function = function

    def with_prefix(self, prefix: str, name: str) -> ActionRoute:
        """Return the same action below a prefix, with this name."""
        pattern = self.pattern.with_prefix(prefix)
        return ActionRoute(pattern, ActionFunction(self.function.function, pattern, name), self.endpoint)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as Starlette does, and put the route into the scope as ``action_route``."""
        match, child = super().matches(scope)
        return match, {**child, "action_route": self} if child else child


class FormTags:
    """Makes the attributes of forms that are submitted to actions."""

    def __init__(self, mount: MountPoint, signer: Signer) -> None:
        self._mount = mount
        self._signer = signer

    def attributes(self, path: str, page: str, form_id: str = "", *, has_files: bool = False) -> Markup:
        """Return the attributes of a form. ``data-action`` identifies it: its URL differs in each response.

        Args:
            path: The action's path, without the prefix.
            page: The key of the page that shows the form.
            form_id: The unique key of a form that is shown again. Empty: a new one in each response.
            has_files: True if its action takes files.
        """
        # Each response replaces FORM_KEY with a new key, so that a form that is sent twice is recognized.
        token = self._signer.sign_form(path, page)
        url = f"{self._mount.url(path)}?{urlencode({PAGE: page, TOKEN: f'{token}.{form_id}'})}"
        url += "" if form_id else FORM_KEY
        files = Markup(' enctype="multipart/form-data"') if has_files else ""
        return Markup('method="post" action="{}" data-action="{}"{}').format(url, path, files)


def find_action(routes: Sequence[BaseRoute], name: str, parameters: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the path of an action, and True if it takes files: ``find_action(routes, "reply", {"id": 3})``.

    Raises:
        BadApp: If there is no action with this name, or it takes other parameters.
        BadURL: If its path cannot hold these values.
    """
    actions = {route.name: route for route in routes if isinstance(route, ActionRoute)}
    if name not in actions:
        raise BadApp(f"There is no action {name!r}.{suggestion(name, actions)}")
    pattern = actions[name].pattern
    if parameters.keys() != pattern.parameters.keys():
        raise BadApp(f"The action {name!r} has the pattern {pattern.path!r}, but was given {sorted(parameters)}.")
    return pattern.build(pattern.parse(parameters)), bool(actions[name].function.form.file_fields)
