"""Visitors: the tables that store what they write, and the models of their forms."""

import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from starlette.exceptions import HTTPException

from unwritten import App

from .listing import Row
from .people import TOWN, format_name


class Guest(BaseModel):
    """A browser from which something was posted, and the name that the visitor chose."""

    id: int | None = None
    visitor: str
    name: str


class Topic(BaseModel):
    """A thread that a visitor began."""

    id: int | None = None
    board: str
    title: str
    text: str
    guest: int
    pictured: bool = False


class Reply(BaseModel):
    """A visitor's reply. ``parent`` is the id of the post that it answers: c2, r7, or "" for the first post."""

    id: int | None = None
    thread: str
    parent: str
    text: str
    guest: int


class Vote(BaseModel):
    id: int | None = None
    thread: str
    post: str
    visitor: str


def clean_text(text: str) -> str:
    """Return a text without invisible characters: controls, bidi marks, zero-width characters."""
    kept = (c for c in unicodedata.normalize("NFC", text) if c == "\n" or unicodedata.category(c)[0] != "C")
    return "".join(kept).strip()


def clean_line(text: str) -> str:
    """Return a text on one line, without invisible characters."""
    return " ".join(clean_text(text).split())


def check_name(name: str) -> str:
    """Return a name, unless someone in the town has it."""
    if format_name(name) in {one.name for one in TOWN}:
        raise ValueError("This name is taken. Please choose another one.")
    return name


Name = Annotated[str, Field(max_length=30), BeforeValidator(clean_line), AfterValidator(check_name)]
Title = Annotated[str, Field(min_length=4, max_length=90), BeforeValidator(clean_line)]
Text = Annotated[str, Field(min_length=2, max_length=3000), BeforeValidator(clean_text)]


class NewTopic(BaseModel):
    title: Title
    text: Text
    name: Name = ""
    pictured: bool = False


class NewReply(BaseModel):
    text: Text
    parent: Annotated[str, Field(pattern=r"^([cra]\d+(-\d)?)?$")] = ""
    name: Name = ""


class Visitors:
    """The threads, replies and votes of visitors, in four tables."""

    def __init__(self, app: App) -> None:
        self.guests = app.table(Guest, index=["visitor"])
        self.topics = app.table(Topic, index=["board"])
        self.replies = app.table(Reply, index=["thread", "guest"])
        self.votes = app.table(Vote, index=["thread", "visitor"])

    def guest(self, visitor: str, name: str) -> int:
        """Return the number of a visitor, and store the name if one is given."""
        found = self.guests.select(visitor=visitor, limit=1)
        if not found:
            found = [self.guests.insert(Guest(visitor=visitor, name=name or "A visitor"))]
        elif name and name != found[0].name:
            self.guests.update(found[0].id or 0, name=name)
        return found[0].id or 0

    def name(self, number: int) -> str:
        """Return the name of a visitor."""
        found = self.guests.get(number)
        return found.name if found else "A visitor"

    def names(self, replies: list[Reply]) -> dict[int, str]:
        """Return the names of the authors of these replies, by number."""
        return {number: self.name(number) for number in {reply.guest for reply in replies}}

    def newest(self, board: str = "") -> list[Topic]:
        """Return the threads that visitors began, newest first, on one board or on all."""
        only: dict[str, Any] = {"board": board} if board else {}
        return self.topics.select(order="-id", limit=100, **only)

    def in_thread(self, thread: str) -> list[Reply]:
        """Return the replies in a thread."""
        return self.replies.select(thread=thread, limit=300)

    def count_votes(self, thread: str) -> Counter[str]:
        """Return the number of votes on each post of a thread."""
        return Counter(vote.post for vote in self.votes.select(thread=thread))

    def toggle_vote(self, thread: str, post: str, visitor: str) -> None:
        """Vote for a post, or take the vote back.

        Raises:
            HTTPException: 404 if there can be no such post.
        """
        if not re.fullmatch(r"op|[cra]\d{1,9}(-\d)?", post):
            raise HTTPException(404, f"There is no post {post[:20]!r} to vote for.")
        found = self.votes.select(thread=thread, post=post, visitor=visitor)
        if found:
            self.votes.delete(found[0].id or 0)
        else:
            self.votes.insert(Vote(thread=thread, post=post, visitor=visitor))

    def add_topic(self, board: str, new: NewTopic, visitor: str) -> int:
        """Store a new thread and return its number. The same thread is stored once, however often it is sent."""
        guest = self.guest(visitor, new.name)
        same: dict[str, Any] = {"board": board, "title": new.title, "text": new.text, "guest": guest}
        found = self.topics.select(limit=1, **same) or [self.topics.insert(Topic(**same, pictured=new.pictured))]
        return found[0].id or 0

    def add_reply(self, thread: str, new: NewReply, visitor: str) -> None:
        """Store a reply, unless this visitor has sent the same text to the same post before."""
        same: dict[str, Any] = {
            "thread": thread,
            "parent": new.parent,
            "text": new.text,
            "guest": self.guest(visitor, new.name),
        }
        if not self.replies.count(**same):
            self.replies.insert(Reply(**same))

    def row(self, topic: Topic, key: str) -> Row:
        """Return the row of a visitor's thread on its board."""
        votes, said = self.votes.count(thread=key, post="op"), self.replies.count(thread=key)
        teaser = " ".join(topic.text.split())[:140]
        return Row(self.name(topic.guest), topic.guest, -1, key, topic.title, teaser, 4 + said, votes)
