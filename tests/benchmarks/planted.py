"""Facts for ``world``: invented, each in a sentence of a page that links to its subject."""

from __future__ import annotations

import re
from dataclasses import dataclass

from unwritten.formats.links import WIKI_LINK


@dataclass(frozen=True, slots=True)
class Planted:
    """One fact.

    Attributes:
        page: The title of the page with the fact.
        sentence: The sentence, with the subject in double square brackets.
        value: The word or number in it that a page about the subject should know.
    """

    page: str
    sentence: str
    value: str

    @property
    def subject(self) -> str:
        """The title of the page that is requested."""
        match = WIKI_LINK.search(self.sentence)
        return match[1] if match else ""

    def text(self, *, linked: bool = True) -> str:
        """Return the text of the page with the fact, with or without the link."""
        sentence = self.sentence if linked else WIKI_LINK.sub(lambda match: match[1], self.sentence)
        return f"**{self.page}** is a part of the island of Ferra. {sentence} Visitors come in the summer."

    @property
    def gist(self) -> str:
        """Return the fact as a hidden note about the subject."""
        return WIKI_LINK.sub(lambda match: match[1], self.sentence)

    @property
    def text_without_fact(self) -> str:
        """Return the text of the page with a link to the subject, which says nothing about it."""
        return f"**{self.page}** is a part of the island of Ferra. Many visitors ask for [[{self.subject}]] here."

    def is_in(self, text: str) -> bool:
        """True if a text has the value as a word of its own."""
        return re.search(rf"(?<!\w){re.escape(self.value.casefold())}(?!\w)", text.casefold()) is not None


FACTS = tuple(
    Planted(*row)
    for row in (
        ("North Harbour", "[[Odo Brask]] is a lamp maker who was born in 1743.", "1743"),
        ("The Salt Market", "The [[Tin Bell]] of the market is painted green.", "green"),
        ("Mill Lane", "The [[Corvane Bridge]] was built by the engineer Ilse Maar.", "Maar"),
        ("Ferra Town", "[[Queen Talvi]] ruled the island for 61 years.", "61"),
        ("Gull Hill", "The [[Hollow Tower]] is 88 metres high.", "88"),
        ("East Beach", "The [[Amber Boat]] sank in 1902 with a load of pepper.", "pepper"),
        ("Old Library", "[[The Book of Tides]] was written by Bruno Selk.", "Selk"),
        ("Bakers' Row", "[[Moon bread]] is baked with chestnut flour.", "chestnut"),
        ("The Long Wall", "The [[Wall Guild]] was founded in 1618.", "1618"),
        ("Reed Lake", "The [[Reed Heron]] has violet legs.", "violet"),
        ("West Fort", "The [[Battle of Quill]] was won by General Anka Roth.", "Roth"),
        ("Castle Gardens", "The [[Sleeping Pear]] flowers in November.", "November"),
        ("Station Square", "The [[Night Train]] to Ferra has 13 carriages.", "13"),
        ("Chapel Street", "The [[Blue Organ]] was a gift from the city of Tarn.", "Tarn"),
        ("Fishers' Quay", "The [[Lantern Eel]] lives in warm copper mines.", "copper"),
        ("Weavers' Yard", "[[Ferra cloth]] is woven from nettle.", "nettle"),
        ("The Observatory", "The comet [[Asta Minor]] returns every 37 years.", "37"),
        ("Low Meadow", "The [[Meadow Games]] are opened by a blind horse.", "horse"),
        ("Glass Works", "[[Hedda Vint]] invented the square bottle.", "bottle"),
        ("Cape Lorn", "The [[Lorn Lighthouse]] is kept by the Okoro family.", "Okoro"),
        ("The Post Office", "The [[Paper Stamp of Ferra]] shows a snail.", "snail"),
        ("Stone Theatre", "[[The Iron Comedy]] was first played in Lisbon.", "Lisbon"),
        ("Bee Valley", "[[Ferra honey]] tastes of ginger.", "ginger"),
        ("South Gate", "[[Captain Jory Penn]] lost his left ear.", "ear"),
    )
)
