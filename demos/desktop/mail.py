"""Mail: letters arrive four at a time, and each is generated when it is opened. What you send is stored in a table."""

from typing import Annotated, Any

from pydantic import BaseModel, Field, model_validator
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from unwritten import Canvas, Page, Router

from .dates import Month, format_date, split_date
from .desk import app, examples, pick, window

router = Router()


class Letter(BaseModel):
    sender: str = Field(min_length=3, max_length=28)
    subject: str = Field(min_length=3, max_length=40)
    day: int = Field(ge=1, le=31)
    month: Month
    first_line: str = Field(min_length=10, max_length=80)

    @model_validator(mode="before")
    @classmethod
    def _read_old_date(cls, data: Any) -> Any:
        return split_date(data, "date")


class Box(BaseModel):
    """Four letters, as the mailbox lists them."""

    letters: list[Letter] = Field(min_length=4, max_length=4)


class Fetched(BaseModel):
    """One row for each box: new mail was checked for."""

    id: int | None = None


class Sent(BaseModel):
    """A letter of yours: an answer, or the first letter of a new thread."""

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
"""Who writes, and about what. Four of each are suggested for a box, so that boxes differ."""

fetched = router.table(Fetched, initial=[Fetched()])
sent = router.table(Sent, index=["thread"])
BOX, LETTER, ANSWER = (examples(name) for name in ("box", "letter", "answer"))
LetterText = Annotated[str, Field(min_length=2, max_length=1000)]


def ideas(number: int) -> str:
    """Return suggestions for the prompt of a box, the same for the same box."""
    pairs = zip(pick(WRITERS, 4, f"{number}"), pick(MATTERS, 4, f"about {number}"), strict=True)
    *three, last = (f"{who} about {what}" for who, what in pairs)
    return f"{', '.join(three)} and {last}"


def clean_subject(subject: str) -> str:
    """Return a subject as it appears in URLs and in the table."""
    return " ".join(subject.replace("_", " ").replace("/", "-").split()).strip(" .")


def find_letter(subject: str) -> Letter | None:
    """Return the letter with this subject, if one has arrived."""
    boxes = app.values(Box)
    return next(
        (letter for _, box in boxes for letter in box.letters if clean_subject(letter.subject) == subject), None
    )


def letter_key(subject: str | None) -> str | None:
    """Return the key of the letter with this subject, or None if there is no subject yet, or none that fits a URL."""
    return app.url_path_for("letter", subject=clean_subject(subject), default=None) if subject else None


@router.page("/mail")
def newest(request: Request) -> Response:
    return RedirectResponse(request.url_for("box", number=fetched.count()), 303)


@router.page("/mail/box/{number:int}")
def box(number: int) -> Page:
    threads = {row.thread: row for row in sent.select(order="-id", limit=60)}
    return window(
        "mailbox.html",
        "Mail",
        number=number,
        newest=fetched.count(),
        threads=list(threads.values()),
        letter_key=letter_key,
        format_date=format_date,
        box=Canvas(
            f"The mail of Ada Holm: {ideas(number)}.",
            schema=Box,
            canvases=3,
            examples=BOX,
            tokens=260,
        ),
    )


@router.action("/mail/look")
def check_mail() -> str:
    fetched.insert(Fetched())
    return app.url_path_for("box", number=fetched.count())


@router.page("/mail/letter/{subject}")
def letter(subject: str) -> Page:
    received = find_letter(subject)
    thread = sent.select(thread=subject)
    who = received.sender if received else thread[0].to if thread else "a stranger"
    canvases = {}
    if received or not thread:
        opening = received.first_line.rstrip(" .…") if received else ""
        canvases["letter"] = Canvas(
            f"The letter “{subject}” from {who} to Ada Holm.", "text", opening=opening, examples=LETTER, tokens=130
        )
    prompt = "{who} answers Ada Holm, who wrote about “{subject}”: {text}"
    return window(
        "letter.html",
        subject,
        who=who,
        date=format_date(received) if received else "",
        thread=thread,
        answers={
            row.id: Canvas(
                prompt.format(who=who, subject=subject, text=row.text[:300]), "text", examples=ANSWER, tokens=70
            )
            for row in thread
        },
        **canvases,
    )


@router.action("/mail/letter/{subject}/answer")
def answer(subject: str, text: LetterText) -> None:
    received = find_letter(subject)
    sent.insert(Sent(thread=subject, to=received.sender if received else "a stranger", text=text))


@router.page("/mail/new")
def compose() -> Page:
    return window("compose.html", "New letter")


@router.action("/mail/send")
def send(
    to: Annotated[str, Field(min_length=2, max_length=40)],
    subject: Annotated[str, Field(min_length=2, max_length=60, pattern=r"\w")],
    text: LetterText,
) -> str:
    thread = clean_subject(subject)
    sent.insert(Sent(thread=thread, to=to, text=text))
    return app.url_path_for("letter", subject=thread)
