"""What other packages store: pictures, uploads, boxes, mentions in texts, imported pages, training examples."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.framework.storage.test_pages import KEY, new_page, save

from unwritten.export.training_examples import training_examples
from unwritten.export.world_import import import_world
from unwritten.formats.links import Link
from unwritten.formats.uploads import Upload
from unwritten.pictures.store import PictureRequest, get_picture, save_picture
from unwritten.storage.database import Connection
from unwritten.storage.location import Location
from unwritten.storage.pages import PageStore
from unwritten.storage.search import find_mentions
from unwritten.storage.tables import Table, Tables
from unwritten.storage.uploads import delete_unreferenced, get_upload, save_upload
from unwritten.web.boxes import save_state, saved_state
from unwritten_engine.text_to_image import Painted


@pytest.fixture
def store(location: Location) -> Iterator[PageStore]:
    with contextlib.closing(PageStore(location)) as store:
        yield store


def test_a_picture_is_saved_once(store: PageStore) -> None:
    request = PictureRequest("A lamp.", 64, 64)
    first, second = (Painted(content, "image/webp", 1, 2) for content in (b"\0first", b"second"))
    for painted in (first, second):
        assert asyncio.run(save_picture(store.database, request, painted, "m", 0.1)).content == b"\0first"
    stored = get_picture(store.database, request)
    assert stored is not None and (stored.content, stored.media_type) == (b"\0first", "image/webp")


def test_the_state_of_a_box_is_replaced_and_deleted_with_its_page(store: PageStore) -> None:
    save(store, new_page())
    for state in ('{"on":true}', '{"on":false}'):
        asyncio.run(save_state(store.database, KEY, "body", state))
    asyncio.run(save_state(store.database, "/wiki/Other", "body", "1"))
    assert saved_state(store.database, KEY, "body") == '{"on":false}'
    asyncio.run(store.delete(KEY))
    assert saved_state(store.database, KEY, "body") is None
    assert saved_state(store.database, "/wiki/Other", "body") == "1"


def test_mentions_are_found_by_phrase_in_singular_and_plural(store: PageStore) -> None:
    for name, text in {
        "A": "An old lamp burns.",
        "B": "Two OLD Lamps burn, old lamps.",
        "C": "A lamp is old.",
        "D": "The café is closed.",
        "Old lamp": "Nothing.",
    }.items():
        save(store, new_page(f"/wiki/{name}", text))
    rows = dict(store.database.read("SELECT id, key FROM pages"))

    def found(*names: str, without: str = "/x", limit: int = 9) -> list[str]:
        return sorted(rows[page] for page, _ in find_mentions(store.database, names, without, limit))

    assert found("old lamp") == ["/wiki/A", "/wiki/B"]
    assert found("Old Lamp", "cafe") == ["/wiki/A", "/wiki/B", "/wiki/D"]
    assert found("old lamp", without="/wiki/A") == ["/wiki/B"]
    assert len(found("old lamp", limit=1)) == 1
    assert found() == found("!?") == found("'", '"', "a' | 'b") == []


def test_pages_of_a_file_are_imported_and_searched(store: PageStore, location: Location, tmp_path: Path) -> None:
    with contextlib.closing(PageStore(tmp_path / "other.db")) as other:
        save(other, new_page(text="A tower with a lamp.", links=(Link("/wiki/Sea", "sea", "The sea."),)))
        save(other, new_page(text="A tower with a bell."))
        save(other, new_page("/wiki/Lamp", "A lamp."))
    save(store, new_page("/wiki/Lamp", "Our lamp."))
    report = import_world(location, tmp_path / "other.db", theirs=True)
    assert (report.new, report.theirs) == ([KEY], ["/wiki/Lamp"])
    assert [version.number for version in store.history(KEY)] == [2, 1]
    assert [page.key for page in store.search("bell")] == [KEY]
    assert [version.number for version in store.history("/wiki/Lamp")] == [2, 1]
    save(store, new_page("/wiki/New", "Ids continue."))
    assert store.count() == 3


def test_training_examples_are_read(store: PageStore, location: Location) -> None:
    save(store, new_page())
    assert training_examples(location).left_out, "its prompt is not known"


# -- uploads ----------------------------------------------------------------------------------------------------------


@dataclass
class Note:
    id: int | None = None
    file: Upload | None = None
    more: list[Upload] = field(default_factory=list)


def test_a_file_is_stored_as_long_as_a_row_refers_to_it(location: Location) -> None:
    store = PageStore(location)
    notes = Table(Note)
    tables = Tables()
    tables.add(notes)
    tables.open(store.database)
    uploads = [Upload(key=digit * 32, name="a.png", media_type="image/png", size=3) for digit in "abc"]

    def save(connection: Connection) -> None:
        for upload in (*uploads, *uploads):  # the second time changes nothing
            save_upload(connection, upload.key, upload.media_type, b"\x00\xff\x80")
        delete_unreferenced(connection, [uploads[2].key, "f" * 32])

    def keys() -> set[str]:
        return {upload.key[0] for upload in uploads if get_upload(store.database, upload.key)}

    one, two = notes.insert(Note(file=uploads[0], more=uploads[:2])), notes.insert(Note(more=[uploads[1]]))
    store.database.write_sync(save)
    assert keys() == {"a", "b"}
    found = get_upload(store.database, uploads[0].key)
    assert found is not None and (found.media_type, found.content) == ("image/png", b"\x00\xff\x80")
    assert one.id is not None and two.id is not None
    notes.update(one.id, file=None)
    assert keys() == {"a", "b"}, "the row still has it in its list"
    notes.update(one.id, more=[])
    assert keys() == {"b"}
    assert not notes.delete(99) and notes.delete(two.id)
    assert keys() == set()
    store.close()
