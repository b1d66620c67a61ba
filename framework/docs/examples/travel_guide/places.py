"""Countries, cities and sights. All functions take the language, which is in the prefix of the router."""

from datetime import timedelta

from pydantic import BaseModel
from starlette.exceptions import HTTPException

from unwritten import Canvas, Page, Router

LANGUAGES = {"en": "English", "de": "German", "fr": "French"}
COUNTRIES = ("Portugal", "Norway", "Japan")

router = Router()


class Facts(BaseModel):
    population: int
    known_for: list[str]


def written_in(lang: str) -> str:
    """Return the sentence that ends every prompt.

    Raises:
        HTTPException: 404 if the guide is not written in this language.
    """
    if lang not in LANGUAGES:
        raise HTTPException(404)
    return f"Write in {LANGUAGES[lang]}."


@router.page("/")
def countries(lang: str) -> Page:
    written_in(lang)
    return Page("countries.html", lang=lang, countries=COUNTRIES, languages=LANGUAGES)


@router.page("/{country}", links="/{country}/{city}")
def country(lang: str, country: str) -> Page:
    write = written_in(lang)
    about = Canvas(f"What a traveller should know of {country}, and which cities to see. {write}")
    return Page("place.html", title=country, lang=lang, about=about)


@router.page("/{country}/{city}", links="/{country}/{city}/{sight}")
def city(lang: str, country: str, city: str) -> Page:
    write = written_in(lang)
    return Page(
        "city.html",
        title=city,
        lang=lang,
        about=Canvas(f"A walk through {city} in {country}. {write}", links=["Old Market", f"/{lang}/{country}"]),
        facts=Canvas(f"Facts about {city} in {country}. {write}", schema=Facts, fact=True),
        season=Canvas(f"What there is to do in {city} these days. {write}", "text", tokens=60, fresh=timedelta(days=1)),
        map={1: Canvas(f"A simple map of {city}.", "svg")} if router.app.supports("svg") else {},
    )


@router.page("/{country}/{city}/{sight}", links="/{country}/{city}/{sight}")
def sight(lang: str, country: str, city: str, sight: str) -> Page:
    write = written_in(lang)
    about = Canvas(f"The sight {sight} in {city}, {country}. {write}")
    return Page("place.html", title=sight, lang=lang, about=about)
