"""Prompts of an app's pages, collected into a file."""

from pathlib import Path

import pytest
from tests.support.terminal import WITHOUT_ENGINE, write

from research.data.__main__ import main
from research.data.app_prompts import collect_prompts
from research.data.page_prompts import read_prompts
from unwritten.cli.loading import load_app

pytestmark = [pytest.mark.usefixtures("home"), pytest.mark.timeout(60)]

DEMOS = Path(__file__).resolve().parents[3] / "demos"


def test_the_prompts_of_pages_are_written_for_each_name(capsys: pytest.CaptureFixture[str]) -> None:
    write(WITHOUT_ENGINE)
    names = write("Tea\n\nGrace Hopper\nTea\n", "names.txt")
    assert main(["prompts", "/wiki/{}", "--app", "app.py", "--names", str(names), "--out", "out.jsonl"]) == 0
    assert "out.jsonl has 2 prompts of 2 pages." in capsys.readouterr().out
    tea, hopper = read_prompts(Path("out.jsonl"))
    assert (tea.title, tea.kind, tea.source, tea.schema) == ("Tea", "wiki", "Small", None)
    assert hopper.prompt.ask == "An article about Grace Hopper." and hopper.prompt.opening == "**Grace Hopper**"
    assert hopper.prompt.examples == tea.prompt.examples != ()
    assert not list(Path().glob("*.db"))


def test_prompts_depend_on_the_kind_of_model() -> None:
    pages = list(collect_prompts(load_app(str(DEMOS / "wiki")), ["/wiki/Tea", "/wiki/Cup", "/wiki/Tea"]))
    assert [page.title for page in pages] == ["Tea"] * 3 + ["Cup"] * 3
    assert all(page.prompt.facts == () for page in pages)
    assert [page.max_tokens for page in pages[:3]] == [140, 170, 256]
    assert [page.schema is None for page in pages[:3]] == [True, False, True]
    todo = load_app(str(DEMOS / "todo"))
    (instructed,), (base,) = collect_prompts(todo, ["/list/tea"]), collect_prompts(todo, ["/list/tea"], base=True)
    assert instructed.prompt.ask != base.prompt.ask == "A to-do list: tea."


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("wiki/Tea", "'wiki/Tea' is not a path. Paths start with a slash: /wiki/Tea"),
        ("/wiki/{}", "A path with {} needs names: --names FILE"),
        ("/none", "/none answers 404"),
    ],
)
def test_mistakes_are_reported(path: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(WITHOUT_ENGINE)
    assert main(["prompts", path, "--app", "app.py"]) == 1
    assert message in capsys.readouterr().err
