"""Load the app of a command: from a file, from a module, or from the demos."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

from unwritten_engine.errors import EngineError, suggestion

from ..app.application import App
from ..core.assets import asset_dir
from ..core.errors import NotAnApp, UnwrittenError
from ..core.tracebacks import error_reports, format_report

_IMPORTED: dict[Path, list[str]] = {}
"""The names of the modules that were imported with each app file in this process."""


# -- demos ------------------------------------------------------------------------------------------------------------


def all_demos() -> dict[str, str]:
    """Return every demo by name, with the first sentence of its docstring."""
    return {file.parent.name: _first_sentence(file) for file in sorted(asset_dir("demos").glob("*/app.py"))}


def find_demo(name: str) -> Path:
    """Return the ``app.py`` of a demo.

    Raises:
        NotAnApp: If there is no demo of that name.
    """
    names = all_demos()
    if name not in names:
        raise NotAnApp(f"There is no demo {name!r}.{suggestion(name, names)} All of them: unwritten demo")
    return asset_dir("demos") / name / "app.py"


def _first_sentence(file: Path) -> str:
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(text.partition("\n\n")[0].split())
    sentence, dot, _ = paragraph.partition(". ")
    return sentence + "." if dot else paragraph


# -- apps -------------------------------------------------------------------------------------------------------------


def load_app(target: str) -> App:
    """Import an app.

    A file is imported under the name that it has for ``uvicorn`` and for the app's other modules: ``app.py`` is the
    module ``app``, and its folder comes first on ``sys.path``. In a package it is ``package.app``. So
    ``from app import app`` in another module of the app is the same app.

    Args:
        target: A file (``app.py``), a folder with an ``app.py``, or a module (``package.module``). After a colon the
            name of the variable; the default is ``app``.

    Raises:
        NotAnApp: If it does not exist, cannot be imported, or is not an app. The message shows the author's own lines.
    """
    location, variable = _split(target)
    if is_file(target):
        file = app_file(target)
        return _app_in(_explain_errors(lambda: _import_file(file.resolve()), str(file)), variable, str(file))
    sys.path.insert(0, str(Path.cwd()))
    return _app_in(_explain_errors(lambda: _import_module(location), location), variable, location)


def is_file(target: str) -> bool:
    """True if a target names a file or folder, and not a module."""
    location, _ = _split(target)
    return location.endswith(".py") or "/" in location or "\\" in location or Path(location).is_dir()


def app_file(target: str) -> Path:
    """Return the file that a target names, without importing it.

    Raises:
        NotAnApp: If there is no such file.
    """
    location, _ = _split(target)
    file = Path(location)
    if file.is_dir():
        if not (file / "app.py").is_file():
            raise NotAnApp(f"The folder {file} has no app.py. Name the file: unwritten run {file}/FILE.py")
        return file / "app.py"
    if not file.is_file():
        if not file.parent.is_dir():
            raise NotAnApp(f"There is no file {file}: its folder {file.parent} does not exist.")
        others = [str(other) for other in file.parent.glob("*.py")]
        raise NotAnApp(f"There is no file {file}." + (suggestion(str(file), others) if others else ""))
    if file.suffix != ".py":
        raise NotAnApp(f"{file} is not a Python file. An app is a .py file with a variable `app`.")
    return file


def _split(target: str) -> tuple[str, str]:
    location, colon, variable = target.rpartition(":")
    # The colon of a Windows path ("C:\\app.py") is not followed by an identifier.
    return (location, variable) if colon and variable.isidentifier() else (target, "app")


def _app_in(module: ModuleType, variable: str, shown: str) -> App:
    """Return the app that a module holds in a variable."""
    found: Any = getattr(module, variable, None)
    if isinstance(found, App):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if found is not None:
        problem = f"`{variable}` in {shown} is {_with_article(type(found).__name__)}, not an App of Unwritten."
    else:
        problem = f"{shown} has no variable `{variable}`."
    if apps:
        raise NotAnApp(f"{problem} It has `{apps[0]}`: name it after a colon, {shown}:{apps[0]}")
    raise NotAnApp(f'{problem} An app file needs at least:  from unwritten import App;  app = App("My app")')


def _with_article(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"


# -- importing --------------------------------------------------------------------------------------------------------


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        hint = f" For a file, add .py: {name}.py" if Path(f"{name}.py").is_file() else ""
        raise NotAnApp(f"There is no module {name!r} in this folder ({Path.cwd()}).{hint}") from None


def _import_file(file: Path) -> ModuleType:
    parts, folder = _module_name(file)
    _forget_modules(file, folder, parts[0])
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    known = sys.modules.get(".".join(parts))
    if known is not None and _is_from(known, file):
        return known  # another module has imported it
    before = set(sys.modules)
    importlib.invalidate_caches()
    try:
        module = _execute(file, parts, folder)
    finally:
        new = set(sys.modules) - before
        _IMPORTED[file] = [name for name in new if _is_within(sys.modules.get(name), file.parent)]
    _check_imported_once(module, file, new)
    return module


def _module_name(file: Path) -> tuple[list[str], Path]:
    """Return the parts of a file's module name, and the folder that belongs on ``sys.path``.

    Folders with an ``__init__.py`` are packages. A folder without one is a package too if the file says
    ``from .module import``.
    """
    parts = [] if file.stem == "__init__" else [file.stem]
    folder = file.parent
    while (folder / "__init__.py").is_file():
        parts.insert(0, folder.name)
        folder = folder.parent
    if folder == file.parent and _has_relative_imports(file):
        parts.insert(0, re.sub(r"\W", "_", folder.name))
    return parts, folder


def _has_relative_imports(file: Path) -> bool:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return False  # importing it reports what is wrong
    return any(isinstance(node, ast.ImportFrom) and node.level for node in ast.walk(tree))


def _execute(file: Path, parts: list[str], folder: Path) -> ModuleType:
    is_regular = len(parts) == 1 or (file.parent / "__init__.py").is_file()
    if not all(part.isidentifier() for part in parts) or _is_taken(parts[0], folder):
        # A file such as json.py must not replace the module json, so it gets a name of its own.
        parts = [re.sub(r"\W", "_", part) for part in (f"_unwritten_app_{parts[0]}", *parts[1:])]
    elif is_regular:
        return importlib.import_module(".".join(parts))
    if len(parts) > 1:
        package = ModuleType(parts[0])
        package.__path__ = [str(file.parents[len(parts) - 2])]
        sys.modules[parts[0]] = package
    spec = importlib.util.spec_from_file_location(".".join(parts), file)
    if spec is None or spec.loader is None:
        raise NotAnApp(f"{file} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[spec.name]
        raise
    return module


def _is_taken(name: str, folder: Path) -> bool:
    """True if a top-level name belongs to Python, or to a module from elsewhere that is imported already."""
    if name in sys.stdlib_module_names:
        return True
    known = sys.modules.get(name)
    return known is not None and not any(_is_within(known, path) for path in (folder / f"{name}.py", folder / name))


def _forget_modules(file: Path, folder: Path, top: str) -> None:
    """Remove modules of apps that were loaded earlier in this process, so that this app gets its own.

    These are the modules of the same app, which is loaded again, and those of other apps whose names this one uses.
    """
    for loaded, names in _IMPORTED.items():
        for name in names:
            first = name.partition(".")[0]
            own = [path for path in (folder / f"{first}.py", folder / first) if path.exists()]
            is_own = any(_is_within(sys.modules.get(first), path) for path in own)
            if loaded == file or ((own or first == top) and not is_own):
                sys.modules.pop(name, None)


def _is_from(module: ModuleType, file: Path) -> bool:
    """True if a module was imported from a file."""
    return module.__name__ != "__main__" and Path(getattr(module, "__file__", None) or "").resolve() == file


def _is_within(module: ModuleType | None, path: Path) -> bool:
    """True if a module is this file, or is in this folder and is not an installed package."""
    places = [place for place in (getattr(module, "__file__", None), *getattr(module, "__path__", ())) if place]
    paths = [Path(place).resolve() for place in places]
    return any(one.is_relative_to(path) and "site-packages" not in one.relative_to(path).parts for one in paths)


def _check_imported_once(module: ModuleType, file: Path, names: set[str]) -> None:
    """Raise NotAnApp if the file was imported under a second name, which makes a second app."""
    for name in names:
        other = sys.modules.get(name)
        if other is not None and other is not module and _is_from(other, file):
            dots = "." if "." in module.__name__ else ""
            raise NotAnApp(
                f"{file.name} was imported twice, as {module.__name__!r} and as {name!r}, so there are two apps. "
                f"Import it by one name in the app's other modules: from {dots}{file.stem} import …"
            )


# -- errors -----------------------------------------------------------------------------------------------------------


def _explain_errors(importing: Callable[[], ModuleType], shown: str) -> ModuleType:
    """Import, and show errors with the author's own lines."""
    try:
        return importing()
    except NotAnApp:
        raise
    except (UnwrittenError, EngineError) as error:
        raise NotAnApp(f"{error}{_place_of(error)}") from error
    except SystemExit as error:
        raise NotAnApp(
            f'{shown} ends the program when it is imported. Put what starts a server under if __name__ == "__main__":'
        ) from error
    except Exception as error:
        error.__traceback__ = _from_author(error.__traceback__)
        hint = ""
        if isinstance(error, ImportError) and "partially initialized module" in str(error):
            hint = "\n\nTwo modules import each other. Create the app first, and import the other module below it."
        raise NotAnApp(f"{shown} cannot be imported.\n\n{format_report(error)}{hint}") from error


def _from_author(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without the frames that import the app."""
    while trace is not None and trace.tb_frame.f_globals.get("__name__", "").partition(".")[0] in {
        "unwritten",
        "importlib",
    }:
        trace = trace.tb_next
    return trace


def _place_of(error: BaseException) -> str:
    """Return the author's line that raised an error, as a line for a message."""
    locations = error_reports(error)[-1].locations
    if not locations:
        return ""
    text = next((line.text.strip() for line in locations[-1].lines if line.is_current), "")
    return f"\n  in {locations[-1].file}, line {locations[-1].line}: {text}"
