"""The recipes, their photos, and the cookbook of each cook."""

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from unwritten import Canvas, Example, ImageUpload, Page, Router, Visit

from .accounts import cook, signed_in

IDEAS = ("Bean soup", "Lemon cake", "Rye bread", "Potato salad", "Apple pancakes")

TIP = Example(
    "One tip for cooking Onion tart, with a link to another recipe.",
    "Let the onions melt slowly, and serve the tart with a [[Green salad]].",
)  # without an example, a small model writes another recipe

router = Router()


class Ingredient(BaseModel):
    name: str
    amount: str


class Recipe(BaseModel):
    """No bounds: the framework assumes those that such fields usually have."""

    summary: str
    servings: int
    minutes: int
    ingredients: list[Ingredient]
    steps: list[str]


class Photo(BaseModel):
    id: int | None = None
    recipe: str
    cook: str
    file: ImageUpload


class Favourite(BaseModel):
    id: int | None = None
    cook: str
    recipe: str


photos = router.table(Photo, index=["recipe"])
favourites = router.table(Favourite, index=["cook"])


@router.page("/cookbook", allow=signed_in, vary=cook)
def cookbook(visit: Visit) -> Page:
    """One page for each cook, which only this cook may read."""
    kept = [row.recipe for row in favourites.select(cook=visit.vary or "")]
    menu = {1: Canvas(f"A menu for a week with {', '.join(kept)}.", tokens=200)} if len(kept) > 1 else {}
    return Page("cookbook.html", title="My cookbook", cook=visit.vary, kept=kept, menu=menu)


@router.page("/{title}")
def recipe(title: str) -> Page:
    shown = photos.select(recipe=title)
    captions = {}
    if router.app.supports("images"):
        captions = {p.id: Canvas(f"Describe this photo of {title}.", "text", images=[p.file]) for p in shown}
    return Page(
        "recipe.html",
        title=title,
        recipe=Canvas(f"The recipe for {title}.", schema=Recipe),
        tip=Canvas(f"One tip for cooking {title}, with a link to another recipe.", examples=[TIP], tokens=60),
        photos=shown,
        captions=captions,
    )


@router.action("/{title}/keep")
def keep(title: str, request: Request) -> Response | str | None:
    name = cook(request)
    if name is None:
        return router.app.url_path_for("login")
    if not favourites.count(cook=name, recipe=title):
        favourites.insert(Favourite(cook=name, recipe=title))
    return router.app.url_path_for("cookbook")


@router.action("/{title}/photo")
def add_photo(title: str, photo: ImageUpload, request: Request) -> str | None:
    name = cook(request)
    if name is None:
        return router.app.url_path_for("login")
    if photos.count(recipe=title) < 6:
        photos.insert(Photo(recipe=title, cook=name, file=photo))
    return None
