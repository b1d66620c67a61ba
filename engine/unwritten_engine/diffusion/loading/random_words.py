"""Words and syllables for the tokenizers of random models, so that their gibberish looks like text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Final

_WORDS: Final = """
the of and to in a is that for it as was with be by on not he his but at are this have from or had an they which one
you were all her she there would their we him been has when who will no more if out so up said what its about than
into them can only other time new some could these two may first then do any like my now over such our man me even
most made after also did many off before must well back through years where much your way down should because each
long those people world day life house water light city river garden letter winter morning night story book page
stone paper glass bread music color window street mountain island forest valley harbor market bridge tower library
under between again never always often small great old young high low cold warm quiet bright dark green blue red
white black round open last next early late left right north south east west hand eye head heart word name line end
begin write read walk turn hold bring find give take make keep call show move live believe happen become remember
""".split()
_SYLLABLES: Final = """
ing ed er es ly tion al en ment ness able est ity ous ive ful less ish ar or an in on at it is re un dis pre con com
pro ex de be th ch sh st tr pl gr br cl fr wh qu ck ll ss tt ee oo ea ai ou ow ay ie igh ound ight
""".split()
_ONSETS: Final = "b br c ch d dr f fl g gl h j k l m n p pl qu r s sh st t th tr v w y z".split()
_NUCLEI: Final = "a e i o u ai ea ia ou".split()
_CODAS: Final = ("", *"l m n r s t nd rk lm st ng".split())


def readable() -> Iterator[str]:
    """Yield characters, words, syllables, capitalized words, and generated words, with "▁" for a space.

    Some are repeated.
    """
    yield "▁"
    yield "\t"
    yield from (chr(code) for code in range(33, 127))
    yield from ("system", "user", "model", "thought")
    for word in _WORDS:
        yield f"▁{word}"
    yield from _SYLLABLES
    yield from "éèüöäñçøåß–—“”’…·°"
    for word in _WORDS:
        yield f"▁{word.capitalize()}"
    yield from _WORDS
    syllables = [onset + nucleus + coda for coda in _CODAS for nucleus in _NUCLEI for onset in _ONSETS]
    random.Random(1).shuffle(syllables)  # noqa: S311 - not for secrets; the same vocabulary every time
    for at, second in enumerate(("", *syllables)):
        for first in syllables:
            yield f"▁{first}{second}"
            if at % 4 == 0:
                yield first + second
