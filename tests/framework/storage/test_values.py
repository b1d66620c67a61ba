"""The values of shapes, kept with their pages."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import BaseModel

from unwritten.storage.pages import PageStore
from unwritten.storage.records import PageWrite, Provenance, StoredCanvas
from unwritten.storage.values import ValueStore, facts, facts_of

BARE = StoredCanvas("lead", "markdown", "{}", "A tower.", 0, 1, 1, 1, 0.1, "end")
PROVENANCE = Provenance("model", "engine", 0, 1, 1, 1, 0.1, "end")


class Facts(BaseModel):
    kind: str
    founded: int


@dataclass
class Place:
    name: str


def shaped(name: str, text: str, shape: type, *, fact: bool = False) -> StoredCanvas:
    return replace(BARE, name=name, format="typed", text=text, schema=shape.__name__, fact=fact)


def keep(store: PageStore, title: str, *canvases: StoredCanvas) -> None:
    page = PageWrite(f"/wiki/{title}", title, "words", "hash", PROVENANCE, canvases, ())
    asyncio.run(store.save(page))


TOWER = shaped("facts", '{"kind":"tower","founded":1720}', Facts, fact=True)
INN = shaped("facts", '{"kind":"inn","founded":1801}', Facts)


def test_a_value_is_an_instance_of_its_shape(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    values = ValueStore(store.database)
    keep(store, "Tower", BARE, TOWER, shaped("place", '{"name":"cape"}', Place))
    assert values.one("/wiki/Tower", "facts", Facts) == Facts(kind="tower", founded=1720)
    values.register(Place)
    assert values.one("/wiki/Tower", "place") == Place("cape")
    assert values.one("/wiki/Tower", "lead") is None and values.one("/wiki/Inn", "facts") is None
    store.close()


def test_a_value_whose_shape_nobody_has_shown_yet_can_be_read(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    keep(store, "Tower", TOWER)
    assert ValueStore(store.database).one("/wiki/Tower", "facts").kind == "tower"
    ((source, value),) = ValueStore(store.database).all("Facts")
    assert (source.key, source.name, value.founded) == ("/wiki/Tower", "facts", 1720)
    store.close()


def test_all_values_of_a_shape_come_newest_first_and_limited(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    values = ValueStore(store.database)
    keep(store, "Tower", TOWER)
    keep(store, "Inn", INN, shaped("place", '{"name":"cape"}', Place))
    found = values.all(Facts)
    assert [(source.title, value.kind) for source, value in found] == [("Inn", "inn"), ("Tower", "tower")]
    assert len(values.all(Facts, limit=1)) == 1
    assert [value.name for _, value in values.all("Place")] == ["cape"]
    assert values.all("Nothing") == []
    store.close()


def test_only_the_current_version_has_values(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    values = ValueStore(store.database)
    keep(store, "Tower", TOWER)
    keep(store, "Tower", INN)
    ((source, value),) = values.all(Facts)
    assert (source.version, value.kind) == (2, "inn")
    old = store.get("/wiki/Tower", 1)
    assert old is not None and old.canvases["facts"] == TOWER, "the old version has its text, its shape and its flag"
    keep(store, "Tower", BARE)
    assert values.all(Facts) == []
    keep(store, "Tower", TOWER)
    assert asyncio.run(store.delete("/wiki/Tower"))
    assert values.all(Facts) == []
    store.close()


def test_a_value_whose_shape_has_changed_since_is_left_out(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    keep(store, "Tower", shaped("facts", '{"kind":"tower"}', Facts))
    keep(store, "Inn", INN)
    values = ValueStore(store.database)
    values.register(Facts)
    assert values.one("/wiki/Tower", "facts") is None
    assert [source.title for source, _ in values.all(Facts)] == ["Inn"]
    store.close()


def test_facts_are_the_values_that_were_marked(tmp_path: Path) -> None:
    store = PageStore(tmp_path / "pages.db")
    keep(store, "Tower", TOWER, shaped("place", '{"name":"cape"}', Place))
    keep(store, "Inn", INN)
    keep(store, "Mill", replace(TOWER, name="box"))
    tower = ("/wiki/Tower", "Tower", "facts", {"kind": "tower", "founded": 1720})
    mill = ("/wiki/Mill", "Mill", "box", {"kind": "tower", "founded": 1720})
    assert facts(store.database) == [mill, tower]
    assert facts(store.database, limit=1) == [mill]
    assert facts_of(store.database, ["/wiki/Tower", "/wiki/Nowhere", "/wiki/Mill"]) == [tower, mill]
    assert facts_of(store.database, []) == []
    store.close()
