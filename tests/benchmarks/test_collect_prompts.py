"""``python tests/benchmarks prompts``: the prompts of pages, in a file."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.benchmarks.collect_prompts import collect, command
from tests.support.terminal import WITHOUT_ENGINE, write

from research.data.page_prompts import read_prompts
from unwritten.cli.loading import load_app

pytestmark = pytest.mark.usefixtures("home")

DEMOS = Path(__file__).resolve().parents[2] / "demos"


def prompts(*arguments: str) -> Result:
    return CliRunner().invoke(command, arguments)


def test_the_prompts_of_pages_are_written_for_each_name() -> None:
    write(WITHOUT_ENGINE)
    names = write("Tea\n\nGrace Hopper\nTea\n", "names.txt")
    result = prompts("/wiki/{}", "--names", str(names), "--out", "out.jsonl")
    assert result.exit_code == 0, result.output
    assert "out.jsonl has 2 prompts of 2 pages." in result.output
    tea, hopper = read_prompts(Path("out.jsonl"))
    assert (tea.title, tea.kind, tea.source, tea.schema) == ("Tea", "wiki", "Small", None)
    assert hopper.prompt.ask == "An article about Grace Hopper." and hopper.prompt.opening == "**Grace Hopper**"
    assert hopper.prompt.examples == tea.prompt.examples != ()
    assert not list(Path().glob("*.db"))


def test_the_prompts_of_a_demo_are_those_of_its_engine() -> None:
    pages = list(collect(load_app(str(DEMOS / "wiki")), ["/wiki/Tea", "/wiki/Cup", "/wiki/Tea"]))
    assert [page.title for page in pages] == ["Tea"] * 3 + ["Cup"] * 3
    assert all(page.prompt.facts == () for page in pages)
    assert [page.max_tokens for page in pages[:3]] == [140, 170, 256]
    assert [page.schema is None for page in pages[:3]] == [True, False, True]
    todo = load_app(str(DEMOS / "todo"))
    (instructed,), (base,) = collect(todo, ["/list/tea"]), collect(todo, ["/list/tea"], base=True)
    assert instructed.prompt.ask == "A to-do list: tea. It was asked for like this: tea"
    assert base.prompt.ask == "A to-do list: tea."


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["wiki/Tea"], "A path begins with a slash: /wiki/Tea"),
        (["/wiki/{}"], "A path with {} needs titles: --names FILE"),
        ([], "Missing argument 'PATHS...'"),
        (["/none"], "The response for /none has status 404"),
    ],
)
def test_mistakes_are_reported(arguments: list[str], answer: str) -> None:
    write(WITHOUT_ENGINE)
    result = prompts(*arguments)
    assert result.exit_code in {1, 2} and answer in result.output
