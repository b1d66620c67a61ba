"""Templates: renders pages and their blocks with Jinja.

A page is rendered once as a whole, its *shell*. After that only the block of a region is rendered again for every
frame, in the same Jinja context. The blocks of canvases are wrapped in elements that the browser can find.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, PrefixLoader, Template, TemplateError, pass_context
from jinja2.exceptions import TemplateNotFound, TemplateSyntaxError
from jinja2.runtime import Context
from markupsafe import Markup

from ..core.assets import asset_dir
from ..core.errors import BadTemplate
from ..core.localization import Language, Localization, Text
from ..formats.direction import text_direction
from ..formats.page import CanvasGroup
from ..routing.audience import current_audience
from .blocks import PLACEHOLDER, Blocks, RegionGroup, RegionNumbers, StateRegion, check_not_nested
from .document import COLOPHON
from .regions import PageView, Region

_LAYOUT_BLOCKS = frozenset({"title", "head", "header", "main", "footer"})
"""Blocks of the layout. A value of such a name is not a state region."""


@dataclass(frozen=True, slots=True)
class Placeholder:
    """The place of a region's content, or of the colophon, in a shell."""

    name: str


class Shell:
    """A rendered page: its HTML, and the context to render its regions again.

    Attributes:
        html: The whole page. With placeholders, the content of regions and the colophon is left out.
        state_regions: The state regions by name.
    """

    def __init__(
        self, html: str, template: Template, context: Context, state_regions: Mapping[str, StateRegion]
    ) -> None:
        self.html = html
        self.state_regions = state_regions
        self._template = template
        self._context = context

    def parts(self) -> Iterator[str | Placeholder]:
        """Yield the page in document order, as text and placeholders."""
        first, *rest = self.html.split(PLACEHOLDER)
        yield first
        for part in rest:
            name, text = part.split("\n", 1)
            yield Placeholder(name)
            yield text

    def render_region(self, region: Region, page: PageView) -> str:
        """Return the inner HTML of a region from its block. A canvas of a group has no block.

        Raises:
            BadTemplate: If the block raises.
        """
        if region.name not in self._context.blocks:
            return str(region)
        context = self._context.derived({region.name: region, "page": page})
        token = current_audience.set("everyone")
        try:
            return check_not_nested("".join(context.blocks[region.name][0](context)), region.name)
        except Exception as error:
            raise template_error(self._template.name or "?", error, f"the block {region.name!r}") from error
        finally:
            current_audience.reset(token)


class Templates:
    """The app's templates, and the framework's behind them.

    ``unwritten/layout.html`` is the framework's template even if the app has one of that name, which can extend it.

    Args:
        folder: The app's templates folder. None: it has none.
        global_values: What every template sees.
        more_folders: The templates folders of routers. They are searched after the app's.
        localization: The languages. None: those of an English app.
    """

    def __init__(
        self,
        folder: Path | None,
        global_values: Mapping[str, Any],
        more_folders: Sequence[Path] = (),
        localization: Localization | None = None,
    ) -> None:
        self.localization = localization or Localization()
        self._folders = [path for path in (folder, *more_folders, asset_dir("templates")) if path is not None]
        self._has_folder = folder is not None
        framework = PrefixLoader({"unwritten": FileSystemLoader(asset_dir("templates"))})
        self._numbers = RegionNumbers()
        self.environment = Environment(
            loader=ChoiceLoader([*map(FileSystemLoader, self._folders), framework]),
            autoescape=True,
            auto_reload=False,
            finalize=self._finalize,
            extensions=["jinja2.ext.i18n"],
        )
        self.environment.policies["ext.i18n.trimmed"] = True
        self._add_translations()
        self.environment.globals.update(global_values)
        self.environment.filters["direction"] = text_direction

    def _add_translations(self) -> None:
        """Add ``_``, ``{% trans %}`` and the filters for dates and numbers, in the language of the page."""

        def in_context(method: Callable[..., str]) -> Callable[..., str]:
            @pass_context
            def call(context: Context, *args: Any, **options: Any) -> str:
                return method(self._language(context), *args, **options)

            return call

        names = ("gettext", "ngettext", "pgettext", "npgettext")
        functions = {name: in_context(getattr(Language, name)) for name in names}
        self.environment.install_gettext_callables(**functions, newstyle=True)  # type: ignore[attr-defined]
        for name in ("format_datetime", "format_date", "format_duration", "format_number"):
            self.environment.filters[name] = in_context(getattr(Language, name))

    def _language(self, context: Context) -> Language:
        """Return the language of what is rendered: that of the page, otherwise that of the app."""
        lang = context.resolve("lang")
        return self.localization.get(lang if isinstance(lang, str) else None)

    @pass_context
    def _finalize(self, context: Context, value: Any) -> Any:
        """Return what a template prints for a value: nothing for None, and an enum's value instead of its name."""
        if value is None:
            return ""
        if isinstance(value, Text):
            return self._language(context).text(value)
        return value.value if isinstance(value, Enum) else value

    def get(self, name: str) -> Template:
        """Return a template.

        Raises:
            BadTemplate: If it is missing or has a syntax error.
        """
        try:
            return self.environment.get_template(name)
        except TemplateSyntaxError as error:
            raise template_error(error.name or name, error) from error
        except TemplateNotFound as error:
            folders = " and ".join(str(folder) for folder in self._folders)
            used_by = "" if error.name == name else f", which {name!r} uses"
            hint = "" if self._has_folder else " To use the templates folder beside your module, write folder=__file__."
            raise BadTemplate(f"There is no template {error.name!r}{used_by}. Looked in {folders}.{hint}") from None

    def render(self, name: str, values: Mapping[str, Any]) -> str:
        """Render a template without regions.

        Raises:
            BadTemplate: If it is missing or raises.
        """
        template = self.get(name)
        try:
            # Not ``Template.render``: it rewrites the traceback, in which ``template_error`` finds the line.
            return "".join(template.root_render_func(template.new_context(dict(values))))
        except Exception as error:
            raise template_error(name, error) from error

    def render_page(
        self,
        name: str,
        page: PageView,
        regions: Mapping[str, Region],
        values: Mapping[str, Any],
        *,
        groups: Mapping[str, CanvasGroup] = MappingProxyType({}),
        state_names: Iterable[str] = (),
        placeholders: bool = False,
    ) -> Shell:
        """Render a page.

        Args:
            name: The template.
            page: The page.
            regions: Its regions by name, as they are now.
            values: The other values that the template sees.
            groups: The groups of canvases by name.
            state_names: Names of values. If the template has a block of such a name, the block is a state region.
            placeholders: Render placeholders in place of the colophon and the canvases' content.

        Raises:
            BadTemplate: If the template is missing, raises, or does not render a region.
        """
        template = self.get(name)
        if placeholders:
            values = {**values, COLOPHON: Markup(f"{PLACEHOLDER}{COLOPHON}\n")}
        region_groups = {group_name: RegionGroup(group, regions) for group_name, group in groups.items()}
        context = template.new_context({**values, **regions, **region_groups, "page": page})
        blocks = Blocks(
            context.blocks,
            page,
            regions,
            frozenset(state_names) - _LAYOUT_BLOCKS,
            self._numbers,
            placeholders,
            self._language(context),
        )
        context.blocks = blocks
        token = current_audience.set("everyone")
        try:
            html = blocks.insert_canvases("".join(template.root_render_func(context)))
        except BadTemplate:
            raise
        except Exception as error:
            raise template_error(name, error) from error
        finally:
            current_audience.reset(token)
        missing = [region for region in regions if region not in blocks.rendered]
        if missing:
            raise BadTemplate(
                f"The template {name!r} does not render the canvas {missing[0]!r}. "
                f"Put {_expression_for(missing[0], groups)} where it belongs."
            )
        return Shell(html, template, context, blocks.state_regions())


def _expression_for(name: str, groups: Mapping[str, CanvasGroup]) -> str:
    """Return the Jinja source that renders a canvas."""
    for group_name, group in groups.items():
        for key, region in group.regions.items():
            if region == name:
                return f"{{{{ {group_name}[{key!r}] }}}}"
    return f"{{% block {name} %}}{{{{ {name} }}}}{{% endblock %}}"


def template_error(name: str, error: Exception, part: str = "") -> BadTemplate:
    """Return an error for authors, with the template and the line that raised.

    Args:
        name: The template that was rendered.
        error: What it raised.
        part: The part that was rendered, such as "the block 'lead'".
    """
    if isinstance(error, TemplateSyntaxError):
        name, line = error.name or name, error.lineno
    else:
        name, line = _find_line(error) or (name, 0)
    place = ", ".join(text for text in (part, f"line {line}" if line else "") if text)
    kind = "" if isinstance(error, TemplateError) else f"{type(error).__name__}: "
    reason = f"there is no template {error.name!r}" if isinstance(error, TemplateNotFound) else f"{kind}{error}"
    return BadTemplate(f"The template {name!r} cannot be rendered{f' ({place})' if place else ''}: {reason}")


def _find_line(error: Exception) -> tuple[str, int] | None:
    """Return the innermost template of a traceback, and its line."""
    found = None
    trace = error.__traceback__
    while trace:
        # Jinja puts the template among the globals of the code that it compiles from it.
        template = trace.tb_frame.f_globals.get("__jinja_template__")
        if isinstance(template, Template) and template.name:
            found = (template.name, template.get_corresponding_lineno(trace.tb_lineno))
        trace = trace.tb_next
    return found
