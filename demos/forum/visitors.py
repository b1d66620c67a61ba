"""Visitors: the tables of what they leave behind, and the forms that it comes from."""

import re
import unicodedata
from collections import Counter
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from unwritten import App
from unwritten.core.errors import BadAddress

from .listing import Row
from .people import TOWN, spelling


class Guest(BaseModel):
    """A browser that has written something, and the name that it goes by."""

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
    """What a visitor wrote in a thread. ``parent`` is the post that it answers: c2, r7, or "" for the first one."""

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


def visible(text: str) -> str:
    """Text without what cannot be seen or turns the text around it: controls, bidi marks, zero-width characters."""
    kept = (c for c in unicodedata.normalize("NFC", text) if c == "\n" or unicodedata.category(c)[0] != "C")
    return "".join(kept).strip()


def on_one_line(text: str) -> str:
    return " ".join(visible(text).split())


def free(name: str) -> str:
    if spelling(name) in {one.name for one in TOWN}:
        raise ValueError("Somebody of this name lives here already. Choose another, please.")
    return name


Name = Annotated[str, Field(max_length=30), BeforeValidator(on_one_line), AfterValidator(free)]
Title = Annotated[str, Field(min_length=4, max_length=90), BeforeValidator(on_one_line)]
Text = Annotated[str, Field(min_length=2, max_length=3000), BeforeValidator(visible)]


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
    """What visitors have written, in four tables of an app."""

    def __init__(self, app: App) -> None:
        self.guests = app.table(Guest, index=["visitor"])
        self.topics = app.table(Topic, index=["board"])
        self.replies = app.table(Reply, index=["thread", "guest"])
        self.votes = app.table(Vote, index=["thread", "visitor"])

    def guest(self, visitor: str, name: str) -> int:
        """The number of a visitor, who may give a name, or a new one."""
        found = self.guests.select(visitor=visitor, limit=1)
        if not found:
            found = [self.guests.insert(Guest(visitor=visitor, name=name or "A visitor"))]
        elif name and name != found[0].name:
            self.guests.update(found[0].id or 0, name=name)
        return found[0].id or 0

    def name(self, number: int) -> str:
        """What a visitor is called."""
        found = self.guests.get(number)
        return found.name if found else "A visitor"

    def names(self, replies: list[Reply]) -> dict[int, str]:
        """What those are called who wrote these replies, by their number."""
        return {number: self.name(number) for number in {reply.guest for reply in replies}}

    def newest(self, board: str = "") -> list[Topic]:
        """The threads that visitors have begun, on one board or on all."""
        only: dict[str, Any] = {"board": board} if board else {}
        return self.topics.select(order="-id", limit=100, **only)

    def in_thread(self, thread: str) -> list[Reply]:
        """What visitors wrote in a thread."""
        return self.replies.select(thread=thread, limit=300)

    def counts(self, thread: str) -> Counter[str]:
        """The votes on each post of a thread."""
        return Counter(vote.post for vote in self.votes.select(thread=thread))

    def vote(self, thread: str, post: str, visitor: str) -> None:
        """Vote for a post; for the second time, take the vote back.

        Raises:
            BadAddress: if there cannot be such a post.
        """
        if not re.fullmatch(r"op|[cra]\d{1,9}(-\d)?", post):
            raise BadAddress(f"There is no post {post[:20]!r} to vote for.", 404)
        found = self.votes.select(thread=thread, post=post, visitor=visitor)
        if found:
            self.votes.delete(found[0].id or 0)
        else:
            self.votes.insert(Vote(thread=thread, post=post, visitor=visitor))

    def topic(self, board: str, new: NewTopic, visitor: str) -> int:
        """Begin a thread, and return its number. The same one is begun once, however often it is sent."""
        guest = self.guest(visitor, new.name)
        same: dict[str, Any] = {"board": board, "title": new.title, "text": new.text, "guest": guest}
        found = self.topics.select(limit=1, **same) or [self.topics.insert(Topic(**same, pictured=new.pictured))]
        return found[0].id or 0

    def reply(self, thread: str, new: NewReply, visitor: str) -> None:
        """Add a reply, unless this visitor has just said the very same to the same post."""
        same: dict[str, Any] = {
            "thread": thread,
            "parent": new.parent,
            "text": new.text,
            "guest": self.guest(visitor, new.name),
        }
        if not self.replies.count(**same):
            self.replies.insert(Reply(**same))

    def row(self, topic: Topic, key: str) -> Row:
        """A thread of a visitor on its board."""
        votes, said = self.votes.count(thread=key, post="op"), self.replies.count(thread=key)
        teaser = " ".join(topic.text.split())[:140]
        return Row(self.name(topic.guest), topic.guest, -1, key, topic.title, teaser, 4 + said, votes)
