"""The people of the board. A name determines a person: trade, temper, hobby and manner of writing.

All of it is chosen from the lists below, by a random generator seeded with the name. The model adds to it on a person's
page and in their posts.
"""

import random
import re
from dataclasses import dataclass
from hashlib import blake2b

FIRST = (
    "Agnes Alma Arthur Basil Bertha Cecil Clara Dora Edgar Edith Elsie Ernest Ethel Fern Flora George Hazel Hilda "
    "Horace Ida Ivor Joan Leo Mabel Martha Ned Nora Olive Oscar Pearl Percy Rose Silas Stanley Vera Victor Walter Wilf"
).split()
LAST = (
    "Ashby Barrow Birch Brine Brook Cobb Crane Dell Dray Fenn Finch Frost Gale Garth Heron Hobbs Kettle Lark Marsh "
    "Meadow Moss Nettle Oakes Pike Plum Pond Quill Reed Rook Sedge Sparrow Stone Teal Thorn Tidy Vale Weir Wick Wren"
).split()
TRADES = (
    "retired postal worker|baker|night-bus driver|piano tuner|school cook|lighthouse painter|clock mender|librarian|"
    "beekeeper|plumber|ferryman|tailor|church organist|vet|glazier|fishmonger|sign painter|night nurse|gardener|"
    "bell ringer|cobbler|weather observer|ironmonger|retired teacher"
).split("|")
TEMPERS = "cheerful gloomy suspicious patient stubborn gentle forgetful proud practical dreamy".split()
HOBBIES = (
    "umbrellas|old maps|doorbells|moss|teapots|lost gloves|garden snails|steam whistles|bread recipes|keys|kites|"
    "night trains|buttons|pond fish|ghost stories|rain gauges|model bridges|brass bands|pigeons|jam"
).split("|")
MANNERS = ("plain", "plain", "plain", "lower", "dashing", "signed")
"""How people write: normally, in lower case, in italics, or with a signature."""


@dataclass(frozen=True)
class Person:
    name: str
    trade: str
    temper: str
    hobby: str
    manner: str
    since: int
    posts: int

    @property
    def described(self) -> str:
        """A description for prompts, as short as a small model needs it."""
        return f"{self.name}, {article(self.trade)} who is {self.temper} and loves {self.hobby}"


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def seeded_random(*words: str) -> random.Random:
    """Return a random generator that is the same for the same words on every machine."""
    seed = blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest()
    return random.Random(int.from_bytes(seed))  # noqa: S311 - not used for security


def format_name(name: str) -> str:
    """Return a name in title case, so that ``agnes finch`` and ``Agnes Finch`` are one person."""
    return re.sub(r"\b\w", lambda letter: letter[0].upper(), name.lower())


def find_person(name: str) -> Person:
    """Return the person with this name. Every name has one."""
    name = format_name(name)
    chance = seeded_random("person", name)
    return Person(
        name=name,
        trade=chance.choice(TRADES),
        temper=chance.choice(TEMPERS),
        hobby=chance.choice(HOBBIES),
        manner=chance.choice(MANNERS),
        since=chance.randint(1998, 2009),
        posts=chance.randint(12, 4000),
    )


def _townspeople() -> tuple[Person, ...]:
    """Return a few dozen people, each with a unique name and trade."""
    chance = seeded_random("town")
    found: dict[str, Person] = {}
    for first, last in zip(chance.sample(FIRST, len(FIRST)), chance.sample(LAST, len(LAST)), strict=False):
        someone = find_person(f"{first} {last}")
        found.setdefault(someone.trade, someone)
    return tuple(found.values())


TOWN = _townspeople()
"""The people who write on the board. There are few enough to meet them again."""


def regulars(board: str) -> list[Person]:
    """Return the people who write on a board, the most active first."""
    return seeded_random("board", board.lower()).sample(TOWN, 10)
