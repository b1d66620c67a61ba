"""``python -m unwritten_engine "An encyclopedia article about lighthouses."``: show frames in a terminal."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from .engine import Engine
from .errors import EngineError
from .frames import Frame, Prompt, Request
from .open import open_engine


def main(arguments: Sequence[str] | None = None) -> int:
    """Generate one text and show its frames. Return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m unwritten_engine", description="Generate one text.")
    parser.add_argument("ask", help='what to write, such as "An encyclopedia article about lighthouses."')
    parser.add_argument("--engine", default="auto", help="as open_engine takes it, such as qwen3-4b (default: auto)")
    parser.add_argument("--model", default="", help="the model of the engine, such as a name on its server")
    parser.add_argument("--system", default="", help="role and style of the writer")
    parser.add_argument("--opening", default="", help="how the text begins")
    parser.add_argument("--tokens", type=int, default=256, help="maximum length in tokens (default: 256)")
    parser.add_argument("--seed", type=int, default=None, help="repeats a text, if the engine generates nothing else")
    options = parser.parse_args(arguments)
    console, notes = Console(), Console(stderr=True)
    try:
        with notes.status("Opening the engine") as status:
            engine = open_engine(
                options.engine,
                progress=lambda share, doing: status.update(f"{doing} {share:.0%}"),
                **({"model": options.model} if options.model else {}),
            )
        prompt = Prompt(options.ask, system=options.system, opening=options.opening)
        request = Request(prompt, canvases=-(-options.tokens // 256), max_tokens=options.tokens, seed=options.seed)
        last = asyncio.run(_show(engine, request, console))
    except (EngineError, ValueError) as error:
        notes.print(f"[bold red]Error:[/] {error}")
        return 1
    except KeyboardInterrupt as stopped:
        if str(stopped):  # a download says how to continue
            notes.print(str(stopped))
        return 130
    if last.usage:
        used = last.usage
        notes.print(
            f"{engine.about.model} on {engine.about.device}: {used.tokens} tokens in {used.seconds:.1f} s, "
            f"{used.tokens_per_second:.0f} tokens/s, seed {used.seed}",
            style="dim",
        )
    return 0


async def _show(engine: Engine, request: Request, console: Console) -> Frame:
    frame = Frame("")
    frames = engine.generate(request)
    try:
        with Live(console=console, refresh_per_second=20) as live:
            async with contextlib.aclosing(frames):
                async for frame in frames:
                    live.update(_drawn(frame))
    finally:
        await engine.close()
    return frame


def _drawn(frame: Frame) -> Text:
    """Return the text with unsettled spans in grey."""
    text = Text(frame.text)
    for start, end in frame.unsettled:
        text.stylize("bright_black", start, end)
    return text


if __name__ == "__main__":
    sys.exit(main())
