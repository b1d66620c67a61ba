"""The posts of a thread as a tree, of the town and of visitors, in the order that the reader chose."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from .conversation import Post
from .visitors import Reply


@dataclass
class Node:
    """One post.

    Attributes:
        id: ``c2`` is the model's third post, ``r7`` a visitor's reply, ``a7-1`` the model's second answer to it.
        guest: The number of the visitor who wrote it; 0 for people of the town.
        text: The text; None if a canvas renders it.
        to: The name of the person it answers.
        at: Its position in the order of writing.
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


def build_nodes(posts: Sequence[Post], replies: Iterable[Reply], names: Mapping[int, str]) -> list[Node]:
    """Return the posts of the model and of visitors, in the order of writing."""
    found = [
        Node(post.id, post.author.name, post.parent, post.score, post.author.manner, at=post.at)
        for post in posts
    ]  # fmt: skip
    for reply in replies:
        number = reply.id or 0
        name, at = names[reply.guest], (number, 0)
        found.append(Node(f"r{number}", name, reply.parent, guest=reply.guest, text=reply.text, at=at))
    return sorted(found, key=lambda node: node.at)


def build_tree(nodes: Sequence[Node], votes: Mapping[str, int], sort: str) -> list[Node]:
    """Return the root nodes, with each level sorted. Equal scores keep the order of writing."""
    by_id = {node.id: node for node in nodes}
    roots: list[Node] = []
    for node in nodes:
        node.score += votes.get(node.id, 0)
        parent = by_id.get(node.parent)
        node.to = parent.name if parent else ""
        (parent.replies if parent else roots).append(node)
    orders: dict[str, Callable[[Node], tuple[int, ...]]] = {
        "old": lambda node: node.at,
        "new": lambda node: (-node.at[0], -node.at[1]),
        "top": lambda node: (-node.score, *node.at),
    }
    for level in (roots, *(node.replies for node in nodes)):
        level.sort(key=orders[sort])
    return roots
