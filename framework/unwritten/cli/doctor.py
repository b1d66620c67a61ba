"""``unwritten doctor``: show what is installed and in use, how fast it is, and what is wrong."""

from __future__ import annotations

import asyncio
import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import click

from unwritten_engine import Engine, EngineError, Usage, open_engine
from unwritten_engine.llamacpp.saved_prefixes import disk_usage, prefixes_folder
from unwritten_engine.named_models import EMBEDDED, record_speed, this_machine
from unwritten_engine.text_to_image import open_painter
from unwritten_engine.vllm.gpus import advise, choose_checkpoint
from unwritten_engine.vllm.internals import INSTALL, installed_version, is_supported

from .. import __version__
from ..app.application import App
from ..broker.open import shown_url
from ..core.assets import HTMX, HTMX_VERSION, asset_dir, htmx_cache, htmx_copy
from ..core.engine_options import engine_options, mask_keys, painter_options
from ..core.errors import UnwrittenError
from ..core.settings import SECRETS, SETTINGS, Settings, load_settings
from ..formats.page import Canvas
from ..formats.registry import supports
from ..generation.page_job import Subscriber
from ..security.exposure import Exposure
from ..storage.location import parse_location
from ..storage.pages import PageStore
from ..testing.asgi_client import request, running
from ..testing.scripted_engine import answers
from .flags import app_options, choose_app, data_folder, given_settings
from .loading import all_demos
from .models import best_model, experimental
from .server import LoadingProgress, describe_model

PACKAGES = (
    "xllamacpp",
    "httpx2",
    "starlette",
    "uvicorn",
    "websockets",
    "jinja2",
    "nh3",
    "sqlite-utils",
    "pydantic",
    "click",
)

IMAGES_EXTRA = ("diffusers", "torch", "transformers", "pillow")

DIFFUSION_EXTRA = ("torch", "transformers", "bitsandbytes", "pillow")
"""Packages of the extra ``diffusion``. Only their versions are read: importing torch takes seconds."""

SAMPLE_TOKENS = 48
"""Number of tokens generated to measure the engine. An engine that writes whole canvases writes one canvas."""

OPEN_ENGINE = {"model": "", "engine_options": "", "painter": "", "painter_options": ""}
"""Settings for an app that is given an open engine, and no painter."""


@click.command("doctor")
@click.option("--engine", metavar="TEXT", help="Check this engine, instead of the one in use.")
@click.option("--model", metavar="TEXT", help="A model of that engine, instead of the one in use.")
@click.option("--engine-options", metavar="TEXT", help="Options of that engine, instead of those in use.")
@click.option("--no-engine", is_flag=True, help="Load no model.")
@app_options
@click.pass_context
def doctor(
    ctx: click.Context,
    engine: str | None,
    model: str | None,
    engine_options: str | None,
    no_engine: bool,
    target: str | None,
    demo: str | None,
) -> None:
    """Show versions, settings, files, the engine with its speed, and what to type to get a better one.

    Needs no network. Lines begin with "ok", "note" or "FAULT". The exit status is 1 if there is a fault.
    """
    flags = given_settings({"engine": engine, "model": model, "engine_options": engine_options})
    checkup = _Checkup(target, demo, flags)
    ctx.call_on_close(checkup.close)
    checks: list[tuple[str, Callable[[], Iterator[str]]]] = [
        ("Versions", _versions),
        ("Machine", _machine),
        ("Settings", checkup.settings),
        ("Files", _files),
        ("Pages", _pages),
        ("htmx", _htmx),
    ]
    if not no_engine:
        checks += [("Engine", checkup.engine), ("Pictures", checkup.pictures)]
    if target or demo:
        checks.append(("App", checkup.app))
    faults = [title for title, check in checks if not _run(title, check)]
    if faults:
        click.echo(f"\nFaults in: {', '.join(faults)}. The lines with FAULT say what to do.")
        ctx.exit(1)
    click.echo("\nEverything works. To see it: unwritten demo wiki --open")


def _run(title: str, check: Callable[[], Iterator[str]]) -> bool:
    """Print what a check finds. Return True if there is no fault. A check that raises does not stop the others."""
    click.echo(click.style(title, bold=True))
    is_ok = True
    try:
        for line in check():
            is_ok = is_ok and not line.startswith("FAULT")
            click.echo(f"  {line}")
    except (UnwrittenError, EngineError) as error:
        click.echo(f"  FAULT {error}")
        is_ok = False
    except Exception as error:
        click.echo(f"  FAULT {type(error).__name__}: {error}")
        click.echo("        If this copy is damaged: pip install --upgrade --force-reinstall unwritten")
        is_ok = False
    return is_ok


# -- this machine -----------------------------------------------------------------------------------------------------


def _versions() -> Iterator[str]:
    yield f"ok    unwritten {__version__} on Python {platform.python_version()} ({sys.executable})"
    yield "ok    " + ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    if any(_version(name) != "missing" for name in DIFFUSION_EXTRA):
        yield "ok    for diffusion: " + ", ".join(f"{name} {_version(name)}" for name in DIFFUSION_EXTRA)
    if (vllm := installed_version()) is not None:
        yield f"ok    vllm {vllm}" if is_supported(vllm) else f"note  vllm {vllm} is not supported. Type: {INSTALL}"
    missing = [name for name in PACKAGES if _version(name) == "missing"]
    if missing:
        yield f"FAULT missing: {', '.join(missing)}. Type: pip install --upgrade --force-reinstall unwritten"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "missing"


def _machine() -> Iterator[str]:
    yield f"ok    {platform.system()} {platform.machine()}, {os.cpu_count()} processors"
    machine = this_machine()
    if machine.memory:
        yield f"ok    {machine.memory / 2**30:.1f} GiB of memory, {machine.free / 2**30:.1f} GiB of it free"
        if machine.free < 2**30:
            yield "note  less than 1 GiB is free; the embedded model needs about half of that."
    if gpus := machine.gpus:
        yield f"{'ok  ' if choose_checkpoint(gpus[0], len(gpus)) else 'note'}  {advise(gpus[0], len(gpus))}"
    yield f"ok    {best_model(machine)} All: unwritten models"
    yield from (f"note  {line}" for line in experimental())


def _files() -> Iterator[str]:
    for name in ("templates", "static", "demos"):
        yield f"ok    {asset_dir(name)}"
    yield f"ok    demos: {', '.join(all_demos())}"
    count, size = disk_usage(prefixes_folder())
    yield f"ok    {count} evaluated prompt prefixes, {size / 2**20:.0f} MiB, in {prefixes_folder()}"


def _pages() -> Iterator[str]:
    found = sorted(data_folder().glob("*.db"))
    for path in found:
        with closing(PageStore(path)) as store:
            yield f"ok    {path}: {store.count():,} pages, {path.stat().st_size / 2**20:.1f} MiB"
    if not found:
        yield f"ok    none yet; the pages of the demos will be stored in {data_folder()}"
    existing = next(folder for folder in (data_folder(), *data_folder().parents) if folder.is_dir())
    if not os.access(existing, os.W_OK):
        yield f"FAULT {data_folder()} cannot be written to. Name a database elsewhere: --database FILE"


def _htmx() -> Iterator[str]:
    copies = [script for script in HTMX if htmx_copy(script)]
    broken = [script for script in HTMX if script not in copies and (htmx_cache() / script.name).is_file()]
    if len(copies) == len(HTMX):
        yield f"ok    {HTMX_VERSION}, your own copy in {htmx_cache()}"
    else:
        yield f"ok    {HTMX_VERSION} from the CDN; pages work without it. To keep a copy: unwritten offline"
    for script in broken:
        yield f"note  {htmx_cache() / script.name} is damaged and is not used. Type: unwritten offline"


# -- settings, engine and app -----------------------------------------------------------------------------------------


class _Checkup:
    """The checks that depend on the settings, on the engine and on an app."""

    def __init__(self, target: str | None, demo: str | None, flags: Mapping[str, object]) -> None:
        self._flags = flags
        self._runner = asyncio.Runner()
        self._engine: Engine | None = None
        self._app: App | None = None
        self._problem: Exception | None = None
        if target or demo:
            try:
                self._app = choose_app(target, demo, flags)
            except (UnwrittenError, EngineError) as error:
                self._problem = error

    def close(self) -> None:
        """Close the engine."""
        if self._engine is not None:
            self._runner.run(self._engine.close())
        self._runner.close()

    def _settings(self) -> Settings:
        return self._app.settings if self._app is not None else load_settings(flags=self._flags)

    def settings(self) -> Iterator[str]:
        """Show the environment variables that are set, and who can reach the app."""
        settings = load_settings()
        values = [(setting, getattr(settings, setting.name)) for setting in SETTINGS]
        changed = [(setting, value) for setting, value in values if value != setting.default]
        for setting, value in changed:
            if setting.name == "database":
                shown = str(parse_location(value))  # without a password
            else:
                shown = shown_url(value) if setting.name == "broker" else str(value)
            yield f"note  {setting.variable} is set: {mask_keys(shown)}"
        if not changed:
            yield "ok    all at their defaults; no UNWRITTEN_* variable is set"
        for name in sorted(SECRETS & os.environ.keys()):
            yield f"note  {name} is set; it is a secret, and is not shown"
        yield from _describe_exposure(self._settings())

    def engine(self) -> Iterator[str]:
        """Open the engine, and measure it."""
        settings = self._settings()
        self._engine = self._app.provided_engine if self._app is not None and not self._flags else None
        if self._engine is None:
            with LoadingProgress() as progress:
                self._engine = open_engine(settings.engine, progress=progress, **engine_options(settings))
        about = self._engine.about
        yield f"ok    {about.engine}: {describe_model(about)}"
        for reason in about.reasons:
            yield f"ok    {reason}"
        if about.memory_bytes:
            yield f"ok    uses {about.memory_bytes / 2**20:,.0f} MiB; a request may have {about.context:,} tokens"
        if about.licence:
            yield f"note  {about.licence}"
        if supports("svg", about, settings):
            yield "ok    writes drawings and programs (app.supports)"
        else:
            yield "ok    writes no drawings and programs (app.supports): apps show ornaments. To try it: --markup on"
        measured = self._runner.run(_measure(self._engine))
        yield from measured.lines()
        record_speed(EMBEDDED if about.engine == EMBEDDED else settings.engine, measured.usage.tokens_per_second)
        yield (
            "note  for better pages, a model by name: unwritten models; or any GGUF model: --engine FILE.gguf, "
            "or --engine hf:OWNER/REPO/FILE.gguf; or a model server: --engine http://localhost:8000/v1; "
            "or, on a GPU with 18 GB or more, DiffusionGemma: --engine vllm or --engine diffusion"
        )

    def pictures(self) -> Iterator[str]:
        """Open the painter, and paint a picture."""
        settings = self._settings()
        options = painter_options(settings)
        if not settings.painter:
            is_missing = any(_version(name) == "missing" for name in IMAGES_EXTRA)
            first = 'pip install "unwritten[images]", then ' if is_missing else ""
            yield "ok    ornaments; there is no painter"
            yield (
                f"note  for painted pictures: {first}--painter FOLDER or --painter OWNER/REPO, a text-to-image "
                "pipeline of diffusers; to try it with noise: --painter random"
            )
            return
        with LoadingProgress() as progress:
            painter = open_painter(settings.painter, progress=progress, **options)
        begun = time.monotonic()
        painted = painter.paint("A lighthouse on a cliff.", 256, 256, seed=1)
        painter.close()
        yield f"ok    {painter.about.model} on {painter.about.device}"
        yield from (f"note  {reason}" for reason in painter.about.reasons)
        yield f"ok    painted 256 by 256 pixels in {time.monotonic() - begun:.1f} s, in {painted.steps} steps"

    def app(self) -> Iterator[str]:
        """Check the app's declarations, and that the engine supports its schemas."""
        if self._app is None:
            assert self._problem is not None
            raise self._problem
        app = self._app
        app.override(self._engine or answers(), {**self._flags, "engine": "auto", **OPEN_ENGINE})

        async def check() -> str:
            try:
                app.prepare()
                await app.check()
                model = f"{app.engine.about.model} can write them" if self._engine else "the engine was not checked"
                return f"ok    {app.name}: {len(app.pages)} declared page{'s' * (len(app.pages) != 1)}; {model}"
            finally:
                await app.close()

        yield self._runner.run(check())


def _describe_exposure(settings: Settings) -> Iterator[str]:
    if not Exposure(settings).is_public:
        yield "ok    only this machine can reach an app; all but its owner have signed links and budgets"
        return
    if settings.signed_links != "off":
        yield "ok    links are signed: pages are generated only for links and buttons that a page displayed"
    else:
        yield "note  links are not signed: any URL generates a page. Remove UNWRITTEN_SIGNED_LINKS=off"
    for name in ("visitor_pages", "visitor_seconds", "engine_seconds"):
        limit = getattr(settings, name)
        yield f"ok    {name}: {limit:g} an hour" if limit else f"note  {name} is 0: there is no limit"
    if not settings.trusted_proxies:
        yield "note  behind a proxy all visitors look like one, until UNWRITTEN_TRUSTED_PROXIES names it"


# -- speed ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Click:
    """How long one click on an unwritten page took, in seconds after the request.

    Attributes:
        shell: Until the page without its text was sent.
        first_words: Until the first frame with words.
        finished: Until the page was complete.
        usage: What the engine counted.
        has_steps: True if the engine denoises, and does not write token by token.
    """

    shell: float
    first_words: float
    finished: float
    usage: Usage
    has_steps: bool

    def lines(self) -> Iterator[str]:
        """Return what to print."""
        usage = self.usage
        speed = f"{usage.tokens_per_second:.0f} tokens per second: {usage.tokens} tokens in {usage.seconds:.1f} s"
        if self.has_steps and usage.steps and usage.seconds > 0:
            speed += f", {usage.steps} steps of {1000 * usage.seconds / usage.steps:.0f} ms"
        yield f"ok    {speed}"
        yield (
            f"ok    a click on an unwritten page: shell after {1000 * self.shell:.0f} ms, first words after "
            f"{self.first_words:.2f} s, complete after {self.finished:.1f} s"
        )


async def _measure(engine: Engine) -> _Click:
    """Click on an unwritten page of a small app, in this process."""
    about = engine.about
    app = App("Speed")

    @app.page("/{title}")
    async def article(title: str) -> Canvas:
        return Canvas(f"An article about {title}.", tokens=None if about.abilities.drafts else SAMPLE_TOKENS)

    with tempfile.TemporaryDirectory(prefix="unwritten-") as folder:
        fixed = {"database": str(Path(folder, "pages.db")), "prefetch": "off", "signed_links": "off", "edits": "off"}
        app.override(engine, {**OPEN_ENGINE, **fixed})
        async with running(app):
            site = app.site
            for page_request in await site.resolver.sample_requests():
                await engine.warm(list(site.prompt_builder.prompts(page_request).values()))
            begun = time.perf_counter()
            await request(app, "/Lighthouse", lambda body: None)
            shell = time.perf_counter() - begun
            job = site.jobs.recent("/Lighthouse")
            if job is None:
                raise UnwrittenError("A page of a small app could not be generated. Does a setting prevent it?")
            subscriber = Subscriber()
            job.subscribe(subscriber)
            (region,) = job.regions.values()
            first_words = 0.0
            while not job.finished.is_set():
                if not first_words and re.search(r"\w", region.frame.text.removeprefix(region.prompt.opening)):
                    first_words = time.perf_counter() - begun
                subscriber.changed.clear()
                await subscriber.changed.wait()
            finished = time.perf_counter() - begun
            if job.state != "written" or region.frame.usage is None:
                raise UnwrittenError(f"The engine could not write a page: {job.message or 'it wrote nothing.'}")
            return _Click(shell, first_words or finished, finished, region.frame.usage, about.abilities.drafts)
