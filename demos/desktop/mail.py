"""Mail: letters come in boxes of four; one is written when it is read. What is answered or sent is state."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page

from .dates import Month, divided, shown
from .desk import app, examples, some, window


class Letter(BaseModel):
    sender: str = Field(min_length=3, max_length=28)
    subject: str = Field(min_length=3, max_length=40)
    day: int = Field(ge=1, le=31)
    month: Month
    first_line: str = Field(min_length=10, max_length=80)

    @model_validator(mode="before")
    @classmethod
    def _earlier(cls, data: Any) -> Any:
        return divided(data, "date")


class Box(BaseModel):
    letters: list[Letter] = Field(min_length=4, max_length=4)


class Fetched(BaseModel):
    """New mail was looked for: one more box."""

    id: int | None = None


class Sent(BaseModel):
    """What was written here: an answer to a letter, or the first letter of a thread of its own."""

    id: int | None = None
    thread: str
    to: str
    text: str


WRITERS = (
    "a beekeeper, the harbour board, a cousin in the hills, a clockmaker, the captain of the ferry, the baker, "
    "the weather station, the town library, an old teacher, a neighbour, the museum of knots, a painter, the bank, "
    "a lighthouse keeper, the choir, a stranger"
)
MATTERS = (
    "a bill, a key, the weather, a birthday, a broken pump, the last boat, honey, a visit, an old photograph, a cat, "
    "the tide, a parcel, a clock that stopped, a loan, a concert, a gate that does not shut, a recipe, lost gloves"
)
"""Who writes, and about what: four of them in each box, so that no two boxes are alike."""

fetched = app.table(Fetched, first=[Fetched()])
sent = app.table(Sent, index=["thread"])
BOX, LETTER, ANSWER = (examples(name) for name in ("box", "letter", "answer"))
Words = Annotated[str, Field(min_length=2, max_length=1000)]


def ideas(number: int) -> str:
    """Who has written the letters of a box: always the same for the same box."""
    pairs = zip(some(WRITERS, 4, f"{number}"), some(MATTERS, 4, f"about {number}"), strict=True)
    *three, last = (f"{who} about {what}" for who, what in pairs)
    return f"{', '.join(three)} and {last}"


def same(subject: str) -> str:
    """A subject as it stands in an address."""
    return " ".join(subject.replace("_", " ").replace("/", "-").split()).strip(" .")


def known(subject: str) -> Letter | None:
    """The letter with this subject, if one has come."""
    boxes = app.values(Box)
    return next((mail for _, box in boxes for mail in box.letters if same(mail.subject) == subject), None)


def mail_key(subject: str | None) -> str | None:
    return app.url_path_for("letter", subject=same(subject)) if subject and same(subject) else None


@app.page("/mail")
def newest() -> Response:
    return RedirectResponse(app.url_path_for("box", number=fetched.count()), 303)


@app.page("/mail/box/{number:int}")
def box(number: int) -> Page:
    threads = {row.thread: row for row in sent.select(order="-id", limit=60)}
    return window(
        "mailbox.html",
        "Mail",
        number=number,
        newest=fetched.count(),
        threads=list(threads.values()),
        address=mail_key,
        date=shown,
        box=Canvas(
            f"The mail of Ada Holm: {ideas(number)}.",
            schema=Box,
            canvases=3,
            examples=BOX,
            tokens=260,
        ),
    )


@app.action("/mail/look")
def look_for_mail() -> str:
    fetched.insert(Fetched())
    return app.url_path_for("box", number=fetched.count())


@app.page("/mail/letter/{subject}")
def letter(subject: str) -> Page:
    came = known(subject)
    thread = sent.select(thread=subject)
    who = came.sender if came else thread[0].to if thread else "a stranger"
    parts = {}
    if came or not thread:
        begun = came.first_line.rstrip(" .…") if came else ""
        parts["letter"] = Canvas(
            f"The letter “{subject}” from {who} to Ada Holm.", "text", opening=begun, examples=LETTER, tokens=130
        )
    asked = "{who} answers Ada Holm, who wrote about “{subject}”: {text}"
    return window(
        "letter.html",
        subject,
        who=who,
        date=shown(came) if came else "",
        thread=thread,
        answers={
            row.id: Canvas(
                asked.format(who=who, subject=subject, text=row.text[:300]), "text", examples=ANSWER, tokens=70
            )
            for row in thread
        },
        **parts,
    )


@app.action("/mail/letter/{subject}/answer")
def answer(subject: str, text: Words) -> None:
    came = known(subject)
    sent.insert(Sent(thread=subject, to=came.sender if came else "a stranger", text=text))


@app.page("/mail/new")
def compose() -> Page:
    return window("compose.html", "A new letter")


@app.action("/mail/send")
def send(
    to: Annotated[str, Field(min_length=2, max_length=40)],
    subject: Annotated[str, Field(min_length=2, max_length=60, pattern=r"\w")],
    text: Words,
) -> str:
    sent.insert(Sent(thread=same(subject), to=to, text=text))
    return app.url_path_for("letter", subject=same(subject))
