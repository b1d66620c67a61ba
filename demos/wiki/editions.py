"""Editions: the encyclopedia for different reading levels and languages.

Each edition has its own URLs (``/child/Tea``), so its articles are stored separately, and its links stay in it. The
examples in ``examples/`` and the openings below keep a small model to the level or the language.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

from pydantic import BaseModel

from unwritten import Canvas, read_examples

from .schemas import Brief, Facts, Reading, Wonder
from .subjects import opening_of, prompt_title, split_title


@dataclass(frozen=True)
class Edition:
    """A reading level, or a language.

    Attributes:
        code: The first part of its URLs.
        name: Its name, in its own language.
        prompts: The prompt of each canvas; "{}" is the title.
        sections: How the sections begin. A few words keep a small model on its subject.
        schema: The schema of its facts.
        lang: Its language code.
        labels: Labels of the fields, if they differ from the names.
        seeds: Titles to begin with.
    """

    code: str
    name: str
    prompts: Mapping[str, str]
    sections: tuple[str, ...]
    schema: type[BaseModel]
    lang: str = "en"
    labels: Mapping[str, str] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()

    def canvases(self, title: str) -> dict[str, Any]:
        """Return the canvases of the article with this title."""
        folder = "general" if self.code == "wiki" else self.code
        name, meaning = split_title(title)
        options: dict[str, dict[str, Any]] = {
            "lead": {"opening": opening_of(title) if self.lang == "en" else f"**{name}**", "tokens": 140},
            "facts": {"schema": self.schema, "tokens": 170, "fact": self.code == "wiki"},
            "body": {
                "opening": self.beginning(f"The {meaning} {name}" if meaning else name),
                "tokens": 256 if self.lang == "en" else 160,
            },
        }
        return {
            part: Canvas(prompt.format(prompt_title(title)), examples=EXAMPLES[folder, part], **options[part])
            for part, prompt in self.prompts.items()
        }

    def beginning(self, name: str) -> str:
        """Return the first heading and the first words under it, the same for the same article."""
        words = name[:1].lower() + name[1:] if name.startswith(ARTICLES) else name
        return self.sections[crc32(name.encode()) % len(self.sections)].format(words)


ARTICLES = tuple("The |A |An |Der |Die |Das |Ein |Eine |El |La |Los |Las |Un |Una |L'|Le |Les |Une ".split("|"))
"""Articles at the beginning of a title, which are in lower case within a sentence."""

GENERAL = Edition(
    "wiki",
    "General",
    {
        "lead": "The opening paragraph of the article on {}.",
        "facts": "Quick facts about {}.",
        "body": "Two sections of the article on {}.",
    },
    (
        "## History\n\nThe history of {} begins",
        "## Early accounts\n\nThe first person to write about {} was",
        "## In popular belief\n\nIt is widely believed that {}",
        "## In literature\n\nThe best-known book about {} is",
        "## In daily life\n\nMost people first hear of {} when",
    ),
    Facts,
    seeds=("Lighthouse", "The Museum of Lost Keys", "Tea", "Ada Lovelace", "Cloud farming", "Loneliness"),
)

CHILD = Edition(
    "child",
    "For children",
    {
        "lead": "The opening paragraph of the article on {}, for young children.",
        "facts": "Questions about {}, for young children.",
        "body": "Two short sections of the article on {}, for young children.",
    },
    (
        "## A long time ago\n\nA long time ago, {}",
        "## How to see it\n\nIf you want to see {}, you",
        "## Why people like it\n\nPeople like {} because",
        "## Where to look\n\nYou can find {} in",
    ),
    Wonder,
    labels={"questions": "Questions to ask"},
    seeds=("Lighthouse", "Snow", "Bees", "The moon", "Bread", "Why we sleep"),
)

EXPERT = Edition(
    "expert",
    "For experts",
    {
        "lead": "The opening paragraph of the article on {}, for specialists.",
        "facts": "Field, terms and literature of {}, for specialists.",
        "body": "Two sections of the article on {}, for specialists.",
    },
    (
        "## Classification\n\nSpecialists distinguish three forms of {} according to",
        "## Theories\n\nThe prevailing theory holds that {}",
        "## Method\n\nIn most studies, {} is measured by",
        "## History of research\n\nThe first systematic study of {} was published in",
    ),
    Reading,
    seeds=("Lighthouse", "Doorbells", "Tea", "Echoes", "Queueing", "Nostalgia"),
)

GERMAN = Edition(
    "de",
    "Deutsch",
    {
        "lead": "Der einleitende Absatz des Artikels „{}“.",
        "facts": "Kurz gefasst: „{}“.",
        "body": "Ein Abschnitt des Artikels „{}“.",
    },
    (
        "## Im Volksglauben\n\nViele Menschen glauben, dass {}",
        "## In der Literatur\n\nDas bekannteste Buch über {} ist",
        "## Im Alltag\n\nDie meisten Menschen kennen {} aus",
    ),
    Brief,
    lang="de",
    labels={
        "kind": "Art",
        "found_in": "Zu finden",
        "first_known": "Zuerst bekannt",
        "akin_to": "Verwandt mit",
        "opposite": "Gegenteil",
    },
    seeds=("Leuchtturm", "Das Museum der verlorenen Schlüssel", "Tee", "Ada Lovelace", "Einsamkeit", "Eisenbahn"),
)

FRENCH = Edition(
    "fr",
    "Français",
    {
        "lead": "Le premier paragraphe de l'article « {} ».",
        "facts": "En bref : « {} ».",
        "body": "Une section de l'article « {} ».",
    },
    (
        "## Croyances\n\nBeaucoup de gens croient que {}",
        "## Dans la littérature\n\nLe livre le plus connu à ce sujet est",
        "## Dans la vie\n\nOn dit souvent que {}",
    ),
    Brief,
    lang="fr",
    labels={
        "kind": "Nature",
        "found_in": "Où",
        "first_known": "Connu depuis",
        "akin_to": "Proche de",
        "opposite": "Contraire",
    },
    seeds=("Le phare", "Le musée des clés perdues", "Le thé", "Ada Lovelace", "La solitude", "Le chemin de fer"),
)

SPANISH = Edition(
    "es",
    "Español",
    {
        "lead": "El primer párrafo del artículo «{}».",
        "facts": "En pocas palabras: «{}».",
        "body": "Una sección del artículo «{}».",
    },
    (
        "## Creencias populares\n\nMucha gente cree que {}",
        "## En la literatura\n\nEl libro más conocido sobre este tema es",
        "## En la vida diaria\n\nSe dice a menudo que {}",
    ),
    Brief,
    lang="es",
    labels={
        "kind": "Clase",
        "found_in": "Dónde",
        "first_known": "Conocido desde",
        "akin_to": "Cercano a",
        "opposite": "Contrario",
    },
    seeds=("El faro", "El museo de las llaves perdidas", "El té", "Ada Lovelace", "La soledad", "El ferrocarril"),
)

EDITIONS = {edition.code: edition for edition in (GENERAL, CHILD, EXPERT, GERMAN, FRENCH, SPANISH)}

EXAMPLES = {
    (file.parent.name, file.stem): read_examples(file) for file in (Path(__file__).parent / "examples").glob("*/*.txt")
}
"""The examples for the model, by folder and canvas."""
