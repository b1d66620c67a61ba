"""The Mossbank Board: a small town writes to itself, and answers whoever writes to it.

    unwritten demo forum

Any name is a board, any title a thread, any name a person; all are written when they are opened, and kept. What
visitors post is state, and the town answers it. Who speaks when is structure: conversation.py and people.py.
"""

from functools import partial
from typing import Any, Literal

from starlette.responses import JSONResponse, RedirectResponse, Response

from unwritten import App, Canvas, Page, Visit
from unwritten.core.errors import BadAddress
from unwritten.formats.base import Format

from . import conversation as talk
from .listing import Row, board_name, capital, first_score, first_sentence, starter_format, threads
from .people import TOWN, Person, person, regulars, seeded, spelling
from .profiles import Card, canvas_of, card_of, introduction
from .tree import grown, nodes
from .visitors import NewReply, NewTopic, Visitors

app = App(
    "The Mossbank Board",
    world="This is the message board of Mossbank, a small wet town where everybody has a hobby and nobody is surprised."
    " People write short plain posts and answer each other kindly.",
    folder=__file__,
    form_size=256 * 1024,
    memory_tokens=0,  # what a post must know is put into its prompt by conversation.py
)
left = Visitors(app)
"""What visitors have left on the board."""

Sort = Literal["old", "new", "top"]


@app.page("/")
def front() -> Page:
    boards = [(name, line, app.url_path_for("board", board=name)) for name, (line, _) in talk.BOARDS.items()]
    recent = threads(entry.key for entry in app.store.recent(40))[:6]
    return Page("front.html", boards=boards, posted=posted()[:5], recent=recent, town=TOWN)


@app.page("/b/{board}", canonical=capital)
def board(board: str, sort: Literal["new", "top", "talk"] = "new") -> Page | Response:
    key, starters = app.url_path_for("board", board=board_name(board)), talk.starters(board)
    if board != board_name(board):
        return RedirectResponse(key, 303)
    kept = app.store.get(key)
    rows = [Row(post.author.name, seat=seat) for seat, post in enumerate(starters)]
    for row, post in zip(rows, starters if kept else [], strict=False):
        row.title, row.teaser = first_sentence(kept.canvases[f"starters-{row.seat}"].text if kept else "")
        row.key = thread_key(board, post.author, row.title)
        row.posts = 6 + left.replies.count(thread=row.key)
        row.score = first_score(row.key) + left.votes.count(thread=row.key, post="op")
    rows = posted(board) + rows
    known: dict[str, Any] = {"title": board, "line": talk.BOARDS.get(board, ("",))[0], "sort": sort, "base": key}
    if sort != "new":  # another order of what is there: nothing is written on such a page
        rows.sort(key=lambda row: -row.score if sort == "top" else -row.posts)
        return Page("board.html", rows=rows, **known) if kept else RedirectResponse(key, 303)
    canvases = {}
    for seat, post in enumerate(starters):
        drawn = starter_format(seat, partial(thread_key, board, post.author))
        canvases[seat] = written(post, drawn)
    return Page("board.html", rows=rows, starters=canvases, **known)


@app.page("/b/{board}/{author}/{title}", canonical=capital)
def thread(board: str, author: str, title: str, sort: Sort = "old") -> Page | Response:
    opener, key = person(author), thread_key(board_name(board), person(author), title)
    if (board_name(board), opener.name) != (board, author):
        return RedirectResponse(key, 303)
    kept = app.store.get(app.url_path_for("board", board=board))
    teasers = dict(first_sentence(canvas.text) for canvas in kept.canvases.values()) if kept else {}
    first = written(talk.opening_post(opener, title, teasers.get(title, "")))
    told = {"title": title, "board": board, "opener": opener, "score": first_score(key), "op": first}
    told["picture_of"] = title if seeded("picture", key).random() < 0.6 else ""
    if told["picture_of"] and app.supports("svg") and sort == "old":
        told["art"] = Canvas(f"A simple line drawing: {title}.", "svg")
    return conversation(key, sort, talk.comments(board, opener, title), told)


@app.page("/n/{number:int}")
def topic(number: int, sort: Sort = "old") -> Page | Response:
    found = left.topics.get(number)
    if found is None:
        raise BadAddress(f"There is no post with the number {number} on this board.", 404)
    told = {**found.model_dump(exclude={"id"}), "name": left.name(found.guest), "score": 0}
    told["picture_of"] = found.title if found.pictured else ""
    return conversation(app.url_path_for("topic", number=number), sort, talk.first_answers(found), told)


def conversation(key: str, sort: Sort, posts: list[talk.Post], told: dict[str, Any]) -> Page | Response:
    """The page of a thread: a tree of posts, whoever wrote them, and the canvases of those that the model writes."""
    opener, said, counts = told.get("opener"), left.in_thread(key), left.counts(key)
    canvases = {post.id: written(post) for post in posts}
    for reply in said:
        to = next((post.author for post in posts if post.id == reply.parent), None)
        for post in talk.answers(told["board"], told["title"], reply, to, opener):
            posts.append(post)
            canvases[post.id] = written(post)
    listed = nodes(posts, said, left.names(said))
    told["score"] += counts["op"]
    if sort != "old":  # another order of what is there: nothing is written on such a page
        kept = app.store.get(key)
        if not kept or any(f"posts-{id}" not in kept.canvases for id in canvases):
            return RedirectResponse(key, 303)
        for node in listed:
            node.text = node.text or kept.canvases[f"posts-{node.id}"].text
        if told.pop("op", None):
            told["text"] = kept.canvases["op"].text
        canvases = {}
    told |= {"tree": grown(listed, counts, sort), "flat": listed, "sort": sort, "base": key}
    return Page("thread.html", posts=canvases, **told)


@app.page("/b/{board}/{title}", canonical=capital)
def any_thread(board: str, title: str) -> Response:
    board = board_name(board)
    return RedirectResponse(thread_key(board, seeded("any", board, title).choice(regulars(board)), title), 303)


@app.page("/b/{path:path}")
def no_board(path: str) -> Response:
    raise BadAddress(f"There is no board at “{board_name(path)}”.", 404)


@app.page("/go")
def go(board: str) -> Response:
    return RedirectResponse(app.url_path_for("board", board=board_name(board)), 303)


@app.page("/u/{name}", canonical=spelling)
def user(name: str) -> Page:
    who = person(name)
    wrote = [found for found in threads(entry.key for entry in app.store.recent(300)) if talk.takes_part(who, found)]
    return Page(
        "person.html",
        title=who.name,
        person=who,
        card=card_of(who),
        about=introduction(who),
        wrote=wrote[:20],
        boards=[name for name in talk.BOARDS if who in regulars(name)],
    )


@app.page("/guest/{number:int}")
def guest(number: int) -> Page:
    if left.guests.get(number) is None:
        raise BadAddress(f"There is no visitor with the number {number} on this board.", 404)
    mine = left.replies.select(guest=number, order="-id", limit=50)
    return Page("guest.html", title=left.name(number), topics=left.topics.select(guest=number), said=mine)


@app.page("/you", prefetch=False)
def you(visit: Visit) -> Response:
    """What only the one who asks is told: their name, and what they have voted for on the page that asks."""
    found = left.guests.select(visitor=visit.visitor, limit=1) if visit.visitor else []
    thread = (visit.came_from or "").partition("?")[0]
    mine = left.votes.select(visitor=visit.visitor, thread=thread) if visit.visitor else []
    told = {"name": found[0].name if found else "", "votes": [vote.post for vote in mine]}
    return JSONResponse(told, headers={"cache-control": "no-store"})


@app.action("/b/{board}/post")
def post(board: str, new: NewTopic, visit: Visit) -> str:
    number = left.topic(board_name(board), new, visit.visitor)
    return app.url_path_for("topic", number=number)


@app.action("/reply")
def reply(new: NewReply, visit: Visit) -> str:
    thread = visit.key.partition("?")[0]
    left.reply(thread, new, visit.visitor)
    return thread


@app.action("/vote/{post}")
def vote(post: str, visit: Visit) -> None:
    left.vote(visit.key.partition("?")[0], post, visit.visitor)


# -- small change -------------------------------------------------------------------------------------------


def written(post: talk.Post, format: str | Format = "text") -> Canvas:
    return canvas_of(post, app.value(app.url_path_for("user", name=post.author.name), "card", Card), format)


def thread_key(board: str, author: Person, title: str) -> str:
    return app.url_path_for("thread", board=board, author=author.name, title=title)


def posted(board: str = "") -> list[Row]:
    """The threads that visitors have begun, the newest first."""
    return [left.row(topic, app.url_path_for("topic", number=topic.id)) for topic in left.newest(board)]
