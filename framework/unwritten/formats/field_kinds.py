"""What fields with well-known names usually hold: ranges of numbers, lengths and forms of texts, and samples.

A name is read from its end: ``prep_minutes`` is a number of minutes, ``birthYear`` a year. Two words are tried before
one. Names in other languages and unknown names get wide bounds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class NumberKind:
    """What a numeric field holds.

    Attributes:
        low: The usual minimum.
        high: The usual maximum.
        samples: Typical values.
    """

    low: float
    high: float
    samples: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TextKind:
    """What a text field holds.

    Attributes:
        length: The usual maximum length.
        pattern: What every text matches, for engines that enforce patterns. "": no text of such a form is assumed.
        samples: Typical values.
        is_prose: True if it is one or more sentences.
    """

    length: int
    pattern: str = ""
    samples: tuple[str, ...] = ()
    is_prose: bool = False

    @property
    def is_form(self) -> bool:
        """True for texts of a fixed form, such as e-mail addresses, whose length does not vary."""
        return bool(self.pattern) and not self.pattern.startswith(f"^{_FIRST}")

    def pattern_for(self, length: int) -> str:
        """Return the pattern of texts up to a length."""
        if not self.pattern or self.is_form:
            return self.pattern
        return _sentence(length) if self.is_prose else _plain(length)


# -- numbers ------------------------------------------------------------------------------------------------

_NUMBERS: Final = """
minute, min, duration, runtime: 5 120 / 25 40 90
cook minute, prep minute, preparation minute: 5 90 / 15 30 45
travel minute, flight minute, duration minute, length minute: 20 180 / 45 75 110
read minute, time minute: 2 60 / 6 12 20
time limit: 5 60 / 10 30 45
play time: 15 180 / 30 60 90
hour: 1 12 / 2 4 8
work hour, hour week, weekly hour: 10 40 / 20 30 38
second, sec: 5 300 / 30 90 210
rest second: 20 120 / 30 60 90
day: 1 21 / 3 7 14
night: 1 14 / 2 5 7
week: 1 16 / 2 6 10
month: 1 12 / 3 6 9
year: 1900 2025 / 1954 1987 2012
founded, established, opened, built, created: 1200 2020 / 1687 1842 1965
birth year, born: 1920 2005 / 1948 1975 1991
died, death year: 1940 2024 / 1969 1988 2011
founded year, year founded, year built, year opened, year established, built year: 1850 2020 / 1893 1936 1978
lifespan year, life expectancy, lifespan: 2 80 / 7 15 40
experience year, warranty year: 1 10 / 2 3 5
age: 18 80 / 29 41 57
min age, minimum age, age limit, recommended age: 3 16 / 6 8 12
serving, portion, people, person, guest, diner: 1 10 / 2 4 6
attendee, participant, visitor, spectator, attendance, capacity, audience, seat: 20 800 / 60 150 400
player: 2 8 / 2 4 6
min player, minimum player: 1 2 / 1 2 2
max player, maximum player: 3 8 / 4 5 6
team member, team size: 3 30 / 5 8 12
member: 5 2000 / 24 130 600
employee, staff: 5 2000 / 18 120 650
student, enrolled, enrollment: 10 600 / 35 120 300
population, inhabitant, resident, citizen: 800 900000 / 2400 18500 164000
price, cost, fee, fare: 3 250 / 12.5 39.9 85
total, amount, subtotal, sum, balance, payment, grand total, total price, total cost: 10 900 / 48.5 129 310
night price, price night, rate night: 40 350 / 75 120 210
price eur, price usd, price gbp: 5 300 / 24.5 79 149
house price, listing price, property price, apartment price, home price, flat price: 60000 900000 / 145000 289000 420000
car price: 1500 60000 / 4800 12500 23000
unit price, item price: 2 150 / 4.5 18 60
budget: 50 5000 / 150 600 2000
salary, wage: 24000 95000 / 32000 48000 64000
hourly wage, hourly rate, hour rate: 12 90 / 15 28 45
revenue, turnover, profit: 100000 90000000 / 450000 2800000 17000000
percent, percentage, pct: 1 100 / 12 35 60
humidity: 30 95 / 48 65 82
chance, probability, likelihood: 0 100 / 10 40 75
precipitation, rain, rainfall: 0 40 / 0 3 12
discount: 5 50 / 10 15 25
tax, vat, tax percent, tax rate, vat percent, vat rate: 5 25 / 7 19 20
interest, interest rate: 1 9 / 2.5 3.4 5
share, ratio, fraction, confidence: 0 1 / 0.2 0.45 0.7
rating, star: 1 5 / 3 4 5
score, point, grade, mark: 10 100 / 55 72 88
home score, away score, goal: 0 4 / 0 1 3
difficulty, complexity, priority, importance, severity, urgency, spiciness: 1 5 / 2 3 4
level: 1 20 / 2 5 9
rank, place, position, order, index: 1 10 / 1 2 3
number, no, nr, num: 1 20 / 1 2 3
chapter, track, verse, lesson: 1 15 / 1 2 3
episode: 1 40 / 3 12 24
season: 1 8 / 1 2 4
step: 1 8 / 1 2 3
floor, storey: 1 12 / 1 2 4
page: 80 600 / 144 248 352
word: 100 3000 / 250 600 1400
room: 3 150 / 12 28 60
bedroom: 1 5 / 2 3 4
bathroom: 1 3 / 1 2 2
bed: 8 80 / 16 30 48
door: 2 5 / 3 4 5
wheel: 2 4 / 2 4 4
stop, transfer: 0 3 / 0 1 2
gate, platform, lane, row: 1 30 / 4 9 17
quantity, qty: 1 12 / 1 2 6
stock, inventory: 0 200 / 8 35 120
count: 1 50 / 4 12 30
review, vote, comment, reply, like, favorite, review count, vote count: 2 900 / 14 86 320
view, download, follower, subscriber: 50 20000 / 430 2100 9800
temperature, temp: -8 34 / 4 14 23
max temperature, high temperature: 16 34 / 18 22 29
min temperature, low temperature: -6 14 / 2 7 11
oven temperature, bake temperature, baking temperature: 150 240 / 170 180 200
body temperature: 36 40 / 36.6 37.2 38.5
wind speed, wind: 2 70 / 8 18 35
pressure: 985 1035 / 998 1012 1021
uv: 0 10 / 2 4 7
speed: 5 180 / 25 60 110
height cm: 20 210 / 60 120 175
body height, person height, patient height, player height, user height: 150 200 / 164 172 185
height, length, width, depth: 1 200 / 12 40 95
diameter: 1 500 / 8 40 120
diameter km: 1000 90000 / 4200 12700 49000
elevation, altitude: 20 2600 / 140 480 1850
area, surface: 30 400 / 62 95 140
area km, area km2, area hectare: 2 500 / 12 48 160
sqm, sqft, m2: 25 300 / 54 88 130
distance, mile: 2 400 / 8 45 160
mileage, mileage km, odometer: 5000 220000 / 24000 68000 135000
km, kilometer, kilometre: 1 400 / 6 42 180
cm, centimeter: 5 200 / 15 45 120
mm, millimeter: 2 500 / 6 20 90
m, meter, metre: 2 900 / 12 85 340
weight: 1 100 / 4.5 22 68
kg, kilogram: 1 100 / 3 25 70
gram, g, weight g: 20 900 / 80 250 500
ml, milliliter: 20 900 / 100 250 500
l, liter, litre, volume: 1 60 / 2 5 20
calory, calorie, kcal, calory burned, calorie burned: 90 800 / 180 320 540
protein, fat, carb, fiber, sugar, salt: 1 60 / 4 12 30
heart rate, pulse: 55 120 / 64 72 88
bpm, tempo: 70 160 / 84 104 128
set: 2 5 / 3 3 4
rep, repetition: 6 20 / 8 10 12
health, hp: 10 120 / 25 60 90
strength, power, agility, intelligence, wisdom, dexterity, charisma, stamina, magic, luck: 3 18 / 7 11 15
damage, armor, armour, attack, defense, defence: 1 40 / 5 12 25
gold, coin: 5 500 / 20 80 250
horsepower: 60 300 / 75 110 150
moon: 0 20 / 1 2 7
day length hour, length hour: 6 60 / 10 24 31
mean temperature: -120 160 / -40 15 70
latitude, lat: -55 65 / -12.4 41.3 52.1
longitude, lng, lon: -120 150 / -58.4 12.6 77.2
id: 100 99999 / 1204 4417 20358
zip, postcode, postal: 10000 99999 / 10437 48155 80331
port: 1024 65535 / 5432 8000 8080
"""

_DEFAULT_INTEGER: Final = NumberKind(1, 100, (3, 12, 40))
_DEFAULT_NUMBER: Final = NumberKind(0, 100, (2.5, 14, 60))


def _read_numbers(table: str) -> dict[str, NumberKind]:
    """Return the kinds by name. A line has names, the bounds, and samples."""
    kinds: dict[str, NumberKind] = {}
    for line in table.strip().splitlines():
        names, _, rest = line.partition(":")
        bounds, _, samples = rest.partition("/")
        low, high = map(_number, bounds.split())
        kind = NumberKind(low, high, tuple(map(_number, samples.split())))
        kinds.update((name.strip(), kind) for name in names.split(","))
    return kinds


def _number(text: str) -> float:
    return float(text) if "." in text else int(text)


_NUMBER_KINDS: Final = _read_numbers(_NUMBERS)

_UNITS: Final = frozenset("m cm mm km km2 m2 sqm sqft kg g l ml mile c f eur usd gbp pct percent celsius".split())
"""Units that say less about a range than the word before them: the elevation of a town, the weight of an animal."""
_FILLERS: Final = frozenset("avg average mean total estimated approx current typical minimum maximum the a".split())

# -- texts --------------------------------------------------------------------------------------------------

_FIRST = r"[^ .,;:_<>{}()|*#=+/\\\[\]\-'\"!?%&~`@^…–—]"
"""A letter or a digit, of any script."""
_CHAR = r"[^_<>{}|\\\[\]*#=~`\"]"
"""A character of a plain text: no mark of another format."""


def _plain(length: int) -> str:
    return f"^{_FIRST}{_CHAR}{{0,{length - 1}}}$"


def _sentence(length: int) -> str:
    return f"^{_FIRST}{_CHAR}{{16,{length - 2}}}[.!?…。！？।؟]$"


_DATE = r"-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])"
DATE_PATTERNS: Final[Mapping[str, str]] = {
    "date": rf"^20[0-2][0-9]{_DATE}$",
    "birth": rf"^19[3-9][0-9]{_DATE}$",
    "date-time": rf"^20[0-2][0-9]{_DATE}T(0[7-9]|1[0-9]|2[0-2]):[0-5][05]:00Z$",
}
_CLOCK = r"^(0[6-9]|1[0-9]|2[0-3]):[0-5][05]$"
_EMAIL = r"^[a-z]{2,10}(\.[a-z]{2,12})?@[a-z]{3,14}(-[a-z]{2,10})?\.(com|org|net|eu)$"
_PHONE = r"^\+[1-9][0-9]? [1-9][0-9]{1,2} [2-9][0-9]{2} [0-9]{3,4}$"
_URL = r"^https://(www\.)?[a-z]{3,14}(-[a-z]{2,10})?\.(com|org|net|eu)(/[a-z]{2,14}(-[a-z]{2,10}){0,3})?$"
_YEAR = r"^(1[5-9][0-9]{2}|20[0-2][0-9])$"
_MEASURE = rf"^(-|[$€£¥])?[0-9]{_CHAR}{{0,18}}$"
_CODE = r"^[A-Z]{2,3}-[1-9][0-9]{2,4}$"

_PERSON = TextKind(32, _plain(32), ("Ruth Okafor", "Jonas Lind", "Maya Brandt", "Pavel Noor", "Inga Sorel"))
_TITLE = TextKind(48, _plain(48))
_FREE = TextKind(200)
UNKNOWN_TEXT: Final = TextKind(
    72,
    _plain(72),
    (
        "oak with a brass lock",
        "twice a week after noon",
        "left of the mill",
        "made in the old harbour",
        "best before the frost",
    ),
)


def _short(*samples: str) -> TextKind:
    return TextKind(28, _plain(28), samples)


def _measure(*samples: str) -> TextKind:
    """Return the kind of a number as text, with its unit or currency in any language."""
    return TextKind(20, _MEASURE, samples)


def _line(*samples: str) -> TextKind:
    return TextKind(60, _plain(60), samples)


def _prose(*samples: str) -> TextKind:
    return TextKind(160, _sentence(160), samples, is_prose=True)


_TEXTS: Final[Sequence[tuple[str, TextKind]]] = (
    (
        "author;director;writer;mayor;ceo;guest;host;instructor;teacher;assignee;reviewer;keeper;owner;artist;composer;"
        "editor;manager;organizer;speaker;chef;captain;founder;reporter;sender;recipient;customer;client;photographer;"
        "person name;keeper name;guest name;patient name;full name;customer name;first name;last name;"
        "author name;scorer;actor;cast;member;player;winner",
        _PERSON,
    ),
    ("name;title;headline;subject;heading;label;theme;slogan", _TITLE),
    (
        "description;detail;overview;explanation;instruction;caption;content",
        _prose(
            "A folding table of pale oak that seats four.",
            "A narrow canal boat with two cabins and a stove.",
            "A wool coat with deep pockets and horn buttons.",
        ),
    ),
    (
        "summary;plot;story;synopsis;abstract;excerpt",
        _prose(
            "Two sisters inherit a ferry and learn to run it.",
            "A clockmaker searches the coast for his brother.",
            "The town rebuilds its mill after the flood.",
        ),
    ),
    (
        "review;verdict;comment;feedback;remark;reply;message;conclusion",
        _prose(
            "The drawers run smoothly, and the handle is strong.",
            "It came a week late, but it works well.",
            "I would buy it again for my mother.",
        ),
    ),
    (
        "bio;biography;background;backstory;history",
        _prose(
            "She grew up on a barge and learned to carve from her uncle.",
            "He taught drawing for ten years before he opened the shop.",
            "They moved north after the mine had closed.",
        ),
    ),
    (
        "text;body;note;lead;intro;introduction;report;answer;reason;meeting minute",
        _prose(
            "The council met on Tuesday and voted for the new tram line.",
            "Bring the old key, because the side door sticks.",
            "The orchard opened early, and all the pears were sold by noon.",
        ),
    ),
    (
        "fact;tip;advice",
        _prose(
            "Its ears turn in two directions at once.",
            "Keep the box open until the glue is dry.",
            "Young ones leave the nest after three weeks.",
            "It was painted blue for a royal visit.",
            "A spoon of vinegar removes the stains.",
        ),
    ),
    (
        "step;step text;step description;direction;method",
        TextKind(
            110,
            _sentence(110),
            (
                "Measure both sides of the gate.",
                "Cut the boards to length.",
                "Leave the paint to dry overnight.",
                "Wipe the hinges with a cloth.",
                "Tighten all four bolts.",
            ),
            is_prose=True,
        ),
    ),
    (
        "verse;lyric;stanza",
        TextKind(
            110,
            _plain(110),
            (
                "The lamps go out along the quay",
                "My brother kept the bell for me",
                "And snow lay on the garden wall",
            ),
        ),
    ),
    ("genre", _short("Mystery", "Comedy", "Folk tale", "Romance", "Western")),
    ("cuisine", _short("Basque", "Thai", "Polish")),
    ("industry;sector;department;field", _short("Printing", "Fisheries", "Textiles")),
    ("tag;keyword;category", _short("handmade", "outdoor", "gifts", "vintage", "local")),
    ("brand;make;manufacturer", _short("Marden", "Volta", "Keller")),
    ("color;colour", _short("green", "navy", "cream", "rust", "violet")),
    ("material", _short("oak", "wool", "steel", "linen", "brass")),
    ("race", _short("elf", "dwarf", "human")),
    ("species;latin name;scientific name", TextKind(40, _plain(40), ("Parus major", "Salix alba", "Lynx lynx"))),
    ("kind;type;style;mood;condition;status;state;size;gender;model", _short("folding", "classic", "compact")),
    ("nationality;language", _short("Portuguese", "Finnish", "Welsh", "Swahili", "Korean")),
    ("occupation;profession;job;role;position", _short("carpenter", "nurse", "tram driver")),
    ("hobby;interest", _short("rowing", "chess", "old maps", "beekeeping", "choir")),
    (
        "company;airline;publisher;organization;organisation;band;studio;school;employer;vendor;supplier;seller",
        TextKind(40, _plain(40), ("Marden & Sons", "Volta Works", "Keller Group")),
    ),
    ("team;club", _short("Marden Town", "Volta FC", "Keller Rovers")),
    (
        "amenity;feature;facility;service",
        _line("free parking", "a small library", "bicycles to borrow", "a drying room", "late breakfast"),
    ),
    ("dish;meal;food;dessert", _line("trout with lemon", "bean soup", "pear tart", "potato dumplings", "plum cake")),
    ("question", _line("Which bridge is the oldest?", "Who built the first mill?", "How deep is the lake?")),
    ("option;choice", _short("the stone bridge", "in 1842", "twelve metres", "a retired pilot", "the north gate")),
    (
        "pro;advantage;strength;benefit",
        _line("light to carry", "opens with one hand", "needs no oil", "fits under a bed", "quiet at night"),
    ),
    (
        "con;disadvantage;weakness;drawback",
        _line("dries slowly", "the strap is too short", "hard to clean", "smells of glue", "no spare parts"),
    ),
    (
        "requirement;skill;qualification",
        _line(
            "a driving licence", "two years with customers", "good written French", "free on weekends", "a steady hand"
        ),
    ),
    ("symptom", _short("dry cough", "sore knee", "mild fever", "ringing ears", "a stiff neck")),
    (
        "lesson;chapter;section;module",
        _line("The first tools", "Reading a plan", "Common mistakes", "Choosing a place", "A longer project"),
    ),
    (
        "lesson title;chapter title;track title;track name;song title;song",
        _line("Three Sailors", "Hill Road", "Late Bus", "Salt and Rope", "Winter Keys"),
    ),
    ("exercise name;exercise", _short("Squats", "Plank", "Rope skipping", "Lunges", "Step-ups")),
    (
        "activity",
        _line(
            "a walk along the wall", "lunch at the market", "a boat trip", "a visit to the mint", "tea with a potter"
        ),
    ),
    ("topic", _line("tides", "old bridges", "night work", "lost letters", "city bees")),
    (
        "item;inventory;equipment;tool;item name;orderitem name;product name;line item",
        _line("a coil of rope", "an iron key", "two candles", "a tin whistle", "three blankets"),
    ),
    (
        "invoiceline description;line description;item description",
        _line("hinges and screws", "two days of work", "paint"),
    ),
    (
        "task;subtask;todo;goal;chore",
        _line("measure the gate", "buy two brushes", "wash the floor", "call the plumber", "sort the screws"),
    ),
    ("country", TextKind(24, _plain(24), ("Portugal", "Canada", "Finland", "Kenya", "Japan"))),
    ("city;town;birthplace;headquarter;hometown", TextKind(28, _plain(28), ("Tartu", "Lyon", "Halifax"))),
    (
        "location;venue;place;destination;stadium;region;habitat",
        TextKind(
            40,
            _plain(40),
            ("the old town hall", "North Park", "a room near the river", "Station Square", "the upper meadow"),
        ),
    ),
    (
        "address;street address;street",
        TextKind(56, _plain(56), ("Mill Road 14, Leeds", "Linden Street 3, Basel", "Canal Lane 27, Ghent")),
    ),
    (
        "email;e mail;mail;mail address;email address",
        TextKind(60, _EMAIL, ("ruth.okafor@post.org", "jonas@lindmail.eu", "maya@brandt.net")),
    ),
    (
        "phone;telephone;mobile;fax;phone number;telephone number;mobile number",
        TextKind(24, _PHONE, ("+44 20 555 0142", "+49 30 555 1980", "+1 613 555 0177")),
    ),
    (
        "url;website;link;homepage;web;web address;website url",
        TextKind(90, _URL, ("https://www.okafor.org", "https://lind-works.eu/plans", "https://brandt.net")),
    ),
    (
        "date;day date;birthday;deadline;due;due date",
        TextKind(24, DATE_PATTERNS["date"], ("2021-04-17", "2023-09-05", "2019-11-22")),
    ),
    (
        "birth date;date birth;birthdate",
        TextKind(24, DATE_PATTERNS["birth"], ("1961-04-17", "1984-09-05", "1979-11-22")),
    ),
    (
        "time;start time;end time;departure;arrival;departure time;arrival time;check in;check out;opening time;"
        "closing time;check in time;check out time;start;end",
        TextKind(16, _CLOCK, ("09:30", "14:15", "19:00")),
    ),
    (
        "opening hour;business hour;hour",
        TextKind(40, _plain(40), ("Mon-Fri 09:00-17:00", "Tue-Sun 11:30-22:00", "Mon-Sat 08:00-18:30")),
    ),
    ("month", TextKind(16, _plain(16), ("May", "August", "November", "February", "September"))),
    ("weekday;day", TextKind(16, _plain(16), ("Tuesday", "Friday", "Sunday", "Monday", "Thursday"))),
    (
        "id;code;sku;reference;ref;serial;ticket id;order id;invoice number;order number;ticket number;serial number;"
        "booking number;tracking number;customer number;account number",
        TextKind(16, _CODE, ("KT-4417", "MB-208", "RX-9051")),
    ),
    ("flight number;flight", TextKind(10, r"^[A-Z]{2} [1-9][0-9]{1,3}$", ("KL 417", "BA 2208", "SK 95"))),
    ("gate", TextKind(6, r"^[A-F][1-9][0-9]?$", ("B14", "C7", "A22"))),
    ("postal code;postcode;zip;zip code;postal", TextKind(12, r"^[1-9][0-9]{3,4}$", ("40213", "8005", "10437"))),
    ("year;birth year;death year", TextKind(4, _YEAR, ("1954", "1987", "2012"))),
    ("price;cost;fee;fare;total price;unit price", _measure("€24.50", "$18", "£140")),
    ("time zone;timezone", _short("Europe/Lisbon", "UTC", "Asia/Tokyo")),
    ("price range", TextKind(24, _plain(24), ("10 to 25 EUR", "30 to 60 EUR", "under 15 EUR"))),
    ("salary;wage;budget", _measure("€32,000", "$48,000", "£64,000")),
    ("rating;score", TextKind(16, _plain(16), ("4 of 5", "3.5", "78 of 100"))),
    ("percent;percentage;humidity;discount", _measure("40 %", "12 %", "65 %")),
    ("temperature", _measure("14 °C", "-3 °C", "23 °C")),
    ("minute", _measure("25", "40", "90")),
    (
        "duration;runtime;running time;prep time;preparation time;cook time;cooking time;bake time;baking time;"
        "total time;travel time;travel duration;flight time;read time;reading time;play time;playing time;wait time;"
        "waiting time;rest time;delivery time",
        _measure("25 minutes", "1 hour", "90 minutes"),
    ),
    ("age", _measure("29", "41", "57")),
    ("weight", _measure("4.5 kg", "250 g", "22 kg")),
    ("height;width;depth;diameter", _measure("85 cm", "1.6 m", "40 cm")),
    ("distance;elevation;altitude", _measure("8 km", "140 m", "45 km")),
    ("speed;wind speed", _measure("25 km/h", "60 km/h", "8 km/h")),
    ("serving;quantity;qty;amount", _measure("4", "2 cups", "250 g")),
    ("population", _measure("2,400", "18,500", "164,000")),
    ("calory;calorie;kcal", _measure("180", "320", "540")),
    ("priority;severity;urgency;importance", TextKind(16, _plain(16), ("high", "low", "medium"))),
    ("difficulty;complexity", TextKind(16, _plain(16), ("easy", "hard", "medium"))),
    ("currency;currency code", TextKind(8, r"^(EUR|USD|GBP|CHF|JPY|SEK)$", ("EUR", "USD", "GBP"))),
    ("ingredient name", _short("flour", "salt", "plums", "butter", "walnuts")),
    (
        "ingredient;zutat",
        TextKind(40, _plain(40), ("2 cups of flour", "a pinch of salt", "3 eggs", "200 g butter", "1 ripe pear")),
    ),
    ("username;user;nickname;handle;login", TextKind(20, r"^[A-Za-z][A-Za-z0-9]{3,14}$", ("ruth77", "jlind", "mayab"))),
    (
        "html;css;javascript;python;source;sql;command;script;path;file;filename;file name;regex;svg;markdown;json;"
        "yaml",
        _FREE,
    ),
)
_TEXT_KINDS: Final[Mapping[str, TextKind]] = {name: kind for names, kind in _TEXTS for name in names.split(";")}

# -- lookups ------------------------------------------------------------------------------------------------

_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_RANGE = re.compile(
    r"(?<![\d.])(-?\d{1,9}(?:\.\d+)?)\s*(?:to|and|bis|[-–…]|\.\.)\s*(-?\d{1,9}(?:\.\d+)?)(?![\d.]*[\d-])"
)
_OF = frozenset("of per in for at to from by on".split())
_COUNTED = frozenset("number num count total amount no".split())


def words_of(name: str) -> list[str]:
    """Return the words of a field's name: ``prep_minutes`` and ``prepMinutes`` have two."""
    return [word for word in re.split(r"[^\w]+|_+", _CAMEL.sub("_", name).casefold()) if word]


def singular(word: str) -> str:
    """Return a regular English plural as a singular."""
    if len(word) > 3 and word.endswith("ies") and word not in ("series", "species", "movies", "cookies"):
        return f"{word[:-3]}y"
    if word.endswith(("ches", "shes", "xes", "sses")):
        return word[:-2]
    if len(word) > 2 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


def number_kind(name: str, description: str, *, whole: bool, parent: str = "") -> NumberKind:
    """Return what a numeric field holds.

    Args:
        name: The field's name.
        description: Its description, "" if it has none. A range in it counts: "from 1 to 10".
        whole: True for integers.
        parent: The name of the schema that the field belongs to.
    """
    found = _range_in(description)
    if found is not None:
        return found
    for phrase in _phrases(name, parent):
        kind = _NUMBER_KINDS.get(phrase)
        if kind is not None:
            return _as_share(kind) if phrase in ("chance", "probability", "likelihood") and not whole else kind
    for word in words_of(description):
        if singular(word) in _NUMBER_KINDS and singular(word) not in _UNITS:
            return _NUMBER_KINDS[singular(word)]
    return _DEFAULT_INTEGER if whole else _DEFAULT_NUMBER


def text_kind(name: str, parent: str = "") -> TextKind:
    """Return what a text field holds.

    Args:
        name: The field's name.
        parent: The name of the schema that the field belongs to.
    """
    head = _head(name)
    for phrase in _phrases(name, parent):
        kind = _TEXT_KINDS.get(phrase)
        # A weight class is no weight.
        if kind is not None and (kind.pattern not in (_MEASURE, _YEAR) or head in phrase.split()):
            return kind
    return UNKNOWN_TEXT


def _head(name: str) -> str:
    """Return the word that says what a field is: the price of ``price_per_night`` and ``price_eur``."""
    words = [singular(word) for word in words_of(name)]
    at = next((n for n, word in enumerate(words) if n and word in _OF), len(words))
    strong = [word for word in words[:at] if word not in _UNITS | _FILLERS and not word.isdigit()]
    return (strong or words or [""])[-1]


def _as_share(kind: NumberKind) -> NumberKind:
    return NumberKind(0, 1, tuple(sample / 100 for sample in kind.samples))


def _range_in(description: str) -> NumberKind | None:
    """Return the range that a description names, if there is just one."""
    found = _RANGE.findall(description)
    if len(found) != 1:
        return None
    low, high = map(_number, found[0])
    if low >= high:
        return None
    middle = low + (high - low) / 2
    whole = isinstance(low, int) and isinstance(high, int)
    samples = (low + (high - low) / 4, middle, low + (high - low) * 3 / 4)
    return NumberKind(low, high, tuple(round(sample) if whole else round(sample, 1) for sample in samples))


def _phrases(name: str, parent: str = "") -> Iterator[str]:
    """Yield the phrases by which a name is looked up, the most telling first."""
    words = [singular(word) for word in words_of(name)]
    if parent and (models := words_of(parent)):
        yield f"{singular(models[-1])} {' '.join(words)}"
        yield " ".join([singular(models[-1]), *(word for word in words if word not in _UNITS)])
        yield f"{''.join(models)} {' '.join(words)}"
    yield " ".join(words)
    at = next((n for n, word in enumerate(words) if n and word in _OF), None)
    if at is not None:
        head, rest = words[:at], words[at + 1 :]
        if head[-1] in _COUNTED and rest:
            words = rest
        else:  # chance_of_rain, hours_per_week; price_per_night is tried with both words
            yield from (f"{head[-1]} {word}" for word in rest)
            words = head
    if len(words) > 1 and words[0] in _COUNTED | {"nr"}:  # num_pages
        words = words[1:]
    if len(words) > 1 and words[-1] == "count":  # reviews_count
        words = [*words[:-1]]
    if len(words) > 2:
        yield " ".join(words[-3:])
    for end in range(len(words), 1, -1):
        yield " ".join(words[end - 2 : end])
    weak = [word for word in words if word in _UNITS or word in _FILLERS]
    yield from (word for word in reversed(words) if word not in weak)
    yield from (word for word in reversed(words) if word in _UNITS)
    yield from (word for word in reversed(words) if word in _FILLERS)
