"""Uploads: files of forms, from the browser to the database, the engine and back."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from starlette.datastructures import UploadFile
from starlette.testclient import TestClient
from tests.support.apps import browser, follow, make_app, templates
from tests.support.servers import served

from unwritten import App, BadApp, Canvas, ImageUpload, Page, Upload
from unwritten.export.static_site import export_site
from unwritten.export.world_file import copy_world
from unwritten.export.world_import import import_world
from unwritten.formats.uploads import media_type_of, safe_name
from unwritten.storage.pages import PageStore
from unwritten_engine import Engine, scripted
from unwritten_engine.scripted import ABOUT


def png(color: int = 0) -> bytes:
    """Return a PNG image of one pixel, with a comment."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes([0, color, color, color]))
    parts = (chunk(b"IHDR", header), chunk(b"tEXt", b"Author\0Ann"), chunk(b"IDAT", pixels), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@dataclass
class Photo:
    file: ImageUpload
    caption: str = ""
    others: list[Upload] = field(default_factory=list)
    id: int | None = None


TEMPLATE = """{% extends "layout.html" %}{% block main %}
{% block photos %}{% for photo in photos %}<img src="{{ file_url(photo.file) }}" alt="{{ photo.caption }}">
{{ words[photo.id] }}{% endfor %}{% endblock %}
<form {{ action("add") }}><input type="file" name="file"><input name="caption">
<input type="file" name="others" multiple>
{{ form.errors.file }}<button>Add</button></form>
<form {{ action("remove") }}><input name="id"><button>Remove</button></form>{% endblock %}"""


def make_album(home: Path, engine: Engine | None = None, **given: Any) -> App:
    app = make_app(home, engine or scripted("A photo."), folder=templates(home, album=TEMPLATE), **given)
    photos = app.table(Photo)

    @app.page("/")
    def album() -> Page:
        words = {photo.id: Canvas("Describe this photo.", images=[photo.file]) for photo in photos}
        return Page("album.html", photos=photos.select(), words=words)

    @app.action("/add")
    def add(file: ImageUpload, caption: str = "", others: list[Upload] = []) -> None:  # noqa: B006
        if caption == "fail":
            raise RuntimeError("The author's bug.")
        if caption != "drop":
            photos.insert(Photo(file, caption, others))

    @app.action("/remove")
    def remove(id: int) -> None:
        photos.delete(id)

    return app


def form_url(client: TestClient, name: str = "add", page: str = "/") -> str:
    (found,) = re.findall(rf'<form method="post" action="([^"]+)" data-action="/{name}"([^>]*)>', client.get(page).text)
    assert ("multipart/form-data" in found[1]) == (name != "remove")
    return str(found[0].replace("&amp;", "&"))


def send(client: TestClient, *files: tuple[str, tuple[str, bytes, str]], url: str = "", **fields: str) -> Any:
    return client.post(url or form_url(client), data=fields, files=list(files))


def stored(app: App) -> int:
    return int(app.site.store.database.read("SELECT count(*) FROM uploads")[0][0])


PHOTO = ("file", ("cat.png", png(), "image/png"))


@pytest.fixture
def album(tmp_path: Path) -> Iterator[tuple[App, TestClient]]:
    app = make_album(tmp_path)
    with browser(app) as client:
        yield app, client


def test_a_photo_is_stored_shown_and_given_to_the_model(tmp_path: Path) -> None:
    engine = scripted("A white cat.")
    app = make_album(tmp_path, engine)
    with browser(app) as client:
        assert send(client, PHOTO, caption="Cat").headers["location"] == "/"
        follow(client, "/")
        (request,) = engine.requests
        (image,) = request.prompt.images
        assert media_type_of(image) == "image/png" and b"Ann" not in image, "without metadata"
        html = client.get("/").text
        assert "A white cat." in html
        (url,) = re.findall(r'<img src="([^"]+)"', html)
        answer = client.get(url)
        assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, image, "image/png")
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
        assert answer.headers["content-disposition"] == "inline; filename*=UTF-8''cat.png"
        assert "private" in answer.headers["cache-control"]
        assert client.get(url, headers={"if-none-match": answer.headers["etag"]}).status_code == 304
        assert client.head(url).status_code == 200
        for other in (
            f"/_unwritten/file/{'0' * 32}/cat.png",
            "/_unwritten/file/../x",
            url.replace("/file/", "/file/x"),
        ):
            assert client.get(other).status_code == 404
        # The record of the prompt names the image.
        page = app.store.get("/")
        assert page is not None and re.findall("/file/([0-9a-f]{32})/", url)[0] in page.canvases["words-1"].prompt


def test_equal_files_are_stored_once_and_deleted_with_their_last_row(album: tuple[App, TestClient]) -> None:
    app, client = album
    extra = ("others", ("notes.txt", b"Some notes.", "text/plain"))
    for caption in ("one", "two"):
        send(client, PHOTO, extra, caption=caption)
    assert stored(app) == 2
    client.post(form_url(client, "remove"), data={"id": "1"})
    assert stored(app) == 2
    client.post(form_url(client, "remove"), data={"id": "2"})
    assert stored(app) == 0


def test_a_changed_row_releases_its_file(album: tuple[App, TestClient]) -> None:
    app, client = album
    send(client, PHOTO)
    (photos,) = app.tables
    send(client, ("file", ("dog.png", png(9), "image/png")))
    assert stored(app) == 2
    photos.update(1, file=photos.select()[1].file)
    assert stored(app) == 1
    photos.update(1, caption="The same file.")
    assert stored(app) == 1


def test_a_file_that_no_row_has_is_not_stored(album: tuple[App, TestClient]) -> None:
    app, client = album
    assert send(client, PHOTO, caption="drop").status_code == 303 and stored(app) == 0
    with pytest.raises(RuntimeError, match="author's bug"):
        send(client, PHOTO, caption="fail")
    assert stored(app) == 0


def test_a_form_that_is_sent_twice_is_handled_once(album: tuple[App, TestClient]) -> None:
    app, client = album
    url = form_url(client).removesuffix(".") + "k" * 16
    for _ in range(2):
        assert send(client, PHOTO, url=url).status_code == 303
    (photos,) = app.tables
    assert photos.count() == 1
    send(client, ("file", ("cat.png", png(7), "image/png")), url=url)  # other content is another form
    assert photos.count() == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [("cat.png", b"<script>alert(1)</script>"), ("cat.svg", b"<svg/>"), ("cat.gif", b"GIF89a....."), ("cat.png", b"")],
)
def test_what_is_not_an_image_is_refused_beside_the_field(
    album: tuple[App, TestClient], name: str, content: bytes
) -> None:
    app, client = album
    answer = send(client, ("file", (name, content, "image/png")), caption="Kept")
    assert answer.status_code == 422 and "A PNG, JPEG or WebP image, please." in answer.text
    assert stored(app) == 0


def test_a_field_without_a_file_is_empty(album: tuple[App, TestClient]) -> None:
    app, client = album
    body = (
        '--b\r\nContent-Disposition: form-data; name="file"; filename=""\r\n'
        "Content-Type: application/octet-stream\r\n\r\n\r\n--b--\r\n"
    )
    headers = {"content-type": "multipart/form-data; boundary=b"}
    answer = client.post(form_url(client), content=body, headers=headers)
    assert answer.status_code == 422 and "This is needed." in answer.text
    assert client.post(form_url(client), data={"file": "cat.png"}).status_code == 422, "a form without enctype"
    assert send(client, PHOTO, ("others", ("", b"", "application/octet-stream"))).status_code == 303
    (photos,) = app.tables
    assert photos.select()[0].others == []


def test_other_files_are_downloads(album: tuple[App, TestClient]) -> None:
    app, client = album
    page = ("others", ("../..\\evil\u202e.html", b"<script>alert(1)</script>", "text/html"))
    send(client, PHOTO, page)
    (photos,) = app.tables
    upload = photos.select()[0].others[0]
    assert (upload.name, upload.media_type, upload.size) == ("evil.html", "application/octet-stream", 25)
    answer = client.get(app.site.template_globals.file_url(upload))
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == "attachment; filename*=UTF-8''evil.html"
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("cat.png", "cat.png"),
        ("C:\\photos\\cat.png", "cat.png"),
        ("/etc/passwd", "passwd"),
        ("..", "file"),
        (".htaccess", "htaccess"),
        ("a\r\nb\0c\x1b.txt", "abc.txt"),
        ('a"<b>|c?.txt', "a__b__c_.txt"),
        ("\u202egnp.exe", "gnp.exe"),
        ("x" * 300 + ".jpeg", "x" * 95 + ".jpeg"),
        ("", "file"),
        ("Übung 灯.png", "Übung 灯.png"),
    ],
)
def test_names_of_files_are_sanitized(given: str, name: str) -> None:
    assert safe_name(given) == name


def test_files_are_limited(tmp_path: Path) -> None:
    app = make_album(tmp_path, upload_limit=0.05)
    with browser(app) as client:
        large = send(client, ("file", ("cat.png", png() + b"x" * 50_000, "image/png")))
        assert large.status_code == 413
        assert "Its files may have 0.05 MB together" in large.text
        many = send(client, *[("others", (f"{number}", b"x", "text/plain")) for number in range(21)])
        assert many.status_code == 413 and "more than 20 files" in many.text
        assert stored(app) == 0
        assert client.post(form_url(client, "remove"), files=[PHOTO]).status_code == 400, "it takes no files"
        other = client.post(form_url(client), files=[("caption", ("cat.png", png(), "image/png"))])
        assert other.status_code == 400 and "caption" in other.text


def test_another_site_cannot_send_files(album: tuple[App, TestClient]) -> None:
    app, client = album
    answer = client.post(form_url(client), files=[PHOTO], headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403 and stored(app) == 0


def test_an_expired_form_asks_for_the_files_again(album: tuple[App, TestClient]) -> None:
    app, client = album
    answer = client.post("/add?_page=/&_form=1.x.kkkkkkkk", data={"caption": "Kept"}, files=[PHOTO])
    assert answer.status_code == 403 and "Kept" in answer.text
    assert '<input id="file-1" type="file" name="file">' in answer.text and "multipart/form-data" in answer.text
    (url,) = re.findall(r'<form class="form" method="post" action="([^"]+)"', answer.text)
    assert send(client, PHOTO, url=url.replace("&amp;", "&"), caption="Kept").status_code == 303
    assert stored(app) == 1


def test_an_action_can_take_the_file_itself(tmp_path: Path) -> None:
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, f='<form {{ action("add") }}></form>'))
    taken: list[Any] = []

    @app.page("/")
    def front() -> Page:
        return Page("f.html")

    @app.action("/add")
    async def add(file: UploadFile, data: bytes, more: list[UploadFile], none: bytes | None = None) -> None:
        taken.extend([file.filename, await file.read(), data, len(more), none])

    with browser(app) as client:
        parts = [("file", ("a.txt", b"one")), ("data", ("b", b"two")), ("more", ("c", b"x")), ("more", ("d", b"y"))]
        assert client.post(form_url(client), files=parts).status_code == 303
        assert taken == ["a.txt", b"one", b"two", 2, None]
        assert stored(app) == 0


def test_an_engine_that_sees_no_images_is_an_error_at_once(tmp_path: Path) -> None:
    blind = replace(ABOUT, abilities=replace(ABOUT.abilities, images=False))
    app = make_app(tmp_path, scripted("Words.", about=blind))

    @app.page("/")
    def front() -> Canvas:
        return Canvas("Describe this photo.", images=[png()])

    with pytest.raises(BadApp, match=r"has images, which .* cannot see"), browser(app):
        pass
    seeing = make_album(tmp_path)
    with browser(seeing):
        assert seeing.supports("images")


def test_images_of_a_canvas_are_checked() -> None:
    with pytest.raises(BadApp, match="neither PNG, JPEG nor WebP"):
        Canvas("Describe this.", images=[b"text"])
    with pytest.raises(BadApp, match="takes a list"):
        Canvas("Describe this.", images=png())  # type: ignore[arg-type]


def test_uploads_are_copied_with_the_world(album: tuple[App, TestClient], tmp_path: Path) -> None:
    app, client = album
    send(client, PHOTO)
    follow(client, "/")
    assert isinstance(app.database, Path)
    for name, public in (("copy.db", False), ("public.db", True)):
        copy_world(app.database, tmp_path / name, public=public)
        store = PageStore(tmp_path / name)
        assert store.database.read("SELECT media_type FROM uploads") == [("image/png",)]
        store.close()
    assert import_world(tmp_path / "other.db", tmp_path / "copy.db").new == ["/"]


def test_an_export_has_the_files_of_its_pages(tmp_path: Path) -> None:
    app = make_album(tmp_path)
    with browser(app) as client:
        send(client, PHOTO)
        follow(client, "/")
    export_site(make_album(tmp_path, scripted(None)), tmp_path / "site")
    (image,) = re.findall(r'<img src="([^"]+\.png)"', (tmp_path / "site" / "index.html").read_text(encoding="utf-8"))
    assert media_type_of((tmp_path / "site" / image).read_bytes()) == "image/png"


def test_a_large_upload_is_refused_before_it_is_received(tmp_path: Path) -> None:
    """100 MB over a real connection, with and without a declared length: a page says why, and memory stays small."""
    import httpx2

    with served(make_album(tmp_path)) as host:
        address = f"http://{host}"
        page = httpx2.get(address, headers={"accept": "text/html"}).text
        (action,) = re.findall(r'<form method="post" action="([^"]+)" data-action="/add"', page)
        url = address + action.replace("&amp;", "&")
        headers = {"accept": "text/html", "content-type": "multipart/form-data; boundary=b"}
        start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="big.png"\r\n\r\n'
        size = 100_000_000
        sent = 0

        def body() -> Iterator[bytes]:
            nonlocal sent
            yield start
            for _ in range(size // 100_000):
                sent += 100_000
                yield b"x" * 100_000

        for declared in ({"content-length": str(len(start) + size)}, {}):
            sent = 0
            try:
                answer = httpx2.post(url, content=body(), headers={**headers, **declared})
            except httpx2.WriteError:  # the server has closed the connection
                assert sent < size
                continue
            assert sent <= size and answer.status_code == 413
            assert "Its files may have 10 MB together" in answer.text
