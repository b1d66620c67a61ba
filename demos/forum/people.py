"""The people of the board. A name is a person: the same name has the same trade, temper and way of writing everywhere.

All of this is structure, drawn by seed from the lists below. What the model adds, it adds on the page of a person, and
in what they write.
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
"""How they write: as everybody does, all in small letters, in a slanting hand, or with their name under it."""


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
        """For a prompt: as much of a person as a small model can keep in mind."""
        return f"{self.name}, {article(self.trade)} who is {self.temper} and loves {self.hobby}"


def article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def seeded(*words: str) -> random.Random:
    """Chance that falls the same way for the same words, on every machine and in every year."""
    seed = blake2b("\0".join(words).encode("utf-8", "replace"), digest_size=8).digest()
    return random.Random(int.from_bytes(seed))  # noqa: S311 - nothing here is a secret


def spelling(name: str) -> str:
    """One spelling of a name: ``agnes finch`` and ``Agnes Finch`` are one person."""
    return re.sub(r"\b\w", lambda letter: letter[0].upper(), name.lower())


def person(name: str) -> Person:
    name = spelling(name)
    chance = seeded("person", name)
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
    """Some of all who could be, each with a name and a trade of their own."""
    chance = seeded("town")
    found: dict[str, Person] = {}
    for first, last in zip(chance.sample(FIRST, len(FIRST)), chance.sample(LAST, len(LAST)), strict=False):
        someone = person(f"{first} {last}")
        found.setdefault(someone.trade, someone)
    return tuple(found.values())


TOWN = _townspeople()
"""Those who write here. Few enough that one meets them again."""


def regulars(board: str) -> list[Person]:
    """The people of one board, the first of whom write there most."""
    return seeded("board", board.lower()).sample(TOWN, 10)
