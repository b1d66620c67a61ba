"""The posts of a thread as a tree, whoever wrote them, in the order that a reader wants."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .conversation import Post
from .visitors import Reply


@dataclass
class Node:
    """One post.

    Attributes:
        id: ``c2`` is the third that the model wrote, ``r7`` a visitor's reply, ``a7-1`` the model's answer to it.
        guest: the number of the visitor who wrote it; 0 for the people of the town.
        text: its words; None where a canvas draws them.
        to: who is answered.
        at: its place in the order of writing.
    """

    id: str
    name: str
    parent: str
    score: int = 0
    manner: str = "plain"
    guest: int = 0
    text: str | None = None
    to: str = ""
    at: tuple[int, int] = (0, 0)
    replies: list["Node"] = field(default_factory=list)


def nodes(posts: Sequence[Post], replies: Iterable[Reply], names: Mapping[int, str]) -> list[Node]:
    """What the model writes and what visitors wrote, in the order of writing."""
    found = [
        Node(post.id, post.author.name, post.parent, post.score, post.author.manner, at=post.at)
        for post in posts
    ]  # fmt: skip
    for reply in replies:
        number = reply.id or 0
        name, at = names[reply.guest], (number, 0)
        found.append(Node(f"r{number}", name, reply.parent, guest=reply.guest, text=reply.text, at=at))
    return sorted(found, key=lambda node: node.at)


def grown(listed: Sequence[Node], votes: Mapping[str, int], sort: str) -> list[Node]:
    """The nodes as a tree, each level sorted. The sort is stable: equal scores keep the order of writing."""
    by_id = {node.id: node for node in listed}
    roots: list[Node] = []
    for node in listed:
        node.score += votes.get(node.id, 0)
        above = by_id.get(node.parent)
        node.to = above.name if above else ""
        (above.replies if above else roots).append(node)
    orders: dict[str, Callable[[Node], tuple[int, ...]]] = {
        "old": lambda node: node.at,
        "new": lambda node: (-node.at[0], -node.at[1]),
        "top": lambda node: (-node.score, *node.at),
    }
    for level in (roots, *(node.replies for node in listed)):
        level.sort(key=orders[sort])
    return roots
