"""$title: every page is generated when someone clicks on it.

    unwritten run app.py

A page function returns what a page needs. The model writes each canvas, and the template's block of that name shows it.
"""

from pydantic import BaseModel, Field
from starlette.responses import Response
from unwritten import App, Canvas, Example, Page

app = App(
    "$title",
    world="$title is a small, friendly guide to everyday things and where they come from.",
    folder=__file__,  # templates/ and static/ are beside this file
    links="/about/{subject}",  # where [[a link]] leads
)


class Facts(BaseModel):
    """Facts about a subject. The model must follow this schema; the template sees its fields."""

    kind: str = Field(max_length=40)
    found_in: str = Field(max_length=60)


EXAMPLE = Example("Facts about the umbrella.", '{"kind":"household object","found_in":"halls, trains and cafés"}')


@app.page("/")
def front() -> Response:
    """The front page, without generated text."""
    return app.render("front.html", subjects=["Tea", "The umbrella", "Paper"], recent=app.store.recent(8))


@app.page("/about/{subject}")
def about(subject: str) -> Page:
    """A page about any subject: two canvases that are generated at the same time."""
    return Page(
        "about.html",
        title=subject,
        text=Canvas(f"An encyclopedia article about {subject}.", tokens=200),
        facts=Canvas(f"Facts about {subject}.", schema=Facts, examples=[EXAMPLE], tokens=80),
    )
