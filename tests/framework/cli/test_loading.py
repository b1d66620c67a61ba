"""Finding an app: in a file, a folder or a module, and what is said when it is not there."""

import sys
from pathlib import Path

import pytest
from tests.support.terminal import APP, message, write

from unwritten.cli.loading import load_app

pytestmark = pytest.mark.usefixtures("home")


def test_a_file_that_is_not_there() -> None:
    write(APP, "wiki.py")
    assert message("run", "wiky.py") == "There is no file wiky.py. Did you mean 'wiki.py'?"
    assert message("run", "lib/wiki.py") == "There is no file lib/wiki.py: its folder lib does not exist."


def test_a_folder_stands_for_its_app() -> None:
    write(APP, "small/app.py")
    assert load_app("small").name == "Small"
    Path("empty").mkdir()
    assert message("run", "empty").startswith("The folder empty has no app.py.")


def test_an_app_of_several_files_says_where_they_are_with_a_dot() -> None:
    write("from .people import NAME\nfrom unwritten import App\napp = App(NAME)\n", "one/app.py")
    write("from .people import NAME\nfrom unwritten import App\napp = App(NAME)\n", "two/app.py")
    write("NAME = 'First'\n", "one/people.py")
    write("NAME = 'Second'\n", "two/people.py")
    assert [load_app("one").name, load_app("two").name] == ["First", "Second"]
    write("NAME = 'Changed, and longer'\n", "one/people.py")
    assert load_app("one").name == "Changed, and longer", "read again, not remembered"


def test_something_that_is_not_python() -> None:
    write("hello", "notes/readme.txt")
    assert "is not a Python file" in message("run", "notes/readme.txt")


def test_a_file_without_an_app() -> None:
    write("x = 1\n", "empty.py")
    assert message("run", "empty.py").startswith("empty.py has no variable `app`. An app file has at least:")
    write(APP.replace("app", "site").replace("App", "App"), "site.py")
    assert "It has `site`: name it after a colon, site.py:site" in message("run", "site.py")
    write("app = 'wiki'\n", "text.py")
    assert message("run", "text.py").startswith("`app` in text.py is a str, not an App of Unwritten.")


def test_another_name_goes_after_a_colon() -> None:
    write(APP.replace("app", "site"), "site.py")
    assert load_app("site.py:site").name == "Small"


def test_a_module_is_found_from_this_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    write("", "package_of_test/__init__.py")
    write(APP, "package_of_test/small.py")
    assert load_app("package_of_test.small").name == "Small"
    assert message("run", "package_of_test.big").startswith("There is no module 'package_of_test.big' here")
    write(APP, "lonely.py")
    assert message("run", "lonely_module_x").startswith("There is no module 'lonely_module_x' here")


def test_a_syntax_error_is_shown_with_its_line_and_nothing_of_ours() -> None:
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


def test_a_missing_import_of_the_author_is_theirs() -> None:
    write("import a_module_that_nobody_has\n", "needy.py")
    assert "ModuleNotFoundError: No module named 'a_module_that_nobody_has'" in message("run", "needy.py")


def test_a_wrong_setting_in_an_app_names_the_line() -> None:
    write("from unwritten import App\n\napp = App('x', prot=1)\n", "wrong.py")
    shown = message("run", "wrong.py")
    assert "'prot' is not known to Unwritten. Did you mean 'port'?" in shown
    assert "wrong.py, line 3: app = App('x', prot=1)" in shown


def test_an_app_that_ends_the_program() -> None:
    write("import sys\nsys.exit(3)\n", "leaving.py")
    assert "ends the program when it is imported" in message("run", "leaving.py")
