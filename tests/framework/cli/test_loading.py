"""Loading an app from a file, a folder or a module, and the messages when that fails."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.terminal import APP, message, unwritten, write

from unwritten import App
from unwritten.cli.loading import load_app
from unwritten.testing import Visitor

pytestmark = pytest.mark.usefixtures("home")


@pytest.fixture(autouse=True)
def imports() -> Iterator[None]:
    """Forget the modules that a test has imported."""
    before, path = dict(sys.modules), list(sys.path)
    yield
    sys.path[:] = path
    for name in sys.modules.keys() - before.keys():
        if name.partition(".")[0] in {"app", "pages", "site_of_test", "one", "two", "lamp", "people"}:
            del sys.modules[name]


def test_a_missing_file_is_an_error() -> None:
    write(APP, "wiki.py")
    assert message("run", "wiky.py") == "There is no file wiky.py. Did you mean 'wiki.py'?"
    assert message("run", "lib/wiki.py") == "There is no file lib/wiki.py: its folder lib does not exist."


def test_a_folder_loads_its_app_file() -> None:
    write(APP, "small/app.py")
    assert load_app("small").name == "Small"
    Path("empty").mkdir()
    assert message("run", "empty").startswith("The folder empty has no app.py.")


def test_an_app_may_have_several_files_with_relative_imports() -> None:
    write("from .people import NAME\nfrom unwritten import App\napp = App(NAME)\n", "one/app.py")
    write("from .people import NAME\nfrom unwritten import App\napp = App(NAME)\n", "two/app.py")
    write("NAME = 'First'\n", "one/people.py")
    write("NAME = 'Second'\n", "two/people.py")
    assert [load_app("one").name, load_app("two").name] == ["First", "Second"]
    write("NAME = 'Changed, and longer'\n", "one/people.py")
    assert load_app("one").name == "Changed, and longer", "the file is read again"


def test_a_file_that_is_not_python_is_an_error() -> None:
    write("hello", "notes/readme.txt")
    assert "is not a Python file" in message("run", "notes/readme.txt")


def test_a_file_without_an_app_is_an_error() -> None:
    write("x = 1\n", "empty.py")
    assert message("run", "empty.py").startswith("empty.py has no variable `app`. An app file needs at least:")
    write(APP.replace("app", "site").replace("App", "App"), "site.py")
    assert "It has `site`: name it after a colon, site.py:site" in message("run", "site.py")
    write("app = 'wiki'\n", "text.py")
    assert message("run", "text.py").startswith("`app` in text.py is a str, not an App of Unwritten.")


def test_another_name_goes_after_a_colon() -> None:
    write(APP.replace("app", "site"), "site.py")
    assert load_app("site.py:site").name == "Small"


def test_modules_are_found_in_the_current_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("", "package_of_test/__init__.py")
    write(APP, "package_of_test/small.py")
    assert load_app("package_of_test.small").name == "Small"
    assert message("run", "package_of_test.big").startswith("There is no module 'package_of_test.big' in this folder")
    write(APP, "lonely.py")
    assert message("run", "lonely_module_x").startswith("There is no module 'lonely_module_x' in this folder")


def test_a_syntax_error_is_shown_with_its_line_only() -> None:
    write("from unwritten import App\napp = App('x'\n", "broken.py")
    shown = message("run", "broken.py")
    assert "broken.py cannot be imported." in shown
    assert "line 2" in shown and "app = App('x'" in shown
    assert "importlib" not in shown and "Traceback" not in shown


def test_an_error_while_importing_is_shown_with_the_authors_lines_only() -> None:
    write("def lamp():\n    return 1 / 0\n", "lamp.py")
    write("from lamp import lamp\nlamp()\n", "raising.py")
    shown = message("run", "raising.py")
    assert 'raising.py", line 2' in shown and 'lamp.py", line 2' in shown
    assert shown.endswith("ZeroDivisionError: division by zero")
    assert "importlib" not in shown


def test_a_missing_package_is_named() -> None:
    write("import a_module_that_nobody_has\n", "needy.py")
    assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in message("run", "needy.py")


def test_a_wrong_setting_in_an_app_names_the_line() -> None:
    write("from unwritten import App\n\napp = App('x', prot=1)\n", "wrong.py")
    shown = message("run", "wrong.py")
    assert "App takes no argument 'prot'." in shown
    assert "wrong.py, line 3: app = App('x', prot=1)" in shown


def test_an_app_that_exits_is_an_error() -> None:
    write("import sys\nsys.exit(3)\n", "leaving.py")
    assert "ends the program when it is imported" in message("run", "leaving.py")


# -- apps of two files ------------------------------------------------------------------------------------------------

TWO_FILES = {
    "app imports pages": {
        "app.py": "from unwritten import App\napp = App('Two')\nimport pages\n",
        "pages.py": "from app import app\n@app.page('/wiki/{title}')\ndef article(title: str) -> str:\n"
        "    return f'About {title}.'\n",
    },
    "pages is imported first": {
        "app.py": "import pages\nfrom site_of_test import app\n",
        "pages.py": "from site_of_test import app\n@app.page('/wiki/{title}')\ndef article(title: str) -> str:\n"
        "    return f'About {title}.'\n",
        "site_of_test.py": "from unwritten import App\napp = App('Two')\n",
    },
    "pages imports the module": {
        "app.py": "from unwritten import App\n\napp = App('Two')\n\nimport pages\n",
        "pages.py": "import app\n\n@app.app.page('/wiki/{title}')\ndef article(title: str) -> str:\n"
        "    return f'About {title}.'\n",
    },
}


def write_files(files: dict[str, str], folder: str = ".") -> None:
    for name, text in files.items():
        write(text, f"{folder}/{name}")


@pytest.mark.parametrize("files", TWO_FILES.values(), ids=TWO_FILES)
def test_an_app_of_two_files_is_loaded_once(files: dict[str, str]) -> None:
    write_files(files)
    app = load_app("app.py")
    assert app is sys.modules["app"].app
    assert Visitor(app, {"": "It is a drink."}).visit("/wiki/Tea").state == "written"
    # Alone in a process: as uvicorn imports it, and in both orders.
    for code in ("from app import app", "import pages; from app import app", "import app, pages; app = app.app"):
        code += "; print([page.path for page in app.pages])"
        printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert printed.stdout == "['/wiki/{title}']\n"


def test_the_command_line_finds_pages_of_an_app_of_two_files() -> None:
    write_files(TWO_FILES["app imports pages"])
    command = [sys.executable, "-m", "unwritten", "get", "/nowhere", "--app", "app.py", "--engine", "none.gguf"]
    assert "none.gguf" in subprocess.run(command, capture_output=True, text=True).stderr
    doctor = unwritten("doctor", "--no-engine", "--app", "app.py")
    assert "ok    Two: 1 declared page;" in doctor.output


def test_a_module_that_was_imported_before_is_the_same_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    write_files(TWO_FILES["app imports pages"])
    import pages  # type: ignore[import-not-found]

    app = load_app("app.py")
    assert app is pages.app and len(app.pages) == 1


def test_two_apps_of_the_same_file_name_have_their_own_modules() -> None:
    for folder, name in (("one", "First"), ("two", "Second")):
        write_files(TWO_FILES["app imports pages"], folder)
        write(f"from unwritten import App\napp = App({name!r})\nimport pages\n", f"{folder}/app.py")
    first, second = load_app("one/app.py"), load_app("two/app.py")
    assert (first.name, second.name) == ("First", "Second")
    assert [len(app.pages) for app in (first, second)] == [1, 1]
    assert [page.path for page in load_app("one/app.py").pages] == ["/wiki/{title}"], "loaded again, with its own pages"


def test_an_app_in_a_package_has_the_name_of_the_package() -> None:
    write("", "site_of_test/__init__.py")
    write("from unwritten import App\napp = App('Package')\nfrom . import pages\n", "site_of_test/app.py")
    write(
        TWO_FILES["app imports pages"]["pages.py"].replace("from app", "from site_of_test.app"), "site_of_test/pages.py"
    )
    app = load_app("site_of_test/app.py")
    assert len(app.pages) == 1 and app is sys.modules["site_of_test.app"].app


def test_a_file_with_the_name_of_a_library_does_not_replace_it() -> None:
    import json

    write(APP, "json.py")
    write(APP, "click.py")
    write(APP, "my-app.py")
    assert [load_app(name).name for name in ("json.py", "click.py", "my-app.py")] == ["Small"] * 3
    assert sys.modules["json"] is json and hasattr(sys.modules["click"], "Command")


def test_an_app_that_is_imported_under_two_names_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path.cwd()))
    write("from unwritten import App\napp = App('Two')\nimport pages\n", "one/app.py")
    write("from one.app import app\n", "one/pages.py")
    shown = message("run", "one/app.py")
    assert "app.py was imported twice, as 'app' and as 'one.app', so there are two apps." in shown
    assert shown.endswith("from app import …")


def test_modules_that_import_each_other_too_early_get_a_hint() -> None:
    write("import pages\nfrom unwritten import App\napp = App('Two')\n")
    write("from app import app\n", "pages.py")
    assert "Create the app first, and import the other module below it." in message("run", "app.py")


def test_load_app_returns_an_app() -> None:
    write(APP)
    assert isinstance(load_app("app.py"), App)
