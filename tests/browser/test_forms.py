"""Forms in a browser: live updates for all visitors, errors, repeated forms and reconnection."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import expect
from pydantic import BaseModel
from tests.browser.tabs import OpenTab, Serve, Tab, until
from tests.support.apps import make_app, make_wiki, templates
from tests.support.forum import Post, make_forum

from unwritten import App, Canvas, ImageUpload, Page
from unwritten.storage.tables import Table
from unwritten_engine.scripted import Step, scripted

pytestmark = pytest.mark.browser


REPLY: list[Step] = [0.3, "Because ", "Because the sea ", "Because the sea is wide."]


def looking(tab: Tab, url: str) -> None:
    """Open a thread, and wait until the socket is subscribed to it."""
    tab.goto(url)
    until(lambda: tab.js("() => document.documentElement.dataset.live === ''"))


def sees(tab: Tab, region: str, words: str) -> None:
    """Wait until a region contains these words."""
    until(lambda: words in tab.text(region), 20)


def test_two_browsers_see_each_others_posts_and_the_same_reply(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(by_ask={"Why": REPLY, "How": "By boat."}, delay=0.05)
    app, posts = make_forum(tmp_path, engine)
    url = f"{serve(app)}/thread/1"
    ada, bo = open_tab(), open_tab()
    for tab in (ada, bo):
        looking(tab, url)
    bo.page.fill("#text", "Half a thought")
    ada.page.fill("#text", "Why is it blue?")
    ada.page.click("button:text('Post')")
    for tab in (ada, bo):
        sees(tab, "posts", "Why is it blue?")
        sees(tab, "replies-1", "the sea is wide.")
        tab.page.wait_for_selector("#region-replies-1[data-state=written]")
    assert ada.html("replies-1") == bo.html("replies-1")
    expect(ada.page.locator("#text"), "the sent form is empty").to_have_value("")
    assert bo.page.input_value("#text") == "Half a thought", "input of other visitors is kept"
    bo.page.fill("#text", "How do we get there?")
    bo.page.click("button:text('Post')")
    for tab in (ada, bo):
        sees(tab, "posts", "By boat.")
        assert tab.text("posts").index("the sea is wide") < tab.text("posts").index("By boat.")
    assert len(engine.requests) == 2 and posts.count() == 2
    assert ada.page.url == url and ada.loads("/thread/1") == 2, "the page itself was not reloaded"
    assert not [r for r in bo.requests if r.endswith("plain=1")]


def test_a_double_click_sends_a_form_once(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    url = serve(app)
    tab = open_tab()
    looking(tab, f"{url}/thread/1")
    tab.page.fill("#text", "Once")
    tab.page.dblclick("button:text('Post')")
    until(lambda: "Once" in tab.text("posts") and not tab.page.locator("form[aria-busy]").count())
    tab.page.fill("#text", "Once")  # a new form with the same text has its own key
    tab.page.click("button:text('Post')")
    until(lambda: tab.page.locator("#region-posts article").count() == 2)
    assert posts.count() == 2


def test_errors_are_shown_in_place_and_the_focus_stays(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    url = serve(app)
    tab = open_tab()
    looking(tab, f"{url}/thread/1")
    tab.js("() => { window.here = document.querySelector('#text'); }")
    tab.page.fill("#text", "x")
    tab.page.focus("#text")
    tab.js("() => document.querySelector('form[data-action]').requestSubmit()")
    expect(tab.page.locator("#error")).to_have_text("At least 2 characters, please.")
    assert tab.page.input_value("#text") == "x"
    assert tab.js("() => document.activeElement === window.here && window.here.isConnected")
    tab.page.fill("#text", "xyz")
    tab.page.click("button:text('Post')")
    until(lambda: "xyz" in tab.text("posts"))
    expect(tab.page.locator("#error")).to_have_count(0)
    expect(tab.page.locator("#text")).to_have_value("")
    assert posts.count() == 1


def test_a_refused_form_shows_the_error_and_can_be_resent(
    serve: Serve, open_tab: OpenTab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwritten.web.actions.MAX_FIELD_SIZE", 256)
    app, posts = make_forum(tmp_path, scripted("Words."))
    url = serve(app)
    tab = open_tab()
    tab.quiet = True
    looking(tab, f"{url}/thread/1")
    tab.page.fill("#text", "y" * 300)
    tab.page.click("button:text('Post')")
    expect(tab.page.locator("[data-form-error]")).to_contain_text("too large. It may have 256 B")
    assert tab.page.input_value("#text") == "y" * 300
    forge = "(form) => form.setAttribute('action', form.getAttribute('action').replace(/_form=./, '_form=0'))"
    tab.page.eval_on_selector("[data-action]", forge)
    tab.page.fill("#text", "Short")
    tab.page.click("button:text('Post')")
    until(lambda: "does not belong to the current version" in tab.page.inner_text("form[data-action]"))
    tab.page.click("button:text('Post')")
    until(lambda: "Short" in tab.text("posts"))
    expect(tab.page.locator("[data-form-error]")).to_have_count(0)
    assert posts.count() == 1


def test_a_reconnected_tab_shows_missed_posts(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, posts = make_forum(tmp_path, scripted("Words."))
    url = serve(app)
    tab, other = open_tab(), open_tab()
    tab.hold_sockets()
    looking(tab, f"{url}/thread/1")
    tab.sockets[-1].close()
    posts.insert(Post(thread=1, text="Meanwhile"))
    until(lambda: "Meanwhile" in tab.text("posts"))
    looking(other, f"{url}/thread/1")
    other.page.fill("#text", "And more")
    other.page.click("button:text('Post')")
    until(lambda: "And more" in tab.text("posts"))


def test_forms_work_without_javascript(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    engine = scripted(by_ask={"Why": REPLY}, delay=0.05)
    app, posts = make_forum(tmp_path, engine)
    url = serve(app)
    tab = open_tab(java_script_enabled=False)
    tab.page.goto(f"{url}/thread/1")
    tab.page.fill("#text", "x")
    tab.page.click("button:text('Post')")
    expect(tab.page.locator("#error")).to_have_text("At least 2 characters, please.")
    expect(tab.page.locator("#text")).to_have_value("x")
    tab.page.fill("#text", "Why?")
    tab.page.click("button:text('Post')")
    tab.page.wait_for_selector("#region-replies-1:has-text('the sea is wide')")
    assert posts.count() == 1 and len(engine.requests) == 1


def test_a_page_fetched_over_http_still_gets_live_updates(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, _ = make_forum(tmp_path, scripted(by_ask={"Why": "Because."}))
    url = f"{serve(app)}/thread/1"
    tab, other = open_tab(), open_tab()
    looking(tab, url)
    looking(other, url)
    other.page.fill("#text", "Why?")
    other.page.click("button:text('Post')")
    sees(tab, "replies-1", "Because.")
    # The message of a page whose last frames are missing: the whole page is fetched.
    tab.js("() => unwritten.receive({ type: 'page', page: '/thread/1', state: 'written' })")
    fetched = "() => performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('plain=1'))"
    until(lambda: tab.js(fetched))
    until(lambda: tab.events("page")[-1]["state"] == "written")
    other.page.fill("#text", "And then")
    other.page.click("button:text('Post')")
    sees(tab, "posts", "And then")
    assert "Because." in tab.text("replies-1")


class Item(BaseModel):
    """A row of a list, newest first."""

    id: int | None = None
    text: str
    done: bool = False
    size: str = "a"


LIST = """{% extends "layout.html" %}{% block main %}<form id="add" {{ action("add") }}><input name="text"></form>
{% block items %}<ul>{% for item in items %}<li>{{ item.text }}
<form {{ action("save", id=item.id) }}><input name="text" value="{{ item.text }}">
<label><input type="checkbox" name="done" value="true"{% if item.done %} checked{% endif %}> Done</label>
{% for size in "abc" %}<input type="radio" name="size" value="{{ size }}"{% if item.size == size %} checked{% endif %}>
{% endfor %}<details{% if item.done %} open{% endif %}><summary>More</summary>Text</details>
<button>Save</button></form></li>
{% endfor %}</ul>{% endblock %}{% endblock %}"""


def make_list(home: Path) -> tuple[App, Table[Item]]:
    app = make_app(home, scripted("Words."), folder=templates(home, list=LIST))
    items = app.table(Item, initial=[Item(text="one"), Item(text="two")])

    @app.page("/list")
    def show() -> Page:
        return Page("list.html", title="List", items=items.select(order="-id"))

    @app.action("/add")
    def add(text: str) -> None:
        items.insert(Item(text=text))

    @app.action("/save/{id}")
    def save(id: int, text: str, done: bool = False, size: str = "a") -> None:
        items.update(id, text=text, done=done, size=size)

    return app, items


def row(number: int) -> str:
    """Return the selector of the form of a row."""
    return f'form[data-action="/save/{number}"]'


def test_input_stays_in_its_row_while_others_add_rows(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, items = make_list(tmp_path)
    url = f"{serve(app)}/list"
    ada, bo = open_tab(), open_tab()
    for tab in (ada, bo):
        looking(tab, url)
    ada.page.check(f"{row(2)} [name=done]")
    ada.page.fill(f"{row(1)} [name=text]", "uno")
    bo.page.fill("#add input", "three")
    bo.page.press("#add input", "Enter")
    sees(ada, "items", "three")
    assert ada.page.input_value(f"{row(1)} [name=text]") == "uno"
    assert ada.page.locator("[name=done]:checked").count() == 1 and ada.page.is_checked(f"{row(2)} [name=done]")
    ada.page.keyboard.press("Enter")
    sees(bo, "items", "uno")
    assert [(item.id, item.text) for item in items] == [(1, "uno"), (2, "two"), (3, "three")]
    assert ada.page.is_checked(f"{row(2)} [name=done]"), "another form, not submitted"


def test_untouched_controls_follow_and_edited_ones_say_so(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, _ = make_list(tmp_path)
    url = f"{serve(app)}/list"
    ada, bo = open_tab(), open_tab()
    for tab in (ada, bo):
        looking(tab, url)
    one, two = row(1), row(2)
    ada.page.check(f"{one} [name=done]")
    ada.page.uncheck(f"{one} [name=done]")
    ada.page.fill(f"{two} [name=text]", "zwei")
    for size in "bab":
        bo.page.check(f"{one} [value={size}]")
        bo.page.click(f"{one} button")
        until(lambda size=size: ada.page.is_checked(f"{one} [value={size}]"))  # type: ignore[misc]
        until(lambda: not bo.page.locator("form[aria-busy]").count())
    bo.page.check(f"{one} [name=done]")
    bo.page.click(f"{one} button")
    until(lambda: ada.page.is_checked(f"{one} [name=done]"))
    assert ada.page.locator(f"{one} details[open]").count() == 1
    until(lambda: not bo.page.locator("form[aria-busy]").count())

    bo.page.fill(f"{two} [name=text]", "deux")
    bo.page.click(f"{two} button")
    sees(ada, "items", "deux")
    field = ada.page.locator(f"{two} [name=text]")
    assert field.input_value() == "zwei"
    until(lambda: field.get_attribute("data-changed-elsewhere") is not None)
    assert field.get_attribute("aria-description") == "Changed elsewhere to “deux”. Your input is kept."
    ada.page.click(f"{two} button")
    until(lambda: bo.page.input_value(f"{two} [name=text]") == "zwei")
    until(lambda: field.get_attribute("data-changed-elsewhere") is None)
    bo.page.fill(f"{two} [name=text]", "due")
    bo.page.click(f"{two} button")
    until(lambda: field.input_value() == "due")  # submitted, so untouched


def test_input_after_a_form_was_sent_is_kept(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    app, items = make_list(tmp_path)
    tab = open_tab()
    looking(tab, f"{serve(app)}/list")
    tab.page.fill("#add input", "three")
    tab.js("""() => {
      const field = document.querySelector("#add input");
      field.form.requestSubmit();
      field.value = "four";
    }""")
    sees(tab, "items", "three")
    until(lambda: not tab.page.locator("form[aria-busy]").count())
    assert tab.page.input_value("#add input") == "four" and items.count() == 3


ANSWERS = """{% extends "layout.html" %}{% block main %}<h1>{{ page.title }}</h1>
{% block items %}<ul>{% for item in items %}<li>{{ item.text }} <form {{ action("answer") }}>
<input type="hidden" name="id" value="{{ item.id }}"><input name="text"></form>
<form {{ action("rename", id=item.id) }}><input name="text" value="{{ item.text }}"></form></li>{% endfor %}</ul>
{% endblock %}{% endblock %}"""


def test_going_back_gives_input_to_no_other_row(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    """Browsers restore input by the order of the forms with the same address."""
    app = make_app(tmp_path, scripted("Words."), folder=templates(tmp_path, answers=ANSWERS))
    items = app.table(Item, initial=[Item(text="one"), Item(text="two")])

    @app.page("/answers")
    def show() -> Page:
        return Page("answers.html", title="Answers", items=items.select(order="-id"))

    @app.action("/answer")
    def answer(id: int, text: str) -> None: ...

    @app.action("/rename/{id}")
    def rename(id: int, text: str) -> None:
        items.update(id, text=text)

    url = serve(app)
    tab = open_tab(cdn=False)
    looking(tab, f"{url}/answers")
    tab.page.fill("li:last-child form:first-of-type [name=text]", "about one")
    tab.page.fill('form[data-action="/rename/1"] [name=text]', "uno")
    tab.goto(f"{url}/_unwritten/static/icon.svg")
    items.insert(Item(text="three"))
    tab.page.go_back()
    values = "() => [...document.querySelectorAll('li [name=text]')].map((field) => field.value)"
    until(lambda: tab.js(values) == ["", "three", "", "two", "", "uno"])


# -- uploads ----------------------------------------------------------------------------------------------------------

ALBUM = """{% extends "layout.html" %}{% block main %}<article class="page"><h1>Album</h1>
{% block photos %}{% for photo in photos %}
<img class="photo" src="{{ file_url(photo.file) }}" alt="{{ photo.caption }}">
<p>{{ words[photo.id] }}</p>{% endfor %}{% endblock %}
<form {{ action("add") }}><label>Photo <input type="file" name="file" id="file"></label>
<label>Caption <input name="caption" id="caption"></label> <span id="error">{{ form.errors.file }}</span>
<button>Add</button></form></article>{% endblock %}"""


class Photo(BaseModel):
    id: int | None = None
    file: ImageUpload
    caption: str


def make_album(home: Path) -> App:
    app = make_app(home, scripted("A red square."), folder=templates(home, album=ALBUM), upload_limit=1)
    photos = app.table(Photo)

    @app.page("/")
    def album() -> Page:
        words = {photo.id: Canvas("Describe it.", images=[photo.file]) for photo in photos}
        return Page("album.html", photos=photos.select(), words=words)

    @app.action("/add")
    def add(file: ImageUpload, caption: str) -> None:
        photos.insert(Photo(file=file, caption=caption))

    return app


def red_square() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), "red").save(file, "PNG")
    return file.getvalue()


@pytest.mark.parametrize("javascript", [True, False])
def test_a_photo_is_sent_and_shown(javascript: bool, serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    url = serve(make_album(tmp_path))
    tab = open_tab(java_script_enabled=javascript)
    tab.quiet = True
    tab.goto(url)
    page = tab.page
    chosen = {"name": "square.png", "mimeType": "image/png", "buffer": red_square()}
    page.fill("#caption", "A square")
    page.click("button:text('Add')")
    expect(page.locator("#error"), "a field without a file").to_have_text("This is needed.")
    page.set_input_files("#file", {**chosen, "buffer": b"not an image"})  # type: ignore[arg-type]
    page.click("button:text('Add')")
    expect(page.locator("#error")).to_have_text("A PNG, JPEG or WebP image, please.")
    if javascript:
        page.set_input_files("#file", {**chosen, "buffer": b"x" * 20_000_000})  # type: ignore[arg-type]
        page.click("button:text('Add')")
        expect(page.locator("[data-form-error]")).to_contain_text("Its files may have 1 MB together")
        assert page.input_value("#caption") == "A square", "the input is kept"
    page.set_input_files("#file", chosen)  # type: ignore[arg-type]
    page.fill("#caption", "A square")
    page.click("button:text('Add')")
    expect(page.locator("img.photo")).to_have_attribute("alt", "A square")
    until(lambda: tab.js("() => document.querySelector('img.photo')?.naturalWidth") == 40)
    expect(page.locator("#region-photos")).to_contain_text("A red square.")
    assert page.input_value("#file") == ""


def test_links_that_look_like_buttons_are_centred_for_touch(serve: Serve, open_tab: OpenTab, tmp_path: Path) -> None:
    tab = open_tab(viewport={"width": 390, "height": 800}, has_touch=True)
    tab.goto(f"{serve(make_wiki(tmp_path, scripted('Text.')))}/no/such/page")
    above, below = tab.js("""() => {
      const link = document.querySelector("a.button"), range = document.createRange();
      range.selectNodeContents(link);
      const [outer, inner] = [link, range].map((each) => each.getBoundingClientRect());
      return [inner.top - outer.top, outer.bottom - inner.bottom];
    }""")
    assert above > 5 and abs(above - below) <= 2, (above, below)
