"""The Mossbank Board: the message board of a small town that answers what you post.

    unwritten demo forum

Any name is a board, any title a thread, any name a person. All are generated when they are opened, and stored. Posts of
visitors are stored in tables, and the town answers them. Code decides who speaks when: conversation.py and people.py.
"""

from functools import partial
from typing import Any, Literal

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from unwritten import App, Canvas, Format, Page, Visit

from . import conversation as talk
from .listing import Row, board_name, capitalize_first, initial_score, split_title, starter_format, threads_among
from .people import TOWN, Person, find_person, format_name, regulars, seeded_random
from .profiles import Card, canvas_of, card_of, introduction
from .tree import build_nodes, build_tree
from .visitors import NewReply, NewTopic, Visitors

app = App(
    "The Mossbank Board",
    world="This is the message board of Mossbank, a small wet town where everybody has a hobby and nobody is surprised."
    " People write short plain posts and answer each other kindly.",
    folder=__file__,
    memory_tokens=0,  # conversation.py puts what a post must know into its prompt
)
visitors = Visitors(app)

Sort = Literal["old", "new", "top"]


@app.page("/")
def front() -> Page:
    boards = [(name, line, app.url_path_for("board", board=name)) for name, (line, _) in talk.BOARDS.items()]
    recent = threads_among(entry.key for entry in app.store.recent(40))[:6]
    return Page("front.html", boards=boards, posted=visitor_threads()[:5], recent=recent, town=TOWN)


@app.page("/b/{board}", canonical=capitalize_first)
def board(board: str, request: Request, sort: Literal["new", "top", "talk"] = "new") -> Page | Response:
    name, starters = board_name(board), talk.starters(board)
    if board != name:
        return RedirectResponse(request.url_for("board", board=name), 303)
    key = app.url_path_for("board", board=board)
    stored = app.store.get(key)
    rows = [Row(post.author.name, seat=seat) for seat, post in enumerate(starters)]
    for row, post in zip(rows, starters if stored else [], strict=False):
        row.title, row.teaser = split_title(stored.canvases[f"starters-{row.seat}"].text if stored else "")
        row.key = thread_key(board, post.author, row.title)
        row.posts = 6 + visitors.replies.count(thread=row.key)
        row.score = initial_score(row.key) + visitors.votes.count(thread=row.key, post="op")
    rows = visitor_threads(board) + rows
    values: dict[str, Any] = {"title": board, "line": talk.BOARDS.get(board, ("",))[0], "sort": sort, "base": key}
    if sort != "new":  # another order of what is there, without canvases
        rows.sort(key=lambda row: -row.score if sort == "top" else -row.posts)
        if not stored:
            return RedirectResponse(request.url_for("board", board=board), 303)
        return Page("board.html", rows=rows, **values)
    canvases = {
        seat: post_canvas(post, starter_format(seat, partial(thread_key, board, post.author)))
        for seat, post in enumerate(starters)
    }
    return Page("board.html", rows=rows, starters=canvases, **values)


@app.page("/b/{board}/{author}/{title}", canonical=capitalize_first)
def thread(board: str, author: str, title: str, request: Request, sort: Sort = "old") -> Page | Response:
    opener, name = find_person(author), board_name(board)
    if (name, opener.name) != (board, author):
        return RedirectResponse(request.url_for("thread", board=name, author=opener.name, title=title), 303)
    key = thread_key(board, opener, title)
    stored = app.store.get(app.url_path_for("board", board=board))
    teasers = dict(split_title(canvas.text) for canvas in stored.canvases.values()) if stored else {}
    values: dict[str, Any] = {
        "title": title,
        "board": board,
        "opener": opener,
        "score": initial_score(key),
        "op": post_canvas(talk.opening_post(opener, title, teasers.get(title, ""))),
        "picture_of": title if seeded_random("picture", key).random() < 0.6 else "",
    }
    if values["picture_of"] and app.supports("svg") and sort == "old":
        values["art"] = Canvas(f"A simple line drawing: {title}.", "svg")
    return conversation(request, key, sort, talk.comments(board, opener, title), values)


@app.page("/n/{number:int}")
def topic(number: int, request: Request, sort: Sort = "old") -> Page | Response:
    found = visitors.topics.get(number)
    if found is None:
        raise HTTPException(404, f"There is no post with the number {number} on this board.")
    values = {**found.model_dump(exclude={"id"}), "name": visitors.name(found.guest), "score": 0}
    values["picture_of"] = found.title if found.pictured else ""
    key = app.url_path_for("topic", number=number)
    return conversation(request, key, sort, talk.first_answers(found), values)


def conversation(
    request: Request, key: str, sort: Sort, posts: list[talk.Post], values: dict[str, Any]
) -> Page | Response:
    """Return the page of a thread.

    Args:
        request: The request.
        key: The thread's key.
        sort: The order of the posts.
        posts: The posts that the model writes, without answers to visitors.
        values: The template's other values.
    """
    opener, replies, votes = values.get("opener"), visitors.in_thread(key), visitors.count_votes(key)
    canvases = {post.id: post_canvas(post) for post in posts}
    for reply in replies:
        to = next((post.author for post in posts if post.id == reply.parent), None)
        for post in talk.answers(values["board"], values["title"], reply, to, opener):
            posts.append(post)
            canvases[post.id] = post_canvas(post)
    nodes = build_nodes(posts, replies, visitors.names(replies))
    values["score"] += votes["op"]
    if sort != "old":  # another order of what is there, without canvases
        stored = app.store.get(key)
        if not stored or any(f"posts-{id}" not in stored.canvases for id in canvases):
            return RedirectResponse(request.url.remove_query_params("sort"), 303)
        for node in nodes:
            node.text = node.text or stored.canvases[f"posts-{node.id}"].text
        if values.pop("op", None):
            values["text"] = stored.canvases["op"].text
        canvases = {}
    values |= {"tree": build_tree(nodes, votes, sort), "flat": nodes, "sort": sort, "base": key}
    return Page("thread.html", posts=canvases, **values)


@app.page("/b/{board}/{title}", canonical=capitalize_first)
def any_thread(board: str, title: str, request: Request) -> Response:
    board = board_name(board)
    author = seeded_random("any", board, title).choice(regulars(board))
    return RedirectResponse(request.url_for("thread", board=board, author=author.name, title=title), 303)


@app.page("/b/{path:path}")
def no_board(path: str) -> Response:
    raise HTTPException(404, f"There is no board “{board_name(path)}”.")


@app.page("/go")
def go(board: str, request: Request) -> Response:
    return RedirectResponse(request.url_for("board", board=board_name(board)), 303)


@app.page("/u/{name}", canonical=format_name)
def user(name: str) -> Page:
    who = find_person(name)
    recent = threads_among(entry.key for entry in app.store.recent(300))
    return Page(
        "person.html",
        title=who.name,
        person=who,
        card=card_of(who),
        about=introduction(who),
        wrote=[thread for thread in recent if talk.takes_part(who, thread)][:20],
        boards=[name for name in talk.BOARDS if who in regulars(name)],
    )


@app.page("/guest/{number:int}")
def guest(number: int) -> Page:
    if visitors.guests.get(number) is None:
        raise HTTPException(404, f"There is no visitor with the number {number} on this board.")
    replies = visitors.replies.select(guest=number, order="-id", limit=50)
    return Page("guest.html", title=visitors.name(number), topics=visitors.topics.select(guest=number), replies=replies)


@app.page("/you", prefetch=False)
def you(visit: Visit) -> Response:
    """Return what only this visitor may see: their name, and their votes in the thread that they are reading."""
    found = visitors.guests.select(visitor=visit.visitor, limit=1) if visit.visitor else []
    thread = (visit.came_from or "").partition("?")[0]
    votes = visitors.votes.select(visitor=visit.visitor, thread=thread) if visit.visitor else []
    values = {"name": found[0].name if found else "", "votes": [vote.post for vote in votes]}
    return JSONResponse(values, headers={"cache-control": "no-store"})


@app.action("/b/{board}/post")
def post(board: str, new: NewTopic, visit: Visit) -> str:
    number = visitors.add_topic(board_name(board), new, visit.visitor)
    return app.url_path_for("topic", number=number)


@app.action("/reply")
def reply(new: NewReply, visit: Visit) -> str:
    thread = visit.key.partition("?")[0]
    visitors.add_reply(thread, new, visit.visitor)
    return thread


@app.action("/vote/{post}")
def vote(post: str, visit: Visit) -> None:
    visitors.toggle_vote(visit.key.partition("?")[0], post, visit.visitor)


def post_canvas(post: talk.Post, format: str | Format = "text") -> Canvas:
    """Return the canvas of a post. Its prompt quotes the author's profile, if that has been generated."""
    return canvas_of(post, app.value(app.url_path_for("user", name=post.author.name), "card", Card), format)


def thread_key(board: str, author: Person, title: str) -> str:
    """Return the key of a thread of the town, or of its board if no page can have the title."""
    key = app.url_path_for("thread", board=board, author=author.name, title=title, default=None)
    return key or app.url_path_for("board", board=board)


def visitor_threads(board: str = "") -> list[Row]:
    """Return the threads that visitors began, newest first, on one board or on all."""
    return [visitors.row(topic, app.url_path_for("topic", number=topic.id)) for topic in visitors.newest(board)]
