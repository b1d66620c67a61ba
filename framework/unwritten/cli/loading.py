"""Find the app that a command is about: in a file, in a module, or among the demos."""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from unwritten_engine.errors import EngineError, suggestion

from ..app.application import App
from ..core.errors import NotAnApp, UnwrittenError

_OURS = Path(__file__).resolve().parents[1]


def load_app(target: str) -> App:
    """Import an app.

    Args:
        target: a file (``app.py``), a folder with an ``app.py``, or a module (``package.module``); after a
            colon the name of the variable, ``app`` if there is none.

    Raises:
        NotAnApp: if it is not there, cannot be imported, or is not an app; the message shows the author's own
            lines and none of ours.
    """
    place, variable = _split(target)
    if is_file(target):
        file = app_file(target)
        module = _run(lambda: _import_file(file), str(file))
        shown = str(file)
    else:
        sys.path.insert(0, str(Path.cwd()))
        module = _run(lambda: _import_module(place), place)
        shown = place
    return _take(module, variable, shown)


def is_file(target: str) -> bool:
    """Whether a target names a file or folder, and not a module."""
    place, _ = _split(target)
    return place.endswith(".py") or "/" in place or "\\" in place or Path(place).is_dir()


def app_file(target: str) -> Path:
    """The file that a target names, without importing it.

    Raises:
        NotAnApp: if there is no such file.
    """
    place, _ = _split(target)
    file = Path(place)
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
    place, colon, variable = target.rpartition(":")
    # A colon that is part of a Windows path ("C:\\app.py") does not come before a name.
    return (place, variable) if colon and variable.isidentifier() else (target, "app")


def _import_file(file: Path) -> ModuleType:
    # A name of its own: a file that is called json.py must not take the place of another module. And a package around
    # it: an app of several files may say ``from .people import PEOPLE``.
    file = file.resolve()
    package = re.sub(r"\W", "_", f"_unwritten_app_{file.parent.name}")
    name = f"{package}.{re.sub(r'[.-]', '_', file.stem)}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise NotAnApp(f"{file} cannot be imported.")
    module = importlib.util.module_from_spec(spec)
    around = ModuleType(package)
    around.__path__ = [str(file.parent)]
    for known in [known for known in sys.modules if known == package or known.startswith(f"{package}.")]:
        del sys.modules[known]  # another folder of that name, or this one before it was changed
    sys.path.insert(0, str(file.parent))
    sys.modules |= {package: around, name: module}
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        hint = f" For a file, add .py: {name}.py" if Path(f"{name}.py").is_file() else ""
        raise NotAnApp(f"There is no module {name!r} here ({Path.cwd()}).{hint}") from None


def _run(importing: Callable[[], ModuleType], shown: str) -> ModuleType:
    """Import, and explain what goes wrong with the author's own lines."""
    try:
        return importing()
    except NotAnApp:
        raise
    except (UnwrittenError, EngineError) as error:
        raise NotAnApp(f"{error}{_where(error)}") from error
    except SystemExit as error:
        raise NotAnApp(
            f'{shown} ends the program when it is imported. Put what starts a server under if __name__ == "__main__":'
        ) from error
    except Exception as error:
        raise NotAnApp(f"{shown} cannot be imported.\n\n{author_traceback(error)}") from error


def author_traceback(error: BaseException) -> str:
    """The traceback of an error without the lines of Unwritten and of Python's import machinery."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    lines = traceback.format_list(frames) if frames and not isinstance(error, SyntaxError) else []
    return "".join([*lines, *traceback.format_exception_only(error)]).rstrip()


def _is_ours(filename: str) -> bool:
    return filename.startswith("<frozen importlib") or (_OURS in Path(filename).parents and not _is_demo(filename))


def _is_demo(filename: str) -> bool:
    return (_OURS / "demos") in Path(filename).parents


def _where(error: BaseException) -> str:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not _is_ours(frame.filename)]
    return f"\n  in {frames[-1].filename}, line {frames[-1].lineno}: {frames[-1].line}" if frames else ""


def _take(module: ModuleType, variable: str, shown: str) -> App:
    found: Any = getattr(module, variable, None)
    if isinstance(found, App):
        return found
    apps = [name for name, value in vars(module).items() if isinstance(value, App)]
    if found is not None:
        problem = f"`{variable}` in {shown} is {_a(type(found).__name__)}, not an App of Unwritten."
    else:
        problem = f"{shown} has no variable `{variable}`."
    if apps:
        raise NotAnApp(f"{problem} It has `{apps[0]}`: name it after a colon, {shown}:{apps[0]}")
    raise NotAnApp(f'{problem} An app file has at least:  from unwritten import App;  app = App("My app")')


def _a(noun: str) -> str:
    return f"{'an' if noun[0].lower() in 'aeiou' else 'a'} {noun}"
