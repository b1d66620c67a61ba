"""Runs axe-core in a page, and returns its findings as readable lines."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from playwright.sync_api import Frame, Page
from tests.browser.packages import packed

from unwritten.core.assets import integrity_of

VERSION = "4.14.1"
INTEGRITY = "sha384-xt1SFg49QaDwsyt0Xfs2XAyBtYPClXl3X2q5OOLeGAUmq9jZTYIMdztpF99WdhiH"

GRAVE = ("critical", "serious")
"""Impacts that fail a test. Axe calls the others moderate or minor."""

_RUN = """async (options) => {
  const found = await axe.run(document, options);
  return found.violations.flatMap((rule) => rule.nodes.map((node) => ({
    rule: rule.id, impact: node.impact || rule.impact, help: rule.help, element: node.target.flat().join(" "),
    html: node.html, why: node.failureSummary || "",
  })));
}"""


@dataclass(slots=True)
class Findings:
    """The findings of axe in a page.

    Attributes:
        grave: serious or critical findings, one line per element.
        moderate: all other findings.
    """

    grave: list[str] = field(default_factory=list)
    moderate: list[str] = field(default_factory=list)

    def add(self, entry: dict[str, str], frame: str) -> None:
        """Add an element that violates a rule."""
        why = " ".join(entry["why"].split()).removeprefix("Fix any of the following: ")
        html = entry["html"] if len(entry["html"]) <= 120 else entry["html"][:117] + "…"
        line = f"{entry['impact']}: {entry['rule']}: {frame}{entry['element']}: {why} [{html}]"
        (self.grave if entry["impact"] in GRAVE else self.moderate).append(line)

    def __str__(self) -> str:
        return "\n".join([*self.grave, *self.moderate]) or "nothing"


@lru_cache(maxsize=1)
def source() -> str:
    """Return the script of axe-core, after a check of its hash."""
    with tarfile.open(packed("axe-core", VERSION)) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None, "the package of axe-core lacks axe.min.js"
        content = member.read()
    assert integrity_of(content) == INTEGRITY, f"axe-core {VERSION} has another hash"
    return content.decode()


def check(page: Page, *, without: tuple[str, ...] = ()) -> Findings:
    """Run axe in every frame of a page.

    Each frame is checked separately, because axe cannot reach into the opaque origins of boxes. The script is evaluated
    through the debugger, so the policy of the page does not apply, and the page gets no additional rights.

    Args:
        page: the page, which is checked in its current state.
        without: rules to skip.
    """
    findings = Findings()
    for frame in page.frames:
        where = "" if frame == page.main_frame else f"in frame {frame.name or frame.url}: "
        for entry in _found_in(frame, without):
            findings.add(entry, where)
    return findings


def _found_in(frame: Frame, without: tuple[str, ...]) -> list[dict[str, str]]:
    if not frame.evaluate("() => !!window.axe"):
        # An expression instead of a script element: the policy does not apply to what the debugger evaluates.
        frame.evaluate(f"() => {{ {source()}\n }}")
    options: dict[str, Any] = {
        "iframes": False,
        "resultTypes": ["violations"],
        "rules": {name: {"enabled": False} for name in without},
    }
    found: list[dict[str, str]] = frame.evaluate(_RUN, options)
    return found
