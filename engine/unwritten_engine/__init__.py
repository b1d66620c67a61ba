"""Prompts in, frames out: the engine of Unwritten."""

from .engine import Abilities, About, Engine, Progress
from .errors import EngineError
from .frames import Draft, Example, Frame, Priority, Prompt, Request, Span, Usage
from .script import scripted

__all__ = [
    "Abilities",
    "About",
    "Draft",
    "Engine",
    "EngineError",
    "Example",
    "Frame",
    "Priority",
    "Progress",
    "Prompt",
    "Request",
    "Span",
    "Usage",
    "scripted",
]
