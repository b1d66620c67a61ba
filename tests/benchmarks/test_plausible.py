"""The rules of the benchmark ``plausible``: they accept good values and reject what small models write."""

from __future__ import annotations

import datetime

import pytest
from tests.benchmarks.plausible_cases import CASES, Recipe, Step
from tests.benchmarks.plausible_rules import CLOCK, EMAIL, PHONE, URL, Rule, day, items, judge, number, words

from unwritten.formats.schema import json_schema_of

RULES = CASES["Recipe"].rules


def test_there_are_forty_schemas_with_a_rule_for_every_field() -> None:
    assert len(CASES) == 40
    for name, case in CASES.items():
        assert len(set(case.subjects)) == 3 and "{}" in case.prompt
        judged = {path.split(".")[0].removesuffix("[]") for path, _ in case.rules}
        assert judged == set(json_schema_of(case.schema)["properties"]), name


def test_a_good_recipe_is_plausible_and_a_bad_one_is_not() -> None:
    steps = [Step(number=1, text="Peel the potatoes."), Step(number=2, text="Boil them with salt.")]
    good = Recipe(title="Soup", servings=4, prep_minutes=20, ingredients=["potatoes", "salt"], steps=steps)
    assert set(judge(good, RULES).values()) == {""}
    steps = [Step(number=43, text="Soup for the whole"), Step(number=44, text="Soup for the whole")]
    bad = Recipe(title="_", servings=491509420, prep_minutes=0, ingredients=["salt", "Salt"], steps=steps)
    assert all(problem for path, problem in judge(bad, RULES).items() if path != "steps")
    assert judge(good, RULES, {"salt"})["ingredients"] == "copied from the example"


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        (EMAIL, ["a.b@mail.org"], ["a@b", "a b@c.de", "@c.de"]),
        (URL, ["https://a.org/b", "www.a.org"], ["a", "https://", "1.5"]),
        (PHONE, ["+44 20 555 0142", "(020) 555-014"], ["12", "none", "1234567890123456789"]),
        (CLOCK, ["09:30", "7:15 pm"], ["25:00", "2022-10-01", "9"]),
        (
            day(2000, 2030),
            ["2021-04-17", "3 May 2022", datetime.date(2020, 1, 1)],
            ["1021-04-17", "2021-13-01", "soon"],
        ),
        (number(1, 9), [1, 9.0], [0, 10, "5", True]),
        (words(2, 6), ["An old mill", "Two words"], ["", "One", "wood and", "> old mill", "an an", "a_b c", "12 34"]),
        (words(2, 9, sentence=True), ["It works well."], ["It works well", "It works, and."]),
        (items(1, 3), [["a"], ["a", "b"]], [[], ["a", "A."], list("abcd")]),
    ],
)
def test_rules(rule: Rule, good: list[object], bad: list[object]) -> None:
    assert [rule(value) for value in good] == [""] * len(good)
    assert all(rule(value) for value in bad)
