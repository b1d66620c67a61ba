"""Settings: one table that feeds the command line, the environment, the README and a test.

Every setting has a flag (``--queue-limit``), an environment variable (``UNWRITTEN_QUEUE_LIMIT``) and a
keyword of ``App`` (``queue_limit=``). A flag wins over the environment, which wins over the keyword, which
wins over the default.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeAlias

from unwritten_engine.errors import suggestion

from .errors import BadSetting

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table.

    Attributes:
        name: as a Python keyword.
        default: its value if nobody says otherwise; its type is the setting's type.
        help: one line, with the unit.
        minimum: the smallest number allowed.
        choices: the only texts allowed, if they are few.
    """

    name: str
    default: Value
    help: str
    minimum: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"UNWRITTEN_{self.name.upper()}"

    @property
    def flag(self) -> str:
        """The command-line flag."""
        return "--" + self.name.replace("_", "-")

    def read(self, value: object, source: str) -> Value:
        """Turn a value from a flag, a variable or a keyword into this setting's type.

        Raises:
            BadSetting: if it cannot be one; the message names ``source``.
        """
        kind = type(self.default)
        result: Value
        try:
            if kind is bool:
                result = _read_bool(value)
            elif kind is str:
                if not isinstance(value, str):
                    raise ValueError
                result = value
            elif isinstance(value, bool):
                raise ValueError
            else:
                result = int(str(value)) if kind is int else float(str(value))
        except (TypeError, ValueError):
            raise BadSetting(
                f"{source} is {value!r}, but it takes {_KINDS[kind]}, such as {self.default!r}. ({self.help})"
            ) from None
        if self.choices and result not in self.choices:
            raise BadSetting(
                f"{source} is {value!r}, but it must be {', '.join(self.choices[:-1])} or {self.choices[-1]}."
                f"{suggestion(str(value), self.choices)} ({self.help})"
            )
        if self.minimum is not None and not isinstance(result, str) and not result >= self.minimum:
            raise BadSetting(f"{source} is {value!r}, but it must be at least {self.minimum:g}. ({self.help})")
        return result


_KINDS = {bool: "yes or no", str: "text", int: "a whole number", float: "a number"}


def _read_bool(value: object) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower()
    if word in {"1", "yes", "true", "on"}:
        return True
    if word in {"0", "no", "false", "off"}:
        return False
    raise ValueError


SETTINGS: tuple[Setting, ...] = (
    Setting(
        "engine",
        "auto",
        "Engine: auto, embedded, diffusion, a .gguf file, a recorded .tape, hf:OWNER/REPO/FILE.gguf, or the address of "
        "a model server.",
    ),
    Setting("model", "", "The model of the engine: a name on its server, or a folder or OWNER/REPO for diffusion."),
    Setting("engine_options", "", "Options of the engine, such as `quantize=nf4 threads=2`; its README lists them."),
    Setting(
        "painter",
        "",
        "Who paints `picture(…)`: a folder with a text-to-image pipeline of diffusers, OWNER/REPO, or `random` for "
        "noise; empty for ornaments.",
    ),
    Setting("painter_options", "", "Options of the painter: steps, guidance, size, device, dtype."),
    Setting("painter_seconds", 300.0, "Seconds until an unfinished picture is given up.", 1),
    Setting("database", "", "SQLite file that keeps the pages; empty for NAME-OF-THE-APP.db in this folder."),
    Setting("host", "127.0.0.1", "Address to listen on; 0.0.0.0 lets other machines in."),
    Setting("port", 8000, "Port to listen on; 0 for any free one.", 0),
    Setting("generations", 4, "Pages that are written at the same time.", 1),
    Setting("queue_limit", 64, "Pages that may wait to be written; beyond that visitors get 503.", 0),
    Setting("time_limit", 180.0, "Seconds until an unfinished page is given up.", 1),
    Setting("function_time_limit", 10.0, "Seconds that a page function may take to say what its page needs.", 0.1),
    Setting("grace", 20.0, "Seconds that a page is written on after its last visitor left.", 0),
    Setting("title_length", 120, "Characters of a URL's parameter that reach the prompt; longer ones are refused.", 8),
    Setting(
        "ahead",
        "auto",
        "Whether likely next pages are written before they are clicked: on, off, or auto: on with an engine whose work "
        "costs no more than its time.",
        choices=("auto", "on", "off"),
    ),
    Setting(
        "ahead_per_visitor", 3, "Pages that are written ahead at the same time for one visitor, or wait unopened.", 1
    ),
    Setting("ahead_limit", 12, "Pages that are written ahead at the same time for all visitors together.", 1),
    Setting("memory_tokens", 200, "Tokens of each prompt for what earlier pages say about its subject; 0 for none.", 0),
    Setting("form_size", 65536, "Bytes that one field of a form may have; larger ones are refused.", 256),
    Setting(
        "markup",
        "auto",
        "Whether `app.can` trusts the engine with drawings and programs: on, off, or auto, as the engine says itself.",
        choices=("auto", "on", "off"),
    ),
    Setting("frame_rate", 25.0, "Frames per second that one browser is sent at most.", 1),
    Setting(
        "gates",
        "auto",
        "Whether only links that a page offered cause writing: on, off, or auto: on where others can reach the app.",
        choices=("auto", "on", "off"),
    ),
    Setting(
        "hosts",
        "",
        "Names under which the app is reached, with commas between; `*` for any. Empty: this machine's own on a "
        "loopback address, any beyond it.",
    ),
    Setting(
        "trusted_proxies",
        "",
        "Proxies whose X-Forwarded-For, -Proto and -Host count: addresses or networks with commas between.",
    ),
    Setting(
        "visitor_pages",
        240,
        "Pages that one visitor may begin in an hour; 0 for any number. On loopback it counts only if it is set.",
        0,
    ),
    Setting("visitor_burst", 30, "The same within a minute.", 0),
    Setting(
        "search_pages", 30, "Pages that one visitor may begin in an hour by a search box or a button; as above.", 0
    ),
    Setting("visitor_seconds", 1800.0, "Seconds of writing that one visitor may cause in an hour; as above.", 0),
    Setting("engine_seconds", 7200.0, "Seconds of writing in an hour for all visitors together; as above.", 0),
    Setting(
        "edits",
        "auto",
        "Whether visitors may change what is written: on, off, or auto: on while only this machine can reach the app.",
        choices=("auto", "on", "off"),
    ),
    Setting(
        "visitor_sockets",
        64,
        "Live connections, one for each open tab, that one visitor may have; 0 for any number. As above on loopback.",
        0,
    ),
    Setting("metrics", False, "Show /metrics to everybody, and not only to this machine."),
    Setting("debug", False, "Show tracebacks and the developer's tools to every browser. Not for the open web."),
)


SECRETS = frozenset({"UNWRITTEN_API_KEY"})
"""Variables of ours that are no settings: the engine reads them, and nobody shows them."""


BY_NAME: Mapping[str, Setting] = MappingProxyType({setting.name: setting for setting in SETTINGS})


class Settings:
    """The values in force. Read them as attributes: ``settings.port``."""

    def __init__(
        self,
        keywords: Mapping[str, object] | None = None,
        *,
        flags: Mapping[str, object] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Resolve every setting.

        Args:
            keywords: from the author, ``App(port=9000)``.
            flags: from the command line; None as a value means "not given".
            environment: where ``UNWRITTEN_*`` is looked up; ``os.environ`` by default.

        Raises:
            BadSetting: for an unknown name, or a value of the wrong kind.
        """
        variables = os.environ if environment is None else environment
        self._values: dict[str, Value] = {s.name: s.default for s in SETTINGS}
        self._given: set[str] = set()
        for name, value in (keywords or {}).items():
            self._set(name, value, f"The setting {name!r}")
        for variable in variables:
            if variable.startswith("UNWRITTEN_") and variable not in SECRETS:
                self._set(variable[10:].lower(), variables[variable], f"The environment variable {variable}")
        for name, value in (flags or {}).items():
            if value is not None:
                self._set(name, value, f"The flag --{name.replace('_', '-')}")

    def _set(self, name: str, value: object, source: str) -> None:
        setting = BY_NAME.get(name)
        if setting is None:
            raise BadSetting(f"{source} is not known to Unwritten.{suggestion(name, BY_NAME)}")
        self._values[name] = setting.read(value, source)
        self._given.add(name)

    def was_given(self, name: str) -> bool:
        """Whether somebody said what a setting is, be it its default."""
        return name in self._given

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            raise AttributeError(f"There is no setting {name!r}.{suggestion(name, BY_NAME)}") from None

    def __iter__(self) -> Iterator[tuple[Setting, Value]]:
        return ((setting, self._values[setting.name]) for setting in SETTINGS)
