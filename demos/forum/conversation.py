"""Conversations: who speaks when, and how they begin. The structure of a thread is drawn by seed; its words are not.

A small model that is asked for "a thread" forgets after two lines who is speaking. So each post is asked for by itself,
with its author, what they are about to do (agree, doubt, ask, ...) and the first few words of it.
"""

import re
from dataclasses import dataclass

from .listing import ThreadKey
from .people import Person, article, person, regulars, seeded
from .visitors import Reply, Topic

BOARDS = {
    "Lost and found": ("Things without people, and people without things.", "umbrella|glove|suitcase|left shoe|key"),
    "Kettles": ("Also teapots. Not urns; we have had that conversation.", "kettle|teapot|tea cosy|mug|copper kettle"),
    "The weather": ("What it did, and whether it should have.", "cloud|puddle|fog bank|rainbow|hailstone"),
    "Strange noises": ("From the pipes, the hill and next door.", "humming noise|knocking|whistle|bell|distant song"),
    "Allotments": ("Marrows, sheds and grievances.", "marrow|scarecrow|shed|cabbage|wheelbarrow"),
    "Night buses": ("The 23, the 23a, and the one without a number.", "night bus|bus stop|driver|ticket|timetable"),
}
"""The boards of the front page: what each is about, and the things in it. Any other name is a board too."""

NOUNS = tuple(noun for _, nouns in BOARDS.values() for noun in nouns.split("|"))

OPENINGS = (
    "My {t} has|Last night {a}|Wanted: {a} that|Has anybody else seen the {t} that|There is {a} in my|"
    "Somebody has left {a}|For sale: one {t}, because|Every morning the {t}|I have lost {a}|Who has put {a}"
).split("|")
ANYWHERE = (
    "My neighbour says that {b}|I have a question about {b},|Last week I tried {b} and|Nobody talks about {b}, but|"
    "The best thing about {b} is|I am new to {b}, and|Why does the mayor hate {b}|My aunt was famous for {b},"
).split("|")
"""How threads begin, where there is a thing to write about, and on a board that nobody has heard of."""

GOES_ON = "So I|Yesterday my|This morning I|My neighbour|Now the|I have asked".split("|")

STANCES = (
    (
        "agrees with {o}",
        "Yes, and my own {t}|I have seen it too, and the {t}",
        "Yes, and the same thing happened to|I am glad that",
    ),
    (
        "does not believe it",
        "I doubt that the {t}|That was no {t}, it was only",
        "I doubt that|That cannot be, because",
    ),
    (
        "tells a story",
        "When I was a child, {a} like that|Last winter my sister found {a}",
        "When I was a child, my|Last winter my sister",
    ),
    (
        "gives advice to {o}",
        "You should put the {t}|The best thing to do with {a} is",
        "You should ask|The best thing to do is",
    ),
    ("asks a question", "Did the {t}|Does anyone know whether the {t}", "Does anyone know whether|Did you ask"),
    ("thinks of {h}", "It makes me think of {h}, because the {t}", "It makes me think of {h}, because"),
)
"""What people do in a thread; how that begins where the thing is known that it is about; and where it is not."""

ANSWERS = {
    "cheerful": "That is the best|I am so glad that you|What a good idea, and my",
    "gloomy": "I was afraid of that, and|It will end badly, because|Nothing good has ever come of",
    "suspicious": "Who told you that|I should like to know why|Have you asked yourself why",
    "patient": "Let us wait until|There is no hurry, but|Give it a week, and",
    "stubborn": "I still think that|Even so, I|Nobody will change my mind about",
    "gentle": "Thank you, that is|It is kind of you to|Do not worry, for the",
    "forgetful": "I forget who said it, but|Did I tell you that|Now where did I put",
    "proud": "I would have you know that|In my own case the|Nobody knows more than I do about",
    "practical": "First of all you should|In that case I will|Bring it to me on Monday, and I",
    "dreamy": "I dreamt of that, and|Perhaps it is only the|In the evening light it",
}
"""How people of each temper begin when somebody has written to them."""

TREES = ((-1, 0, 1, -1, 3), (-1, 0, -1, 2, -1), (-1, -1, 1, 2, 1), (-1, 0, 0, -1, 3), (-1, -1, 0, -1, 3))
"""Which of a thread's posts answers which: the number of an earlier one; -1 for none."""


@dataclass(frozen=True)
class Post:
    """A post that the model writes: by whom, how it is asked for, which one it answers, and when it comes.

    ``sheet`` names the file of examples for it.
    """

    author: Person
    sheet: str
    prompt: str
    opening: str
    id: str = ""
    parent: str = ""
    score: int = 0
    at: tuple[int, int] = (0, 0)
    tokens: int = 60


def thing(title: str) -> str:
    """What a thread is about, if it is one of the things that people here write about."""
    return next((noun for noun in NOUNS if re.search(rf"\b{noun}\b", title.lower())), "")


def starters(board: str) -> list[Post]:
    """The posts that begin the threads of a board, each by one of its regulars."""
    chance = seeded("starters", board.lower())
    nouns = next((nouns.split("|") for name, (_, nouns) in BOARDS.items() if name.lower() == board.lower()), [])
    posts = []
    for author, opening in zip(regulars(board), chance.sample(OPENINGS if nouns else ANYWHERE, 6), strict=False):
        noun = chance.choice(nouns) if nouns else ""
        begun = opening.format(t=noun, a=article(noun) if noun else "", b=board.lower())
        posts.append(Post(author, "starter", f'A new thread on the board "{board}" by {author.described}.', begun))
    return posts


def opening_post(author: Person, title: str, teaser: str) -> Post:
    """The post that a thread begins with. It goes on from what the board shows of it."""
    begun = seeded("opening", author.name, title).choice(GOES_ON)
    ask = f'The first post of the thread "{title}" by {author.described}.'
    return Post(author, "opening", ask, f"{teaser} {begun}".strip(), tokens=100)


def comments(board: str, author: Person, title: str) -> list[Post]:
    """What others say to it, in a tree. Whoever began the thread has a word in it too."""
    chance = seeded("comments", board.lower(), author.name, title)
    tree = chance.choice(TREES)
    others = [one for one in regulars(board) if one != author]
    stances = chance.sample(STANCES, len(tree))
    posts: list[Post] = []
    for number, (parent, (doing, with_thing, without)) in enumerate(zip(tree, stances, strict=True)):
        above = posts[parent].author if parent >= 0 else author
        returns = number == len(tree) - 1 and above != author  # whoever began it has the last word, if it is an answer
        speaker = author if returns else others[number]
        noun = thing(title)
        words = {"o": above.name, "t": noun, "a": article(noun) if noun else "", "h": speaker.hobby}
        begun = chance.choice((with_thing if noun else without).split("|")).format(**words)
        ask = f'In the thread "{title}", {speaker.described}, {doing.format(**words)}.'
        id, to, at = f"c{number}", f"c{parent}" if parent >= 0 else "", (0, number)
        posts.append(Post(speaker, "comment", ask, begun, id, to, chance.randint(0, 14), at))
    return posts


def first_answers(topic: Topic) -> list[Post]:
    """What three of the regulars say to a thread that a visitor has begun."""
    people = seeded("first", topic.board, topic.title).sample(regulars(topic.board), 3)
    return [_answer(one, topic.title, topic.text, f"c{nth}", "", (0, nth)) for nth, one in enumerate(people)]


def answers(board: str, title: str, reply: Reply, to: Person | None, opener: Person | None) -> list[Post]:
    """What is said to a visitor's reply: by the one whom it answers; if it is for all, by two of them."""
    others = [one for one in seeded("answers", board, title, str(reply.id)).sample(regulars(board), 3) if one != opener]
    people = [to or others[0]] if reply.parent else [opener or others[1], others[0]]
    number = reply.id or 0
    return [
        _answer(one, title, reply.text, f"a{number}-{nth}", f"r{number}", (number, nth + 1))
        for nth, one in enumerate(people)
    ]


def _answer(speaker: Person, title: str, text: str, id: str, parent: str, at: tuple[int, int]) -> Post:
    chance = seeded("answer", speaker.name, title, text)
    said = " ".join(text.split()).replace('"', "'")[:240]
    ask = f'In the thread "{title}", {speaker.described}, answers a visitor who wrote: "{said}"'
    begun = chance.choice(ANSWERS[speaker.temper].split("|"))
    return Post(speaker, "answer", ask, begun, id, parent, chance.randint(0, 5), at)


def takes_part(who: Person, thread: ThreadKey) -> bool:
    """Whether somebody writes in a thread of the town."""
    author = person(thread.author)
    return who == author or any(post.author == who for post in comments(thread.board, author, thread.title))
