"""Values of canvases with a schema."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from pydantic import BaseModel

from unwritten.storage.location import Location
from unwritten.storage.pages import PageStore
from unwritten.storage.records import PageWrite, Provenance, StoredCanvas
from unwritten.storage.search import find_mentions
from unwritten.storage.values import ValueStore, facts

BARE = StoredCanvas("lead", "markdown", "{}", "A tower.", 0, 1, 1, 1, 0.1, "end")
PROVENANCE = Provenance("model", "engine", 0, 1, 1, 1, 0.1, "end")


class Facts(BaseModel):
    kind: str
    founded: int


@dataclass
class Place:
    name: str


def canvas(name: str, text: str, schema: type, *, fact: bool = False) -> StoredCanvas:
    return replace(BARE, name=name, format="typed", text=text, schema=schema.__name__, fact=fact)


def save(store: PageStore, title: str, *canvases: StoredCanvas) -> None:
    page = PageWrite(f"/wiki/{title}", title, "words", "hash", PROVENANCE, canvases, ())
    asyncio.run(store.save(page))


TOWER = canvas("facts", '{"kind":"tower","founded":1720}', Facts, fact=True)
INN = canvas("facts", '{"kind":"inn","founded":1801}', Facts)


def test_a_value_is_an_instance_of_its_schema(location: Location) -> None:
    store = PageStore(location)
    values = ValueStore(store.database)
    save(store, "Tower", BARE, TOWER, canvas("place", '{"name":"cape"}', Place))
    assert values.get("/wiki/Tower", "facts", Facts) == Facts(kind="tower", founded=1720)
    values.register(Place)
    assert values.get("/wiki/Tower", "place") == Place("cape")
    assert values.get("/wiki/Tower", "lead") is None and values.get("/wiki/Inn", "facts") is None
    store.close()


def test_a_value_of_an_unregistered_schema_has_its_fields(location: Location) -> None:
    store = PageStore(location)
    save(store, "Tower", TOWER)
    assert ValueStore(store.database).get("/wiki/Tower", "facts").kind == "tower"
    ((source, value),) = ValueStore(store.database).all("Facts")
    assert (source.key, source.name, value.founded) == ("/wiki/Tower", "facts", 1720)
    store.close()


def test_all_values_of_a_schema_come_newest_first_and_limited(location: Location) -> None:
    store = PageStore(location)
    values = ValueStore(store.database)
    save(store, "Tower", TOWER)
    save(store, "Inn", INN, canvas("place", '{"name":"cape"}', Place))
    found = values.all(Facts)
    assert [(source.title, value.kind) for source, value in found] == [("Inn", "inn"), ("Tower", "tower")]
    assert len(values.all(Facts, limit=1)) == 1
    assert [value.name for _, value in values.all("Place")] == ["cape"]
    assert values.all("Nothing") == []
    store.close()


def test_only_the_current_version_has_values(location: Location) -> None:
    store = PageStore(location)
    values = ValueStore(store.database)
    save(store, "Tower", TOWER)
    save(store, "Tower", INN)
    ((source, value),) = values.all(Facts)
    assert (source.version, value.kind) == (2, "inn")
    old = store.get("/wiki/Tower", 1)
    assert old is not None and old.canvases["facts"] == TOWER, "the old version has its text, its schema and its flag"
    save(store, "Tower", BARE)
    assert values.all(Facts) == []
    save(store, "Tower", TOWER)
    assert asyncio.run(store.delete("/wiki/Tower"))
    assert values.all(Facts) == []
    store.close()


def test_values_that_no_longer_fit_their_schema_are_left_out(location: Location) -> None:
    store = PageStore(location)
    save(store, "Tower", canvas("facts", '{"kind":"tower"}', Facts))
    save(store, "Inn", INN)
    values = ValueStore(store.database)
    values.register(Facts)
    assert values.get("/wiki/Tower", "facts") is None
    assert [source.title for source, _ in values.all(Facts)] == ["Inn"]
    store.close()


def test_facts_are_the_marked_values(location: Location) -> None:
    store = PageStore(location)
    save(store, "Tower", TOWER, canvas("place", '{"name":"cape"}', Place))
    save(store, "Inn", INN)
    save(store, "Mill", replace(TOWER, name="box"))
    tower = ("/wiki/Tower", "Tower", "facts", {"kind": "tower", "founded": 1720})
    mill = ("/wiki/Mill", "Mill", "box", {"kind": "tower", "founded": 1720})
    assert facts(store.database) == [mill, tower]
    assert facts(store.database, limit=1) == [mill]
    store.close()


# -- search -----------------------------------------------------------------------------------------------------------


def test_values_are_searched_and_shown_without_names_and_punctuation(location: Location) -> None:
    store = PageStore(location)
    page = PageWrite(
        "/recipe/Soup",
        "Soup",
        "",
        "hash",
        PROVENANCE,
        (canvas("recipe", '{"name":"Soup","steps":[{"text":"Chop the Crème"}],"minutes":45,"vegan":true}', Facts),),
        (),
    )
    asyncio.run(store.save(page))
    save(store, "Tower", TOWER)
    for text in ("creme", "chop cre", "45", "soup 45"):
        assert [found.key for found in store.search(text)] == ["/recipe/Soup"], text
    for text in ("steps", "minutes", "vegan", "true", "name"):
        assert store.search(text) == [], text
    assert store.search("chop")[0].snippet == "Soup, Chop the Crème, 45"
    assert store.recent()[-1].snippet == "Soup, Chop the Crème, 45", "a page without text is shown by its values"
    # The match is shown, whether it is in the text or in a value.
    assert store.search("1720")[0].snippet == "tower, 1720" and store.search("words")[0].snippet == "words"
    # Prompts of other pages get values as facts, and not as sentences of a text.
    assert find_mentions(store.database, ["tower"], "/", 5) == []
    save(store, "Tower", INN)  # a new version
    assert store.search("1720") == [] and len(store.search("1801")) == 1
    asyncio.run(store.delete("/wiki/Tower"))
    assert store.search("1801") == []
    store.close()


def test_any_value_can_be_indexed(location: Location) -> None:
    store = PageStore(location)
    deep = "[" * 900 + '"deep"' + "]" * 900
    for number, text in enumerate([deep, '"a\\u0000b\\ud800c"', "[]", "NaN", "1e999", '"' + "x" * 5000 + '"', "{"]):
        save(store, f"Page {number}", canvas("value", text, Facts))
    assert [found.title for found in store.search("deep")] == ["Page 0"]
    assert [found.title for found in store.search("b")] == ["Page 1"]
    store.close()
