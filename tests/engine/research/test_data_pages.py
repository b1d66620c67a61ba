"""From entries to training pages: leads, links, ways of asking, filters, files and the card."""

import json
import random
from pathlib import Path

import pytest
from tests.support.dictionaries import all_packages

from research.data.__main__ import main
from research.data.articles import LONGEST, PageBuilder, shorten
from research.data.entries import Entry
from research.data.filters import find_fault, find_record_fault
from research.data.links import EntryLinker, lead
from research.data.making import build_dataset, data_card
from research.data.page_prompts import PagePrompt, write_prompts
from research.data.prompt_forms import PromptForm, extract_forms
from research.data.sources import SOURCES
from unwritten_engine import EngineError, Example, Prompt
from unwritten_engine.training.dataset import TrainingPage, is_held_out, read_pages, write_pages

EXAMPLE = Example("The opening paragraph of the article on Salt.", "**Salt** is [[white]].")
LEAD = PagePrompt(
    Prompt("The opening paragraph of the article on Tea.", "A calm book.", (EXAMPLE,), opening="**Tea**"), "Tea", "wiki"
)
FACTS = PagePrompt(Prompt("Quick facts about Tea.", "A calm book."), "Tea", "wiki", schema={"type": "object"})


@pytest.mark.parametrize(
    ("title", "text", "begins"),
    [
        ("Otter", "An otter is a mammal.", "**Otter** is a mammal."),
        ("Porcupine", "Porcupines are rodents.", "**Porcupine**s are rodents."),
        ("Mercury (planet)", "Mercury is the first planet.", "**Mercury** is the first planet."),
        ("Percentage", "In mathematics, a percentage is a ratio.", "**Percentage** is, in mathematics, a ratio."),
        ("Ibn Saud", "Abdulaziz Al Saud, known as Ibn Saud, was a king.", "**Ibn Saud** was a king."),
        ("Otters", "Mammals of the river are the ones that swim.", ""),
        ("Water", "In rivers, other things are found.", ""),
    ],
)
def test_articles_start_with_their_title(title: str, text: str, begins: str) -> None:
    assert lead(Entry(title, text, "wikipedia", "article")) == begins


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("(noun) A hook; a grapnel.", "**Crapnel** is a hook; a grapnel."),
        ("1. (noun) The hook.\n2. (noun) A bird.", "**Crapnel** is the hook."),
        ("A hook.\n\nIt is old.\n\nTo use one.", "**Crapnel** is a hook.\n\nIt is old."),
        ("(verb) A thing is done.", ""),
        ("(noun) Hooks in general.", ""),
        ("A.B.C.", ""),
    ],
)
def test_definitions_become_openings(text: str, begins: str) -> None:
    assert lead(Entry("Crapnel", text, "gcide")) == begins


def test_links_are_few_and_at_first_mentions() -> None:
    linker = EntryLinker(["River", "Fresh water", "Otter", "Polish language", "Lake", "Mud"], [])
    text = (
        "**Otter** lives by rivers and lakes, and an otter loves fresh water. It never leaves the river or Lake Como."
    )
    linked = linker.link(text, "Otter", ("mud pie",), random.Random(1))
    assert linked.startswith("**Otter** lives by ") and "[[fresh water]]" in linked
    assert 2 <= linked.count("[[") <= 4 and "[[otter]]" not in linked and "[[Lake]]" not in linked
    assert linked.replace("[[", "").replace("]]", "") == text
    assert linker.link("It has mud pies.", "Otter", ("mud pie",), random.Random(1)) == "It has [[mud pies]]."


def test_everyday_words_are_not_linked() -> None:
    texts = [f"Thing {number} is in a city." for number in range(600)] + ["A heron."]
    linker = EntryLinker(["City", "Heron"], texts)
    assert linker.link("In a city lives a heron.", "X", (), random.Random(0)) == "In a city lives a [[heron]]."


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("**Tea** is a drink made of [[leaves]].", ""),
        ("Tea.", "too short"),
        ("Tea is a shitty drink.", "rude words"),
        ("Tea is a <b>drink</b>.", "broken marks"),
        ("Tea is a [[drink.", "broken marks"),
        ("Tea is a **drink.", "broken marks"),
        ("Tea is at http://example.org/ now.", "broken marks"),
        ("Tea is [[ ]] nice.", "broken marks"),
        ("Tea is a чай.", "no English"),
        ("Der Tee wird aus den Blättern einer Pflanze gemacht und danach mit heißem Wasser aufgegossen und getrunken.",
         "no English"),
        ("Tea is is is hot.", "repetition"),
        ("Tea is a hot drink. It is good for you. Tea is a hot drink.", "repetition"),
        (
            "The tea of the king was in the cup of the king and the tea of the king was in the pot of the king "
            "and the tea of the king was hot.",
            "repetition",
        ),
        ("Tea is a drink that", "no end"),
        ("Who has seen a cup of tea of,?", "broken marks"),
        ("## Use\n\nTea was made by Mr.\n\n## Today\n\nIt is old.", "no end"),
        ("Tea is a drink.\n\n## Today", "no end"),
        ("- Tea is a drink\n- It is hot", ""),
        ("A [[king]] met a [[king]], and he was the [[King]].", "repetition"),
        ("Slavery is an old evil.", ""),
    ],
)  # fmt: skip
def test_unsuitable_texts_are_rejected(text: str, why: str) -> None:
    assert find_fault(text) == why


def test_generated_texts_are_checked_more_strictly() -> None:
    assert find_fault("Slavery is an old evil.", care=True) == "words that call for care"
    assert find_fault("Scoops of tea are drapes of joy.", care=True) == ""


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"kind":"drink","known_for":["Steam","Rest"],"age":3}', ""),
        ('{"kind":"drink"', "no JSON"),
        ("{}", "empty values"),
        ('{"kind":" "}', "empty values"),
        ('{"kind":"shit"}', "rude words"),
        ('{"kind":"a [[drink]]"}', "broken marks"),
        ('{"kind":"чай"}', "no English"),
        ('{"kind":"drink","akin":"Drink","of":["drink"]}', "repetition"),
        ('{"kind":"drink","of":["leaf","Leaf"]}', "repetition"),
        ('{"kind":"Tea"}', "repetition"),
        ('{"name":"Tea","kind":"drink"}', ""),
        ('{"kind":"What is made of the"}', "no end"),
        ('{"kind":"What is made "}', "no end"),
        ('{"do":["Bring a tent","Pick the tent","Wash tents","Get a tent, the tent","Air that tent"]}', "repetition"),
        ('{"kind":"murder"}', "words that call for care"),
    ],
)
def test_unsuitable_records_are_rejected(text: str, why: str) -> None:
    assert find_record_fault(text, title="Tea", care=True) == why


def test_forms_are_prompts_without_their_title() -> None:
    facts = PagePrompt(Prompt("About Tea.", opening="**Tea**", facts=("Hot.",)), "Tea")
    other = PagePrompt(Prompt("About Tea.", opening="Tea is"), "Tea")
    assert extract_forms([LEAD, FACTS, facts, other, PagePrompt(Prompt("Say."))]) == [
        PromptForm("The opening paragraph of the article on {title}.", "A calm book.", (EXAMPLE,))
    ]


def test_long_texts_end_with_a_sentence() -> None:
    text = "One is here. Two is here.\n\nThree is here. Four is here."
    assert shorten(text, 200) == text
    assert shorten(text, 45) == "One is here. Two is here.\n\nThree is here."
    assert shorten(text, 20) == "One is here."
    assert shorten(text, 5) == "One is here."


def entries(count: int) -> list[Entry]:
    return [
        Entry(
            f"Thing {number}",
            f"A thing {number} is a tool of the old harbour. It was made of copper, and it has many uses there. "
            f"They say that number {number} is the best.",
            "wikipedia",
            "article",
            short="Tool of the harbour",
            links=("copper",),
        )
        for number in range(count)
    ]


def pages_of(given: list[Entry], seed: int) -> list[TrainingPage]:
    writer = PageBuilder(given, extract_forms([LEAD]), seed)
    return [page for entry in given for page in writer.pages(entry)]


def test_prompts_of_entries_vary_and_are_reproducible() -> None:
    things = entries(150)
    held = [entry.title for entry in things if is_held_out(entry.title)]
    pages, again, other = (pages_of(things, seed) for seed in (0, 0, 1))
    assert pages == again and pages != other
    assert all(page.text.startswith(page.prompt.opening) for page in pages)
    sent = [page for page in pages if page.prompt.system == "A calm book."]
    assert len(sent) == 150 and all(page.prompt.examples == (EXAMPLE,) for page in sent)
    assert sent[7].prompt.ask == "The opening paragraph of the article on Thing 7." and "[[copper]]" in sent[7].text
    assert {page.kind for page in pages} == {"article", "text", "description"}
    told = [page for page in pages if page.prompt.facts]
    assert told and all(fact[-20:] in page.text.replace("[[", "").replace("]]", "")
                        for page in told for fact in page.prompt.facts)  # fmt: skip
    shown = [page for page in pages if page.prompt.examples and page not in sent]
    assert len(shown) > 30 and all(2 <= len(page.prompt.examples) <= 3 for page in shown)
    examples = {example.ask for page in shown for example in page.prompt.examples}
    assert held and not any(f"{title} " in f"{ask} ".replace(".", " ").replace("?", " ").replace(",", " ")
                            for title in held for ask in examples)  # fmt: skip
    assert any(page.prompt.opening and not page.prompt.opening.startswith("**") for page in pages)
    assert max(len(page.text) for page in pages) <= LONGEST


def test_files_are_complete_and_reproducible(tmp_path: Path) -> None:
    packages = all_packages(tmp_path)
    write_prompts(tmp_path / "forms.jsonl", [LEAD, FACTS])
    written = [
        TrainingPage(Prompt("Say."), "It is a calm day at the harbour.", "Harbour", "thread", "Gemma 3 270M"),
        TrainingPage(Prompt("Say."), "It is a slave.", "Harbour", "thread", "Gemma 3 270M"),
        TrainingPage(Prompt("Say."), '{"kind":"drink"}', "Harbour", "list", "Gemma 3 270M"),
    ]
    write_pages(tmp_path / "sampled.jsonl", written)
    folders = [tmp_path / name for name in ("one", "two", "three")]
    cards = []
    for folder, seed in zip(folders, (0, 0, 1), strict=True):
        forms, sampled = [tmp_path / "forms.jsonl"], [tmp_path / "sampled.jsonl"]
        made = build_dataset(folder, SOURCES, packages, fetch=False, forms=forms, sampled=sampled, seed=seed)
        cards.append(data_card(made))
    one, two, three = ([(folder / name).read_bytes() for name in ("pages.jsonl", "held_out.jsonl", "titles.txt")]
                       for folder in folders)  # fmt: skip
    assert one == two and one[0] != three[0]
    pages = list(read_pages(folders[0] / "pages.jsonl"))
    assert {page.source for page in pages} == {source.name for source in SOURCES} | {"Gemma 3 270M"}
    assert [page.text for page in pages if page.source == "Gemma 3 270M"] in (
        [written[0].text, written[2].text],
        [written[2].text, written[0].text],
    )
    assert "| Gemma 3 270M | 2 | 0 | 9 |" in cards[0] and "Gemma Terms of Use" in cards[0]
    assert "**Gemma 3 270M**: words that call for care 1." in cards[0]
    assert "GFDL 1.1 or later" in cards[0] and "1:3.0-37" in cards[0] and "in 1 forms" in cards[0]
    titles = (folders[0] / "titles.txt").read_text(encoding="utf-8").splitlines()
    assert "Otter" in titles and "Grace Hopper" not in titles and "Harbour" in titles


def test_held_out_titles_are_not_in_training_files(tmp_path: Path) -> None:
    title = next(f"Thing {number}" for number in range(1000) if is_held_out(f"Thing {number}"))
    pages = [
        TrainingPage(Prompt("Say."), f"{title} is a tool of the harbour.", title, "article", "x"),
        TrainingPage(Prompt("Tell."), f"A tool is like [[{title}]] of the harbour.", "Tool", "article", "x"),
    ]
    write_pages(tmp_path / "sampled.jsonl", pages)
    build_dataset(tmp_path / "out", (), tmp_path, fetch=False, sampled=[tmp_path / "sampled.jsonl"])
    assert list(read_pages(tmp_path / "out" / "held_out.jsonl")) == pages[:1]
    assert list(read_pages(tmp_path / "out" / "pages.jsonl")) == pages[1:]
    assert (tmp_path / "out" / "titles.txt").read_text(encoding="utf-8") == ""


def test_the_command_writes_files_and_reports_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packages = all_packages(tmp_path)
    out = tmp_path / "out"
    assert main(["make", "--out", str(out), "--packages", str(packages), "--without", "gcide"]) == 0
    table, document = capsys.readouterr().out.rsplit("\n", 2)[:2]
    assert "| wikipedia |" in table and "gcide" not in table
    counts = json.loads(document)["sources"]
    assert counts["wikipedia"]["pages"] + counts["wikipedia"]["held_out"] >= 3
    assert (out / "CARD.md").read_text(encoding="utf-8").startswith("# Training pages\n")
    assert main(["make", "--out", str(out), "--packages", str(tmp_path / "none")]) == 1
    assert "Error: " in (said := capsys.readouterr().err) and "pip download --no-deps" in said
    for typed, answer in (
        (["make", "--out", "x", "--sead", "1"], "unrecognized arguments: --sead 1"),
        (["make"], "required: --out"),
        (["make", "--out", "x", "--without", "cyc"], "invalid choice: 'cyc'"),
        (["mak"], "invalid choice: 'mak'"),
    ):
        with pytest.raises(SystemExit):
            main(typed)
        assert answer in capsys.readouterr().err
    with pytest.raises(EngineError, match="cannot be read"):
        build_dataset(out, (), packages, forms=[tmp_path / "none.jsonl"])
