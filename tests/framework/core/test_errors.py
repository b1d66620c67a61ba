"""The tree of errors."""

import re

from unwritten.core import errors


def test_the_module_draws_the_tree_of_all_errors() -> None:
    parents: dict[str, str] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"    ((?:[│ ]   )*)(?:[├└]── )?(\w+)", line)
        if match and hasattr(errors, match[2]):
            depth = len(match[1]) // 4 + ("──" in line)
            path[depth:] = [match[2]]
            parents[match[2]] = path[depth - 1] if depth else "Exception"
    classes = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception) and name[0] != "_"
    }
    public_parents = {
        name: next(base.__name__ for base in cls.__mro__[1:] if not base.__name__.startswith("_"))
        for name, cls in classes.items()
    }
    assert parents == public_parents


def test_errors_with_an_http_status() -> None:
    assert (errors.BadURL("x").status, errors.BadForm("x", 413).status) == (400, 413)
    assert (errors.OverBudget("x", 5, "visitor_pages").retry_after, errors.Busy("x", 7).retry_after) == (5, 7)
