"""Unwritten: a web framework for pages that do not exist until someone clicks them.

    from unwritten import App

    app = App("Fake Wiki")

    @app.page("/wiki/{title}")
    def article(title: str) -> str:
        return f"An encyclopedia article about {title}."

``unwritten run wiki.py`` serves it. The next steps are one more line each:

* return ``Page("article.html", lead=Canvas("…"), body=Canvas("…"))`` for a page of several regions; in the
  template each canvas is an ordinary block: ``{% block lead %}{{ lead }}{% endblock %}``;
* ``Canvas("…", shape=Facts)`` holds a region to a pydantic model, whose fields the template sees while they come;
* ``Canvas("…", format="svg")`` is a drawing, ``format="app"`` a program in a box; ``unwritten.formats.Format`` makes
  one of your own;
* ``Canvas("…", examples=[Example("ask", "answer")])`` shows the model how it is done;
  ``unwritten.routing.prompts.read_examples("lead.txt")`` reads many from a file;
* take ``visit: Visit`` to know where the click came from;
* ``app.table(Post)`` keeps state in SQLite beside the pages, and ``@app.action("/post")`` handles a form;
* ``@app.fallback`` is the page for every URL that no route claims.
"""

from unwritten_engine import Example

from .app.application import App
from .formats.page import Canvas, Page
from .routing.visit import Visit
from .web.actions import Redraw

__all__ = ["App", "Canvas", "Example", "Page", "Redraw", "Visit", "__version__"]
__version__ = "0.1.0"
