"""Conversations: who speaks when, and how each post begins. A seed determines the structure; the model writes the text.

A small model that is asked for a whole thread forgets after two lines who is speaking. So each post has a prompt of its
own: its author, what they do in it (agree, doubt, ask, …) and its first few words.
"""

import re
from dataclasses import dataclass

from .listing import ThreadKey
from .people import Person, article, find_person, regulars, seeded_random
from .visitors import Reply, Topic

BOARDS = {
    "Lost and found": ("Things without people, and people without things.", "umbrella|glove|suitcase|left shoe|key"),
    "Kettles": ("Also teapots. Not urns; we have had that conversation.", "kettle|teapot|tea cosy|mug|copper kettle"),
    "The weather": ("What it did, and whether it should have.", "cloud|puddle|fog bank|rainbow|hailstone"),
    "Strange noises": ("From the pipes, the hill and next door.", "humming noise|knocking|whistle|bell|distant song"),
    "Allotments": ("Marrows, sheds and grievances.", "marrow|scarecrow|shed|cabbage|wheelbarrow"),
    "Night buses": ("The 23, the 23a, and the one without a number.", "night bus|bus stop|driver|ticket|timetable"),
}
"""The boards on the home page: a description, and the things that people write about. Any other name works too."""

NOUNS = tuple(noun for _, nouns in BOARDS.values() for noun in nouns.split("|"))

OPENINGS = (
    "My {t} has|Last night {a}|Wanted: {a} that|Has anybody else seen the {t} that|There is {a} in my|"
    "Somebody has left {a}|For sale: one {t}, because|Every morning the {t}|I have lost {a}|Who has put {a}"
).split("|")
ANYWHERE = (
    "My neighbour says that {b}|I have a question about {b},|Last week I tried {b} and|Nobody talks about {b}, but|"
    "The best thing about {b} is|I am new to {b}, and|Why does the mayor hate {b}|My aunt was famous for {b},"
).split("|")
"""How threads begin on the boards above, and on all other boards."""

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
"""What a post does, and how it begins: if the thread is about one of the known things, and otherwise."""

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
"""How people of each temper begin an answer to a visitor."""

TREES = ((-1, 0, 1, -1, 3), (-1, 0, -1, 2, -1), (-1, -1, 1, 2, 1), (-1, 0, 0, -1, 3), (-1, -1, 0, -1, 3))
"""Shapes of threads: for each post the number of the post that it answers, or -1."""


@dataclass(frozen=True)
class Post:
    """A post that the model writes.

    Attributes:
        author: The person who writes it.
        sheet: The file with its examples.
        prompt: The prompt.
        opening: Its first words.
        id: Its id within the thread.
        parent: The id of the post that it answers, or "".
        score: The votes that it begins with.
        at: Its position in the order of writing.
        tokens: Its maximum length.
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
    """Return the known thing that a thread is about, or ""."""
    return next((noun for noun in NOUNS if re.search(rf"\b{noun}\b", title.lower())), "")


def starters(board: str) -> list[Post]:
    """Return the first posts of the threads on a board, each by one of its regulars."""
    chance = seeded_random("starters", board.lower())
    nouns = next((nouns.split("|") for name, (_, nouns) in BOARDS.items() if name.lower() == board.lower()), [])
    posts = []
    for author, opening in zip(regulars(board), chance.sample(OPENINGS if nouns else ANYWHERE, 6), strict=False):
        noun = chance.choice(nouns) if nouns else ""
        begun = opening.format(t=noun, a=article(noun) if noun else "", b=board.lower())
        posts.append(Post(author, "starter", f'A new thread on the board "{board}" by {author.described}.', begun))
    return posts


def opening_post(author: Person, title: str, teaser: str) -> Post:
    """Return the first post of a thread. It continues the teaser that the board shows."""
    begun = seeded_random("opening", author.name, title).choice(GOES_ON)
    ask = f'The first post of the thread "{title}" by {author.described}.'
    return Post(author, "opening", ask, f"{teaser} {begun}".strip(), tokens=100)


def comments(board: str, author: Person, title: str) -> list[Post]:
    """Return the answers of the town in a thread, as a tree. The author of the thread answers too."""
    chance = seeded_random("comments", board.lower(), author.name, title)
    tree = chance.choice(TREES)
    others = [one for one in regulars(board) if one != author]
    stances = chance.sample(STANCES, len(tree))
    posts: list[Post] = []
    for number, (parent, (doing, with_thing, without)) in enumerate(zip(tree, stances, strict=True)):
        above = posts[parent].author if parent >= 0 else author
        # The author of the thread writes the last post, if it answers someone else.
        returns = number == len(tree) - 1 and above != author
        speaker = author if returns else others[number]
        noun = thing(title)
        words = {"o": above.name, "t": noun, "a": article(noun) if noun else "", "h": speaker.hobby}
        begun = chance.choice((with_thing if noun else without).split("|")).format(**words)
        ask = f'In the thread "{title}", {speaker.described}, {doing.format(**words)}.'
        id, to, at = f"c{number}", f"c{parent}" if parent >= 0 else "", (0, number)
        posts.append(Post(speaker, "comment", ask, begun, id, to, chance.randint(0, 14), at))
    return posts


def first_answers(topic: Topic) -> list[Post]:
    """Return the answers of three regulars to a visitor's thread."""
    people = seeded_random("first", topic.board, topic.title).sample(regulars(topic.board), 3)
    return [_answer(one, topic.title, topic.text, f"c{nth}", "", (0, nth)) for nth, one in enumerate(people)]


def answers(board: str, title: str, reply: Reply, to: Person | None, opener: Person | None) -> list[Post]:
    """Return the answers to a visitor's reply: by the person it answers, or by two people if it is for everyone."""
    others = [
        one for one in seeded_random("answers", board, title, str(reply.id)).sample(regulars(board), 3) if one != opener
    ]
    people = [to or others[0]] if reply.parent else [opener or others[1], others[0]]
    number = reply.id or 0
    return [
        _answer(one, title, reply.text, f"a{number}-{nth}", f"r{number}", (number, nth + 1))
        for nth, one in enumerate(people)
    ]


def _answer(speaker: Person, title: str, text: str, id: str, parent: str, at: tuple[int, int]) -> Post:
    chance = seeded_random("answer", speaker.name, title, text)
    said = " ".join(text.split()).replace('"', "'")[:240]
    ask = f'In the thread "{title}", {speaker.described}, answers a visitor who wrote: "{said}"'
    begun = chance.choice(ANSWERS[speaker.temper].split("|"))
    return Post(speaker, "answer", ask, begun, id, parent, chance.randint(0, 5), at)


def takes_part(who: Person, thread: ThreadKey) -> bool:
    """True if a person writes in a thread of the town."""
    author = find_person(thread.author)
    return who == author or any(post.author == who for post in comments(thread.board, author, thread.title))
