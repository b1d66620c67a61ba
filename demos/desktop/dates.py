"""Dates: a day and a month that the model can be held to, and what they are when they are shown.

As one text they came out as "31 July,", ":11 August" or "June". Boxes and folders that were written then are kept, so
such a text is still read.
"""

import re
from calendar import monthrange
from typing import Any, Literal, get_args

Month = Literal[
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
MONTHS: tuple[str, ...] = get_args(Month)
LEAP = 2024
"""A year whose February has all its days: what has a date here has no year."""


def shown(thing: Any) -> str:
    """The date of something that may still be growing: "14 April", or nothing while it is not whole."""
    day, month = thing.day, thing.month
    if not isinstance(day, int) or month not in MONTHS:
        return ""
    return f"{min(day, monthrange(LEAP, MONTHS.index(month) + 1)[1])} {month}"


def divided(data: Any, name: str) -> Any:
    """What a model is read from, with the text of a date, where it has one, as a day and a month.

    Args:
        data: of the thing that has the date.
        name: where the text was kept. Without a day it is the first, and without a month it is in January.
    """
    if not isinstance(data, dict) or name not in data:
        return data
    text = str(data[name])
    found = re.search(r"\d{1,2}", text)
    month = next((month for month in MONTHS if month[:3].casefold() in text.casefold()), MONTHS[0])
    day = min(max(int(found[0]), 1), 31) if found else 1
    return {"day": day, "month": month, **{key: value for key, value in data.items() if key != name}}
