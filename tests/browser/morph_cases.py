"""Updates of a page in use: what a visitor did before, and what must hold after. Tests and the benchmark run them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_KEYS = itertools.count()


@dataclass(frozen=True)
class Case:
    """A page that is updated while it is used.

    Attributes:
        name: What happens.
        before: The HTML before.
        use: What the visitor does: statements with ``root``, ``find(selector)`` and ``type(selector, text)``.
        after: The HTML of each update.
        holds: JavaScript expressions that must be true after the last one, with ``root``, ``find`` and what ``use`` has
            stored in ``kept``.
    """

    name: str
    before: str
    use: str
    after: tuple[str, ...]
    holds: tuple[str, ...]


# -- rows ---------------------------------------------------------------------------------------------------------

Form = Callable[[str], str]


def action_form(row: str) -> str:
    """Return the form of a row as ``action()`` writes it. Its address differs in each response."""
    return (
        f'<form method="post" action="/row/{row}?_form=x.{next(_KEYS)}" data-action="/row/{row}">'
        '<input name="text"><input type="checkbox" name="tick"><button>Save</button></form>'
    )


def hidden_form(row: str) -> str:
    return (
        f'<form action="/save"><input type="hidden" name="id" value="{row}">'
        '<input name="text"><input type="checkbox" name="tick"><button>Save</button></form>'
    )


def same_form(row: str) -> str:
    """Return a form that is the same in all rows."""
    return '<form action="/save"><input name="text"><input type="checkbox" name="tick"><button>Save</button></form>'


def no_form(row: str) -> str:
    return '<input><input type="checkbox">'


def keyed_rows(tag: str, attribute: str, texts: dict[str, str]) -> str:
    """Return rows without forms, each with its key in this attribute."""
    rows = (f'<{tag} {attribute}="{key}" class="row">{text} {no_form(text)}</{tag}>' for key, text in texts.items())
    return "".join(rows)


FORMS: dict[str, Form] = {"action": action_form, "hidden fields": hidden_form, "same": same_form, "none": no_form}

Rows = Callable[[list[tuple[str, str]], Form], str]
"""Renders rows: their names with their texts."""


def in_list(rows: list[tuple[str, str]], form: Form) -> str:
    return "<ul>\n" + "".join(f'<li class="row">{text} {form(name)}</li>\n' for name, text in rows) + "</ul>"


def in_divs(rows: list[tuple[str, str]], form: Form) -> str:
    return "".join(
        f'<div class="row"><div><p>{text}</p></div><div><div>{form(name)}</div></div></div>' for name, text in rows
    )


def in_table(rows: list[tuple[str, str]], form: Form) -> str:
    cells = "".join(f'<tr class="row">\n<td>{text}</td>\n<td>{form(name)}</td>\n</tr>\n' for name, text in rows)
    return f"<table><thead><tr><th>Name</th><th>Form</th></tr></thead><tbody>{cells}</tbody></table>"


def in_definitions(rows: list[tuple[str, str]], form: Form) -> str:
    return (
        "<dl>" + "".join(f'<dt>{text}</dt><dd class="row">{text}: {form(name)}</dd>' for name, text in rows) + "</dl>"
    )


def nested(rows: list[tuple[str, str]], form: Form) -> str:
    """Render rows in lists of two."""
    inner = (in_list(rows[start : start + 2], form) for start in range(0, len(rows), 2))
    return "<ul>" + "".join(f"<li>Part {part}{items}</li>" for part, items in enumerate(inner)) + "</ul>"


LAYOUTS: dict[str, Rows] = {"ul": in_list, "div": in_divs, "table": in_table, "dl": in_definitions}

_ROW = "[...root.querySelectorAll('.row')].find((row) => row.textContent.includes('{0}'))"

_USE = (
    f"kept.row = {_ROW.format('two')}; kept.field = kept.row.querySelector('input:not([type])'"
    " + ', input[name=text]'); kept.box = kept.row.querySelector('[type=checkbox]');"
    " kept.field.focus(); kept.field.value = 'my text'; kept.field.setSelectionRange(2, 4); kept.box.checked = true;"
)
_KEPT = (
    "kept.field.isConnected && kept.field.value === 'my text'",
    "document.activeElement === kept.field && kept.field.selectionStart === 2 && kept.field.selectionEnd === 4",
    "kept.box.isConnected && kept.box.checked",
    "[...root.querySelectorAll('input')].every((i) => i === kept.field || i === kept.box || !(i.checked"
    " || i.value === 'my text'))",
)

_ONE, _TWO, _THREE, _FOUR = ("r1", "Row one"), ("r2", "Row two"), ("r3", "Row three"), ("r4", "Row four")
_CHANGED = ("r2", "Row two, and more")

_CHANGES: dict[str, tuple[list[tuple[str, str]], list[tuple[str, str]]]] = {
    "insert at the top": ([_TWO, _ONE], [_THREE, _TWO, _ONE]),
    "insert many at the top": ([_TWO, _ONE], [*((f"n{n}", f"New {n}") for n in range(20)), _TWO, _ONE]),
    "delete the first": ([_ONE, _TWO, _THREE], [_TWO, _THREE]),
    "delete in the middle": ([_TWO, _ONE, _THREE], [_TWO, _THREE]),
    "reverse": ([_ONE, _TWO, _THREE, _FOUR], [_FOUR, _THREE, _TWO, _ONE]),
    "move to the end": ([_TWO, _ONE, _THREE], [_ONE, _THREE, _TWO]),
    "replace another": ([_ONE, _TWO], [_THREE, _TWO]),
    "replace the others": ([_ONE, _TWO, _THREE], [_FOUR, ("r5", "Row five"), _TWO, ("r6", "Row six")]),
}


def _row_cases() -> Iterator[Case]:
    for layout, render in LAYOUTS.items():
        for kind, form in FORMS.items():
            for change, (before, after) in _CHANGES.items():
                holds = (*_KEPT, f"kept.field.closest('.row') === {_ROW.format('two')}")
                yield Case(
                    f"{change}, {layout}, form: {kind}", render(before, form), _USE, (render(after, form),), holds
                )
            if kind in ("action", "hidden fields"):
                edited = render([_THREE, _CHANGED], form), render([_CHANGED, _THREE], form)
                yield Case(f"edit and sort, {layout}, form: {kind}", render([_ONE, _TWO], form), _USE, edited, _KEPT)
            # Deleted, and another in its place: the input is gone with its row, and in no other.
            gone = (
                "!kept.row.isConnected",
                "[...root.querySelectorAll('input')].every((i) => !i.checked && i.value !== 'my text')",
            )
            fresh = render([_ONE, _FOUR], form)
            yield Case(f"replace the row, {layout}, form: {kind}", render([_ONE, _TWO], form), _USE, (fresh,), gone)
            if kind in ("action", "hidden fields"):
                fresh = render([("r4", "Row two")], form)
                yield Case(
                    f"replace by the same text, {layout}, form: {kind}", render([_TWO], form), _USE, (fresh,), gone
                )
    for kind, form in FORMS.items():
        yield Case(
            f"insert at the top, nested, form: {kind}",
            nested([_ONE, _TWO, _THREE], form),
            _USE,
            (nested([_FOUR, _ONE, _TWO, _THREE], form),),
            _KEPT[3:] if kind in ("same", "none") else _KEPT,
        )


_LISTS = "<h2>Open</h2>{0}<h2>Done</h2>{1}"


def _each(template: str, names: str) -> str:
    return "".join(template.format(name) for name in names.split())


_MORE = (
    Case(
        "a row moves to another list",
        _LISTS.format(in_list([_ONE, _TWO], action_form), in_list([_THREE], action_form)),
        _USE,
        (_LISTS.format(in_list([_ONE], action_form), in_list([_TWO, _THREE], action_form)),),
        (*_KEPT, "root.querySelectorAll('ul')[1].contains(kept.field)"),
    ),
    Case(
        "a form gets a new element around it",
        f'<div class="row">Row two {action_form("r2")}</div>',
        _USE,
        (f'<div class="row">Row two <section><div>{action_form("r2")}</div></section></div>',),
        (*_KEPT, "root.querySelector('section').contains(kept.field)"),
    ),
    Case(
        "two identical forms, the second in use",
        f'<p class="row">First {same_form("")}</p>'.replace("p", "div", 1)
        + f'<div class="row">two {same_form("")}</div>',
        _USE,
        ("".join(f'<div class="row">{text} {same_form("")}</div>' for text in ("New", "First", "two")),),
        _KEPT,
    ),
    Case(
        "rows with data-key",
        keyed_rows("li", "data-key", {"1": "one", "2": "two"}),
        _USE,
        (keyed_rows("li", "data-key", {"3": "two", "2": "zwei", "1": "eins"}),),
        (*_KEPT, "kept.row.dataset.key === '2' && kept.row.textContent.includes('zwei')"),
    ),
    Case(
        "rows with ids, and their texts change",
        keyed_rows("div", "id", {"r1": "one", "r2": "two"}),
        _USE,
        (keyed_rows("div", "id", {"r3": "two", "r2": "zwei", "r1": "eins"}),),
        (*_KEPT, "kept.row.id === 'r2' && kept.row.textContent.includes('zwei')"),
    ),
    Case(
        "opened details in sorted rows",
        "".join(f"<details><summary>{name}</summary><p>About {name}.</p></details>" for name in ("one", "two")),
        "find('details:nth-of-type(2)').open = true; kept.row = find('details:nth-of-type(2)');",
        (
            "".join(
                f"<details><summary>{name}</summary><p>About {name}, again.</p></details>"
                for name in ("three", "two", "one")
            ),
        ),
        (
            "kept.row.open && kept.row.isConnected",
            "kept.row.textContent.includes('two')",
            "root.querySelectorAll('details[open]').length === 1",
        ),
    ),
    Case(
        "a frame stays loaded when rows are sorted",
        "".join(
            f'<li class="row">{name} <iframe srcdoc="{name}" src="about:blank#{name}"></iframe></li>'
            for name in ("one", "two", "three")
        ),
        "kept.frames = [...root.querySelectorAll('iframe')];"
        " for (const frame of kept.frames) frame.contentWindow.mine = true;",
        (
            "".join(
                f'<li class="row">{name} <iframe srcdoc="{name}" src="about:blank#{name}"></iframe></li>'
                for name in ("four", "two", "one", "three")
            ),
        ),
        ("kept.frames.every((frame) => frame.isConnected && frame.contentWindow.mine)",),
    ),
    Case(
        "edited text in sorted rows",
        _each("<div class='row'>{0}<div contenteditable>text</div></div>", "one two"),
        "kept.host = root.querySelectorAll('[contenteditable]')[1]; kept.host.focus();"
        " kept.host.dispatchEvent(new InputEvent('beforeinput', { bubbles: true })); kept.host.textContent = 'mine';",
        (_each("<div class='row'>{0}<div contenteditable>text</div></div>", "three two one"),),
        (
            "kept.host.isConnected && kept.host.textContent === 'mine'",
            "kept.host.parentNode.textContent.startsWith('two') && document.activeElement === kept.host",
        ),
    ),
    Case(
        "a group of radio buttons over rows",
        _each("<li class='row'>{0} <input type='radio' name='r' value='{0}'></li>", "one two"),
        "kept.radio = find('[value=two]'); kept.radio.click();",
        (_each("<li class='row'>{0} <input type='radio' name='r' value='{0}'></li>", "three two one"),),
        ("kept.radio.isConnected && kept.radio.checked", "root.querySelectorAll(':checked').length === 1"),
    ),
    Case(
        "drawings and players in sorted rows",
        _each("<li>{0} <canvas width='3'></canvas><video src='/{0}'></video></li>", "one two"),
        "kept.row = root.querySelectorAll('li')[1]; kept.parts = [...kept.row.children];",
        (_each("<li>{0} <canvas width='3'></canvas><video src='/{0}'></video></li>", "three two one"),),
        ("kept.parts.every((part) => part.isConnected && part.parentNode.textContent.startsWith('two'))",),
    ),
    Case(
        "scroll positions stay when rows are sorted",
        "".join(
            f'<pre class="row" style="height: 40px; overflow: auto">{name}{chr(10) * 30}.</pre>'
            for name in ("one", "two")
        ),
        "kept.row = find('pre:nth-of-type(2)'); kept.row.scrollTop = 50;",
        (
            "".join(
                f'<pre class="row" style="height: 40px; overflow: auto">{name}{chr(10) * 30}.</pre>'
                for name in ("three", "two", "one")
            ),
        ),
        ("kept.row.isConnected && kept.row.scrollTop === 50 && kept.row.textContent.includes('two')",),
    ),
)

ROWS: tuple[Case, ...] = (*_row_cases(), *_MORE)
"""Rows that are inserted, removed, sorted and edited around the row that the visitor uses."""


# -- controls -----------------------------------------------------------------------------------------------------


def radios(chosen: str, names: str = "abc") -> str:
    return (
        "<form>"
        + "".join(
            f'<label><input type="radio" name="r" value="{n}"{" checked" * (n == chosen)}> {n}</label>' for n in names
        )
        + "</form>"
    )


def menu(chosen: str, names: str = "abc", attributes: str = "") -> str:
    options = "".join(f'<option value="{n}"{" selected" * (n in chosen.split())}>{n}</option>' for n in names)
    return f'<form><select name="s" {attributes}>{options}</select></form>'


def box(checked: bool) -> str:
    return f'<form><input type="checkbox" name="c"{" checked" * checked}></form>'


def field(value: str, attributes: str = "") -> str:
    return f'<form><input name="t" {attributes} value="{value}"></form>'


_CHOSEN = "[...root.querySelectorAll('[type=radio]')].filter((r) => r.checked).map((r) => r.value).join()"
_SELECTED = "[...find('select').selectedOptions].map((o) => o.value).join()"
_HINT = "find('[data-changed-elsewhere]')?.getAttribute('aria-description').startsWith('Changed elsewhere')"
_NO_HINT = "!find('[data-changed-elsewhere], [aria-description]')"

_VALUES = {
    "text": ("old", "new", "mine"),
    "number": ("1", "2", "3"),
    "date": ("2020-01-01", "2021-01-01", "2022-02-02"),
    "time": ("10:00", "11:00", "12:00"),
    "range": ("10", "20", "30"),
    "color": ("#000001", "#000002", "#000003"),
    "email": ("a@b.c", "b@b.c", "c@b.c"),
    "search": ("old", "new", "mine"),
}


def _control_cases() -> Iterator[Case]:
    for kind, (old, new, mine) in _VALUES.items():
        of = f'type="{kind}"'
        before, after, back = field(old, of), field(new, of), field(old, of)
        yield Case(f"{kind}: untouched, follows", before, "", (after,), (f"find('input').value === '{new}'", _NO_HINT))
        yield Case(
            f"{kind}: used and set back, follows", before,
            f"type('input', '{mine}'); type('input', '{old}');", (after, back, after),
            (f"find('input').value === '{new}'", _NO_HINT),
        )  # fmt: skip
        yield Case(
            f"{kind}: edited, keeps the input and says so", before, f"type('input', '{mine}');", (after,),
            (f"find('input').value === '{mine}'", _HINT),
        )  # fmt: skip
        yield Case(
            f"{kind}: edited, and saved elsewhere to the same value", before, f"type('input', '{mine}');",
            (after, field(mine, of), field(old, of)), (f"find('input').value === '{old}'", _NO_HINT),
        )  # fmt: skip
        yield Case(
            f"{kind}: the value of the server is removed", before, "", ("<form><input name='t' " + of + "></form>",),
            ("find('input').value === Object.assign(document.createElement('input'), { type: '" + kind + "' }).value",),
        )  # fmt: skip
    yield Case(
        "color without a value: is not touched", '<form><input type="color" name="t"></form>', "",
        (field("#123456", 'type="color"'),), ("find('input').value === '#123456'", _NO_HINT),
    )  # fmt: skip
    yield Case(
        "range without a value: is not touched", '<form><input type="range" name="t"></form>', "",
        (field("7", 'type="range"'),), ("find('input').value === '7'", _NO_HINT),
    )  # fmt: skip
    yield Case(
        "an untouched field with the focus follows, and the caret stays", field("one two three"),
        "find('input').focus(); find('input').setSelectionRange(13, 13);", (field("one and two three"),),
        ("find('input').value === 'one and two three'", "find('input').selectionStart === 17",
         "document.activeElement === find('input')"),
    )  # fmt: skip
    area = "<form><textarea name='t'>{0}</textarea></form>"
    yield Case("textarea: follows", area.format("old"), "type('textarea', 'x'); type('textarea', 'old');",
               (area.format("new"),), ("find('textarea').value === 'new'", _NO_HINT))  # fmt: skip
    yield Case("textarea: keeps", area.format("old"), "type('textarea', 'mine');", (area.format("new"),),
               ("find('textarea').value === 'mine'", _HINT))  # fmt: skip
    yield Case("checkbox: untouched, follows", box(False), "", (box(True), box(False), box(True)),
               ("find('input').checked", _NO_HINT))  # fmt: skip
    yield Case("checkbox: ticked and unticked, follows", box(False), "find('input').click(); find('input').click();",
               (box(True), box(False), box(True)), ("find('input').checked", _NO_HINT))  # fmt: skip
    yield Case("checkbox: ticked, keeps", box(False), "find('input').click();", ("<p>x</p>" + box(False),),
               ("find('input').checked", _NO_HINT))  # fmt: skip
    yield Case("checkbox: unticked while it is saved as ticked again", box(True), "find('input').click();",
               (box(True) + "<p>x</p>",), ("!find('input').checked", _NO_HINT))  # fmt: skip
    yield Case("radio: b, a, b", radios("a"), "", (radios("b"), radios("a"), radios("b")), (f"{_CHOSEN} === 'b'",))
    yield Case("radio: used and set back, b, a, b", radios("a"),
               "find('[value=c]').click(); find('[value=a]').click();", (radios("b"), radios("a"), radios("b")),
               (f"{_CHOSEN} === 'b'", _NO_HINT))  # fmt: skip
    yield Case("radio: chosen, keeps and says so", radios("a"), "find('[value=c]').click();",
               (radios("b"), radios("a"), radios("b")), (f"{_CHOSEN} === 'c'", _HINT))  # fmt: skip
    yield Case("radio: none at first", radios(""), "", (radios("b"), radios(""), radios("c")), (f"{_CHOSEN} === 'c'",))
    yield Case("radio: sorted, new ones", radios("a"), "find('[value=c]').click();", (radios("x", "xcba"),),
               (f"{_CHOSEN} === 'c'",))  # fmt: skip
    yield Case("radio: the new one is chosen", radios("a"), "", (radios("x", "xcba"),), (f"{_CHOSEN} === 'x'",))
    yield Case("radio: the chosen one is removed", radios("a"), "find('[value=c]').click();", (radios("b", "ab"),),
               (f"{_CHOSEN} === 'b'",))  # fmt: skip
    yield Case("radio: groups of two forms", radios("a") + radios("b"), "find('form + form [value=c]').click();",
               (radios("c") + radios("a"),), (f"{_CHOSEN} === 'c,c'",))  # fmt: skip
    for attributes, size in (("", "menu"), ('size="3"', "list")):
        yield Case(f"{size}: follows", menu("a", "abc", attributes), "",
                   tuple(menu(chosen, "abc", attributes) for chosen in "bab"),
                   (f"{_SELECTED} === 'b'", _NO_HINT))  # fmt: skip
        yield Case(f"{size}: used and set back, follows", menu("a", "abc", attributes),
                   "find('select').value = 'c'; find('select').value = 'a';", (menu("b", "abc", attributes),),
                   (f"{_SELECTED} === 'b'", _NO_HINT))  # fmt: skip
        yield Case(f"{size}: chosen, keeps and says so", menu("a", "abc", attributes), "find('select').value = 'c';",
                   (menu("b", "dcba", attributes),), (f"{_SELECTED} === 'c'", _HINT))  # fmt: skip
        yield Case(f"{size}: the chosen option is removed", menu("a", "abc", attributes), "find('select').value = 'c';",
                   (menu("b", "ab", attributes),), (f"{_SELECTED} === 'b'",))  # fmt: skip
    yield Case("menu: nothing selected by the server", menu(""), "", (menu("b"), menu("")), (f"{_SELECTED} === 'a'",))
    yield Case("menu: an option at the top", menu(""), "find('select').value = 'b';", (menu("", "zabc"),),
               (f"{_SELECTED} === 'b'",))  # fmt: skip
    many = "multiple"
    yield Case("multiple: follows", menu("a", "abc", many), "",
               tuple(menu(chosen, "abc", many) for chosen in ("b c", "a", "b c")),
               (f"{_SELECTED} === 'b,c'",))  # fmt: skip
    yield Case("multiple: keeps", menu("a", "abc", many), "find('[value=b]').selected = true;",
               (menu("c", "abc", many),),
               (f"{_SELECTED} === 'a,b'", _HINT))  # fmt: skip
    details = "<details{0}><summary>More</summary><p>Text {1}</p></details>"
    yield Case("details: follows", details.format("", 1), "",
               (details.format(" open", 2), details.format("", 3), details.format(" open", 4)),
               ("find('details').open",))  # fmt: skip
    yield Case("details: opened by the visitor, stays open", details.format("", 1), "find('summary').click();",
               (details.format("", 2),), ("find('details').open",))  # fmt: skip
    yield Case("details: closed by the visitor, stays closed", details.format(" open", 1), "find('summary').click();",
               (details.format(" open", 2),), ("!find('details').open",))  # fmt: skip
    yield Case("details: opened and closed, follows", details.format("", 1),
               "find('summary').click(); find('summary').click();", (details.format(" open", 2),),
               ("find('details').open",))  # fmt: skip
    dialog = "<dialog><p>Text {0}</p><button>Close</button></dialog>"
    yield Case("dialog: shown by a script, stays", dialog.format(1), "find('dialog').showModal();", (dialog.format(2),),
               ("find('dialog').open && find('dialog').matches(':modal')",))  # fmt: skip
    yield Case("disabled: follows", field("a"), "type('input', 'mine');", (field("a", "disabled"),),
               ("find('input').disabled && find('input').value === 'mine'",))  # fmt: skip
    editable = "<div contenteditable='true'>{0}</div><p>{1}</p>"
    yield Case("editable: untouched, follows", editable.format("old", 1), "", (editable.format("new", 2),),
               ("find('div').textContent === 'new'",))  # fmt: skip
    yield Case("editable: edited, keeps and says so", editable.format("old", 1),
               "find('div').dispatchEvent(new InputEvent('beforeinput', { bubbles: true }));"
               " find('div').textContent = 'my old';", (editable.format("new", 2),),
               ("find('div').textContent === 'my old'", _HINT))  # fmt: skip


CONTROLS: tuple[Case, ...] = tuple(_control_cases())
"""Controls whose value the server changes, before and after the visitor has used them."""

RUN = """([before, use, after, holds, morph]) => {
  const root = document.querySelector("main"), kept = {};
  root.innerHTML = before;
  const find = (selector) => root.querySelector(selector);
  const type = (selector, text) => {
    find(selector).value = text;
    find(selector).dispatchEvent(new Event("input", { bubbles: true }));
  };
  new Function("root", "find", "type", "kept", use)(root, find, type, kept);
  for (const html of after) window.morphs[morph](root, html);
  const fails = holds.filter((check) => {
    try { return !new Function("root", "find", "kept", `return (${check})`)(root, find, kept); } catch { return true; }
  });
  const clean = (node) => {
    const copy = node.cloneNode(true);
    for (const e of copy.querySelectorAll("*"))
      for (const name of ["open", "data-changed-elsewhere", "aria-description"]) e.removeAttribute(name);
    copy.normalize();
    return copy;
  };
  const wanted = document.createElement("main");
  wanted.innerHTML = after.at(-1);
  if (!find("[contenteditable]") && !clean(root).isEqualNode(clean(wanted))) {
    fails.push("the HTML is that of the last update: " + clean(root).innerHTML);
  }
  return fails;
}"""
"""Runs a case. Arguments: its parts, and the name of a function in ``window.morphs``. Returns what does not hold."""
