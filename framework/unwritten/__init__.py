"""Unwritten: a web framework for pages that are generated when someone clicks them.

    from unwritten import App

    app = App("Fake Wiki")

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An encyclopedia article about {title}."

``unwritten run wiki.py`` serves it. A finished page is stored, so that a shared link opens the page that was seen. Each
further step is one more line:

* Return ``Page("article.html", lead=Canvas("…"), body=Canvas("…"))`` for a page of several regions. In the template
  each canvas is a block: ``{% block lead %}{{ lead }}{% endblock %}``.
* ``Canvas("…", schema=Facts)`` generates a value of a pydantic model or dataclass. The template sees its fields while
  they arrive.
* ``Canvas("…", format="svg")`` is a drawing, ``format="app"`` a program in a sandboxed frame. ``Format`` makes a format
  of your own.
* ``Canvas("…", examples=[Example("prompt", "answer")])`` shows the model what a good answer is. ``read_examples`` reads
  examples from a file.
* A page function that takes ``visit: Visit`` gets the link that was clicked and the sentence around it.
* ``@app.page(…, allow=signed_in)`` decides who may read a page, ``vary=language`` stores one page for each value, and
  ``fresh=timedelta(days=1)`` generates a page again when it is old. Otherwise all visitors see one page, for good.
* ``app.table(Post)`` stores rows in SQLite, beside the pages. ``@app.action("/post")`` handles a form, and may return
  ``Redraw("posts")``.
* ``photo: ImageUpload`` in an action takes a file of a form. ``Canvas("…", images=[photo])`` shows it to the model.
* ``@app.fallback`` is the page for every URL that no route matches. ``Router`` collects pages in a module of their own.
* ``await app.generate("…", schema=Facts)`` returns a text or a value to a route, an action or a script. A route may
  catch ``OverBudget``. ``await app.write(paths)`` writes many pages.
* ``gettext_lazy`` marks a text of a validator for translation into the visitor's language.
* ``@app.allow_prompt`` decides about a ``PromptCheck`` before a page is generated.

An ``App`` is a Starlette app: ``middleware``, ``lifespan``, ``exception_handlers``, ``url_for``, ``Mount`` and sessions
work as in Starlette. ``unwritten.testing`` visits an app in a test, without a server or a model.
"""

from unwritten_engine import Example

from .app.application import App
from .app.router import Router
from .core.errors import (
    BadApp,
    BadForm,
    BadSetting,
    BadURL,
    Busy,
    Denied,
    OverBudget,
    PageFailed,
    StoreError,
    UnwrittenError,
)
from .core.localization import gettext_lazy, ngettext_lazy
from .formats.base import Format
from .formats.page import Canvas, Page
from .formats.uploads import ImageUpload, Upload
from .generation.hooks import PromptCheck
from .routing.prompts import read_examples
from .routing.visit import Visit
from .web.actions import Redraw

__all__ = [
    "App",
    "BadApp",
    "BadForm",
    "BadSetting",
    "BadURL",
    "Busy",
    "Canvas",
    "Denied",
    "Example",
    "Format",
    "ImageUpload",
    "OverBudget",
    "Page",
    "PageFailed",
    "PromptCheck",
    "Redraw",
    "Router",
    "StoreError",
    "UnwrittenError",
    "Upload",
    "Visit",
    "__version__",
    "gettext_lazy",
    "ngettext_lazy",
    "read_examples",
]
__version__ = "0.1.0"
