"""Dates of files and letters: a day and a month.

As free text the model wrote "31 July,", ":11 August" or "June", so the schemas hold it to a number and one of twelve
names. Pages stored before that have a text, which is still read.
"""

import re
from calendar import monthrange
from typing import Any, Literal, get_args

Month = Literal[
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
MONTHS: tuple[str, ...] = get_args(Month)
LEAP_YEAR = 2024
"""Dates have no year here, so 29 February is valid."""


def format_date(entry: Any) -> str:
    """Return the date of an entry, such as "14 April". Empty if the entry is still being written and has none yet."""
    day, month = entry.day, entry.month
    if not isinstance(day, int) or month not in MONTHS:
        return ""
    return f"{min(day, monthrange(LEAP_YEAR, MONTHS.index(month) + 1)[1])} {month}"


def split_date(data: Any, name: str) -> Any:
    """Replace a date given as text by a day and a month, before validation.

    Args:
        data: The input of a model.
        name: The field that holds the text. Without a day it becomes the first, without a month January.
    """
    if not isinstance(data, dict) or name not in data:
        return data
    text = str(data[name])
    number = re.search(r"\d{1,2}", text)
    month = next((month for month in MONTHS if month[:3].casefold() in text.casefold()), MONTHS[0])
    day = min(max(int(number[0]), 1), 31) if number else 1
    return {"day": day, "month": month, **{key: value for key, value in data.items() if key != name}}
