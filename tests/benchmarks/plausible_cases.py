"""Forty schemas as authors write them first: without bounds and without examples, with rules for every field.

The rules are written by hand for each field, and do not come from the bounds that the framework assumes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum
from typing import Any, Literal

from pydantic import BaseModel, Field
from tests.benchmarks.plausible_rules import (
    CLOCK,
    CODE,
    EMAIL,
    PHONE,
    URL,
    Rule,
    anything,
    day,
    distinct,
    in_order,
    items,
    maybe,
    number,
    words,
)


@dataclass(frozen=True)
class Case:
    """A schema with subjects and rules.

    Attributes:
        schema: The schema.
        prompt: The prompt of its canvas, with ``{}`` for the subject.
        subjects: Subjects of pages.
        rules: A rule for each field, by path.
    """

    schema: type[Any]
    prompt: str
    subjects: Sequence[str]
    rules: Sequence[tuple[str, Rule]]


CASES: dict[str, Case] = {}


def case(prompt: str, subjects: str, rules: Mapping[str, Rule]) -> Any:
    """Return a decorator that adds the case of a schema, under the schema's name."""

    def add(schema: type[Any]) -> type[Any]:
        CASES[schema.__name__] = Case(schema, prompt, subjects.split("; "), tuple(rules.items()))
        return schema

    return add


NAME = words(1, 8)
LINE = words(2, 30)
PERSON = words(1, 5)
PROSE = words(4, 60, sentence=True)


class Step(BaseModel):
    number: int
    text: str


@case(
    "The recipe for {}.",
    "Potato soup; Apple pancakes; Lentil stew",
    {
        "title": NAME,
        "servings": number(1, 16),
        "prep_minutes": number(2, 180),
        "ingredients": items(2, 12, words(1, 10)),
        "steps": items(2, 12),
        "steps[].number": in_order,
        "steps[].text": distinct(LINE),
    },
)
class Recipe(BaseModel):
    title: str
    servings: int
    prep_minutes: int
    ingredients: list[str]
    steps: list[Step]


class Ingredient(BaseModel):
    name: str
    quantity: float
    unit: Literal["g", "ml", "piece", "spoon"]


@case(
    "A dish for the menu: {}.",
    "Pumpkin risotto; Fish pie; Cherry tart",
    {
        "name": NAME,
        "description": words(3, 50),
        "calories": number(20, 2000),
        "difficulty": anything,
        "ingredients": items(2, 10),
        "ingredients[].name": distinct(words(1, 6)),
        "ingredients[].quantity": number(0.1, 2000),
        "vegetarian": anything,
    },
)
class Dish(BaseModel):
    name: str
    description: str
    calories: int
    difficulty: Literal["easy", "medium", "hard"]
    ingredients: list[Ingredient]
    vegetarian: bool


@case(
    "An event in the town calendar: {}.",
    "Harvest market; Jazz evening; Chess open",
    {
        "title": NAME,
        "date": day(1990, 2040),
        "start_time": CLOCK,
        "venue": words(1, 10),
        "capacity": number(5, 100_000),
        "ticket_price": number(0, 500),
        "description": PROSE,
    },
)
class Event(BaseModel):
    title: str
    date: date
    start_time: str
    venue: str
    capacity: int
    ticket_price: float
    description: str


@case(
    "A product in the shop: {}.",
    "Walking boots; Desk lamp; Garden chair",
    {
        "name": NAME,
        "description": PROSE,
        "price": number(0.5, 5000),
        "currency": words(1, 2),
        "in_stock": anything,
        "rating": number(0, 5),
        "reviews_count": number(0, 100_000),
        "tags": items(1, 8, words(1, 3)),
    },
)
class Product(BaseModel):
    name: str
    description: str
    price: float
    currency: str
    in_stock: bool
    rating: float
    reviews_count: int
    tags: list[str]


@case(
    "The profile of {}.",
    "Clara Weiss; Tom Hale; Ada Moreau",
    {
        "name": PERSON,
        "age": number(1, 105),
        "occupation": words(1, 8),
        "birthplace": words(1, 6),
        "height_cm": number(50, 220),
        "hobbies": items(1, 8, words(1, 6)),
    },
)
class Person(BaseModel):
    name: str
    age: int
    occupation: str
    birthplace: str
    height_cm: int
    hobbies: list[str]


@case(
    "The contact card of {}.",
    "Nina Petrov; the harbour office; Dr. Samuel Brand",
    {
        "fullName": words(1, 6),
        "email": EMAIL,
        "phoneNumber": PHONE,
        "streetAddress": words(2, 12),
        "postalCode": CODE,
        "city": words(1, 4),
        "website": maybe(URL),
    },
)
class Contact(BaseModel):
    fullName: str
    email: str
    phoneNumber: str
    streetAddress: str
    postalCode: str
    city: str
    website: str | None


class Priority(Enum):
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@case(
    "A support ticket: {}.",
    "Printer is offline; Cannot log in; Invoice is wrong",
    {
        "ticket_id": CODE,
        "subject": words(1, 12),
        "description": PROSE,
        "priority": anything,
        "status": anything,
        "assignee": PERSON,
        "created_at": day(2000, 2040),
        "estimated_hours": number(0, 200),
    },
)
class Ticket(BaseModel):
    ticket_id: str
    subject: str
    description: str
    priority: Priority
    status: Literal["open", "in progress", "closed"]
    assignee: str
    created_at: datetime
    estimated_hours: float


class InvoiceLine(BaseModel):
    description: str
    quantity: int
    unit_price: float


@case(
    "An invoice for {}.",
    "Roof repair; Web design; Flower delivery",
    {
        "invoice_number": CODE,
        "customer": words(1, 6),
        "issue_date": day(1990, 2040),
        "due_date": day(1990, 2040),
        "lines": items(1, 10),
        "lines[].description": distinct(words(1, 15)),
        "lines[].quantity": number(1, 500),
        "lines[].unit_price": number(0.1, 20_000),
        "tax_percent": number(0, 30),
    },
)
class Invoice(BaseModel):
    invoice_number: str
    customer: str
    issue_date: date
    due_date: date
    lines: list[InvoiceLine]
    tax_percent: float


@case(
    "The weather in {} today.",
    "Bergen; Cairo; Denver",
    {
        "city": words(1, 4),
        "condition": anything,
        "temperature": number(-40, 50),
        "humidity": number(0, 100),
        "wind_speed": number(0, 150),
        "chance_of_rain": number(0, 100),
        "summary": PROSE,
    },
)
class Weather(BaseModel):
    city: str
    condition: Literal["sunny", "cloudy", "rain", "snow", "fog"]
    temperature: float
    humidity: int
    wind_speed: float
    chance_of_rain: int
    summary: str


@case(
    "A novel with the title {}.",
    "The Glass Orchard; Night Ferry; A Winter of Keys",
    {
        "title": NAME,
        "author": PERSON,
        "year": number(1500, 2030),
        "pages": number(20, 1500),
        "genre": words(1, 5),
        "rating": number(0, 5),
        "summary": PROSE,
    },
)
class Book(BaseModel):
    title: str
    author: str
    year: int
    pages: int
    genre: str
    rating: float
    summary: str


@case(
    "A flight from Oslo to {}.",
    "Lisbon; Vienna; Dublin",
    {
        "flight_number": CODE,
        "airline": words(1, 6),
        "departure_time": CLOCK,
        "arrival_time": CLOCK,
        "gate": CODE,
        "duration_minutes": number(20, 1200),
        "price_eur": number(10, 5000),
        "stops": number(0, 5),
    },
)
class Flight(BaseModel):
    flight_number: str
    airline: str
    departure_time: str
    arrival_time: str
    gate: str
    duration_minutes: int
    price_eur: float
    stops: int


@case(
    "A job advertisement: {}.",
    "Night baker; Data engineer; Ferry pilot",
    {
        "job_title": NAME,
        "company": words(1, 6),
        "location": words(1, 8),
        "salary": number(500, 400_000),
        "hours_per_week": number(4, 60),
        "remote": anything,
        "requirements": items(1, 10, words(1, 25)),
        "apply_by": day(2000, 2040),
    },
)
class JobAd(BaseModel):
    job_title: str
    company: str
    location: str
    salary: int
    hours_per_week: int
    remote: bool
    requirements: list[str]
    apply_by: date


@case(
    "Facts about the film {}.",
    "The Long Tide; Paper Kings; Station Nine",
    {
        "title": NAME,
        "director": PERSON,
        "release_year": number(1890, 2030),
        "runtime": number(5, 300),
        "rating": number(0, 10),
        "cast": items(1, 10, PERSON),
        "genres": items(1, 5, words(1, 3)),
        "plot": PROSE,
    },
)
class Film(BaseModel):
    title: str
    director: str
    release_year: int
    runtime: int
    rating: float
    cast: list[str]
    genres: list[str]
    plot: str


class Track(BaseModel):
    number: int
    title: str
    seconds: int


@case(
    "The album {} by a folk band.",
    "Salt Roads; First Snow; Red Kites",
    {
        "name": NAME,
        "artist": words(1, 6),
        "year": number(1900, 2030),
        "tracks": items(2, 12),
        "tracks[].number": in_order,
        "tracks[].title": distinct(words(1, 8)),
        "tracks[].seconds": number(20, 1200),
    },
)
class Album(BaseModel):
    name: str
    artist: str
    year: int
    tracks: list[Track]


@case(
    "Facts about the town of {}.",
    "Ashford; Kallenberg; Puerto Claro",
    {
        "name": NAME,
        "country": words(1, 4),
        "population": number(100, 40_000_000),
        "founded": number(-3000, 2025),
        "elevation_m": number(-50, 5000),
        "area_km2": number(0.5, 20_000),
        "mayor": PERSON,
        "known_for": items(1, 8, words(1, 15)),
    },
)
class City(BaseModel):
    name: str
    country: str
    population: int
    founded: int
    elevation_m: int
    area_km2: float
    mayor: str
    known_for: list[str]


@case(
    "A hotel: {}.",
    "The Heron; Alpenblick; Casa Azul",
    {
        "name": NAME,
        "stars": number(1, 5),
        "price_per_night": number(10, 3000),
        "rooms": number(2, 2000),
        "check_in": CLOCK,
        "amenities": items(1, 10, words(1, 6)),
        "address": words(2, 15),
        "review": PROSE,
    },
)
class Hotel(BaseModel):
    name: str
    stars: int
    price_per_night: float
    rooms: int
    check_in: str
    amenities: list[str]
    address: str
    review: str


@case(
    "The restaurant {}.",
    "Blue Spoon; Trattoria Lina; The Smokehouse",
    {
        "name": NAME,
        "cuisine": words(1, 4),
        "average_rating": number(0, 5),
        "seats": number(4, 600),
        "opening_hours": words(1, 12),
        "phone": PHONE,
        "signature_dishes": items(1, 6, words(1, 8)),
    },
)
class Restaurant(BaseModel):
    name: str
    cuisine: str
    average_rating: float
    seats: int
    opening_hours: str
    phone: str
    signature_dishes: list[str]


class Question(BaseModel):
    question: str
    options: list[str]
    answer: str


@case(
    "A short quiz about {}.",
    "Rivers; The moon; Cheese",
    {
        "title": NAME,
        "difficulty": number(1, 10),
        "time_limit_minutes": number(1, 120),
        "questions": items(1, 10),
        "questions[].question": distinct(words(3, 30)),
        "questions[].options": items(2, 6, words(1, 12)),
    },
)
class Quiz(BaseModel):
    title: str
    difficulty: int
    time_limit_minutes: int
    questions: list[Question]


@case(
    "An online course: {}.",
    "Bread baking; Celtic history; Basic statistics",
    {
        "title": NAME,
        "instructor": PERSON,
        "duration_weeks": number(1, 60),
        "lessons": items(2, 12, words(1, 12)),
        "level": anything,
        "price_usd": number(0, 5000),
        "enrolled": number(0, 1_000_000),
        "description": PROSE,
    },
)
class Course(BaseModel):
    title: str
    instructor: str
    duration_weeks: int
    lessons: list[str]
    level: Literal["beginner", "intermediate", "advanced"]
    price_usd: float
    enrolled: int
    description: str


@case(
    "A house for sale: {}.",
    "Mill Lane 4; Harbour View; The Old School",
    {
        "address": words(2, 15),
        "price": number(5000, 20_000_000),
        "bedrooms": number(0, 15),
        "bathrooms": number(1, 10),
        "area_sqm": number(10, 2000),
        "year_built": number(1300, 2030),
        "has_garden": anything,
        "description": PROSE,
    },
)
class Listing(BaseModel):
    address: str
    price: int
    bedrooms: int
    bathrooms: int
    area_sqm: float
    year_built: int
    has_garden: bool
    description: str


@case(
    "A used car: {}.",
    "Red Fiat; Family van; Old Volvo",
    {
        "make": words(1, 3),
        "model": words(1, 5),
        "year": number(1900, 2030),
        "mileage_km": number(0, 600_000),
        "price": number(100, 500_000),
        "fuel": anything,
        "horsepower": number(10, 1500),
        "doors": number(1, 6),
    },
)
class Car(BaseModel):
    make: str
    model: str
    year: int
    mileage_km: int
    price: int
    fuel: Literal["petrol", "diesel", "electric"]
    horsepower: int
    doors: int


@case(
    "The record of a patient: {}.",
    "Mr. Young; Ines Duarte; Peter Lang",
    {
        "name": PERSON,
        "birth_date": day(1900, 2030),
        "weight_kg": number(2, 250),
        "height_cm": number(40, 220),
        "heart_rate": number(30, 220),
        "body_temperature": number(34, 43),
        "symptoms": items(1, 8, words(1, 8)),
        "blood_type": anything,
    },
)
class Patient(BaseModel):
    name: str
    birth_date: date
    weight_kg: float
    height_cm: int
    heart_rate: int
    body_temperature: float
    symptoms: list[str]
    blood_type: Literal["A", "B", "AB", "O"]


@case(
    "A news article: {}.",
    "Bridge reopens; Rare owl seen; Town elects mayor",
    {
        "headline": words(2, 20),
        "author": PERSON,
        "published": day(1900, 2040),
        "lead": PROSE,
        "tags": items(1, 8, words(1, 3)),
        "reading_time_minutes": number(1, 60),
    },
)
class Article(BaseModel):
    headline: str
    author: str
    published: date
    lead: str
    tags: list[str]
    reading_time_minutes: int


class Reply(BaseModel):
    username: str
    text: str


@case(
    "A forum post about {}.",
    "Leaking taps; Cat food; Train delays",
    {
        "username": words(1, 3),
        "title": words(1, 15),
        "body": PROSE,
        "likes": number(0, 100_000),
        "posted_at": day(1995, 2040),
        "replies": items(1, 10),
        "replies[].username": words(1, 3),
        "replies[].text": distinct(words(2, 50)),
    },
)
class Post(BaseModel):
    username: str
    title: str
    body: str
    likes: int
    posted_at: datetime
    replies: list[Reply]


@case(
    "A review of {}.",
    "A cordless drill; Cafe Mira; A rain jacket",
    {
        "reviewer": words(1, 5),
        "score": number(0, 100),
        "headline": words(1, 15),
        "pros": items(1, 6, words(1, 15)),
        "cons": items(1, 6, words(1, 15)),
        "verdict": words(2, 50),
    },
)
class Review(BaseModel):
    reviewer: str
    score: int
    headline: str
    pros: list[str]
    cons: list[str]
    verdict: str


class Exercise(BaseModel):
    name: str
    sets: int
    reps: int
    rest_seconds: int


@case(
    "A workout plan for {}.",
    "Runners; Office workers; Strong shoulders",
    {
        "name": words(1, 10),
        "duration_minutes": number(3, 180),
        "calories_burned": number(10, 2000),
        "exercises": items(2, 12),
        "exercises[].name": distinct(words(1, 6)),
        "exercises[].sets": number(1, 10),
        "exercises[].reps": number(1, 60),
        "exercises[].rest_seconds": number(0, 300),
    },
)
class Workout(BaseModel):
    name: str
    duration_minutes: int
    calories_burned: int
    exercises: list[Exercise]


class Stop(BaseModel):
    place: str
    activity: str
    hours: float


@case(
    "A day trip to {}.",
    "Ghent; the salt lakes; Mount Orr",
    {
        "destination": words(1, 6),
        "budget": number(5, 10_000),
        "distance_km": number(1, 3000),
        "stops": items(1, 10),
        "stops[].place": distinct(words(1, 8)),
        "stops[].activity": distinct(words(1, 20)),
        "stops[].hours": number(0.1, 12),
    },
)
class Trip(BaseModel):
    destination: str
    budget: int
    distance_km: float
    stops: list[Stop]


@case(
    "An animal for children: {}.",
    "Hedgehog; Blue whale; Barn owl",
    {
        "name": NAME,
        "species": words(1, 5),
        "weight_kg": number(0.001, 200_000),
        "lifespan_years": number(0.01, 250),
        "diet": anything,
        "habitat": words(1, 15),
        "fun_facts": items(1, 8, words(3, 40)),
    },
)
class Animal(BaseModel):
    name: str
    species: str
    weight_kg: float
    lifespan_years: int
    diet: Literal["herbivore", "carnivore", "omnivore"]
    habitat: str
    fun_facts: list[str]


@case(
    "A plant for the garden: {}.",
    "Lavender; Tomato; Japanese maple",
    {
        "common_name": words(1, 5),
        "latin_name": words(1, 5),
        "height_cm": number(1, 5000),
        "sunlight": anything,
        "watering_days": number(1, 60),
        "bloom_months": items(1, 12, words(1, 2)),
        "care_tips": items(1, 8, words(2, 30)),
    },
)
class Plant(BaseModel):
    common_name: str
    latin_name: str
    height_cm: int
    sunlight: Literal["full sun", "half shade", "shade"]
    watering_days: int
    bloom_months: list[str]
    care_tips: list[str]


@case(
    "A character for a fantasy game: {}.",
    "Mira the smith; Old Toad; Captain Vex",
    {
        "name": words(1, 6),
        "race": words(1, 3),
        "level": number(1, 100),
        "health": number(1, 1000),
        "strength": number(1, 100),
        "inventory": items(1, 10, words(1, 8)),
        "backstory": PROSE,
    },
)
class Character(BaseModel):
    name: str
    race: str
    level: int
    health: int
    strength: int
    inventory: list[str]
    backstory: str


@case(
    "A board game: {}.",
    "Lighthouse; Market Day; Thirteen Bees",
    {
        "title": NAME,
        "min_players": number(1, 10),
        "max_players": number(2, 20),
        "play_time": number(5, 600),
        "min_age": number(2, 18),
        "complexity": number(1, 10),
        "description": PROSE,
    },
)
class BoardGame(BaseModel):
    title: str
    min_players: int
    max_players: int
    play_time: int
    min_age: int
    complexity: float
    description: str


@case(
    "The company {}.",
    "Northwind Paper; Kettle & Co; Solaris Labs",
    {
        "name": NAME,
        "industry": words(1, 6),
        "founded_year": number(1500, 2030),
        "employees": number(1, 500_000),
        "revenue": number(1000, 500_000_000_000),
        "ceo": PERSON,
        "headquarters": words(1, 8),
        "website": URL,
    },
)
class Company(BaseModel):
    name: str
    industry: str
    founded_year: int
    employees: int
    revenue: float
    ceo: str
    headquarters: str
    website: str


class OrderItem(BaseModel):
    name: str
    quantity: int
    price: float


@case(
    "An order of {}.",
    "Green tea; Oak shelves; Winter tyres",
    {
        "order_id": CODE,
        "customer_name": PERSON,
        "customer_email": EMAIL,
        "total_amount": number(0.5, 100_000),
        "order_date": day(1995, 2040),
        "shipped": anything,
        "items": items(1, 10),
        "items[].name": distinct(words(1, 8)),
        "items[].quantity": number(1, 500),
        "items[].price": number(0.05, 50_000),
    },
)
class Order(BaseModel):
    order_id: str
    customer_name: str
    customer_email: str
    total_amount: float
    order_date: date
    shipped: bool
    items: list[OrderItem]


@case(
    "A task for the to-do list: {}.",
    "Paint the fence; File taxes; Plan the party",
    {
        "title": words(1, 12),
        "notes": words(2, 60),
        "due": day(2000, 2040),
        "priority": number(1, 10),
        "estimated_minutes": number(1, 1500),
        "done": anything,
        "subtasks": items(1, 10, words(1, 15)),
    },
)
class Task(BaseModel):
    title: str
    notes: str
    due: date
    priority: int
    estimated_minutes: int
    done: bool
    subtasks: list[str]


@case(
    "A football match: {}.",
    "Rovers against United; the cup final; City against Albion",
    {
        "home_team": words(1, 5),
        "away_team": words(1, 5),
        "home_score": number(0, 15),
        "away_score": number(0, 15),
        "attendance": number(10, 150_000),
        "stadium": words(1, 6),
        "scorers": items(0, 10, PERSON),
        "report": PROSE,
    },
)
class Match(BaseModel):
    home_team: str
    away_team: str
    home_score: int
    away_score: int
    attendance: int
    stadium: str
    scorers: list[str]
    report: str


@case(
    "Facts about the planet {}.",
    "Tessara; Mars; Nereid Four",
    {
        "name": words(1, 4),
        "diameter_km": number(100, 500_000),
        "moons": number(0, 200),
        "day_length_hours": number(0.5, 10_000),
        "mean_temperature_c": number(-273, 6000),
        "atmosphere": words(1, 25),
        "habitable": anything,
    },
)
class Planet(BaseModel):
    name: str
    diameter_km: int
    moons: int
    day_length_hours: float
    mean_temperature_c: float
    atmosphere: str
    habitable: bool


@dataclass
class Song:
    title: str
    artist: str
    bpm: int
    duration_seconds: int
    key: Literal["C", "D", "E", "G", "A"]
    verses: list[str]


case(
    "A song about {}.",
    "Rain; A lost shoe; Morning trains",
    {
        "title": NAME,
        "artist": words(1, 6),
        "bpm": number(30, 250),
        "duration_seconds": number(20, 1200),
        "key": anything,
        "verses": items(1, 8, words(3, 60)),
    },
)(Song)


class Geo(BaseModel):
    latitude: float
    longitude: float


class Keeper(BaseModel):
    name: str
    email: str


@case(
    "The mountain hut {}.",
    "Falkenstein; Birch Saddle; Refuge du Loup",
    {
        "name": NAME,
        "altitude": number(0, 9000),
        "beds": number(1, 500),
        "position.latitude": number(-90, 90),
        "position.longitude": number(-180, 180),
        "open_from": words(1, 8),
        "keeper.name": PERSON,
        "keeper.email": EMAIL,
    },
)
class Hut(BaseModel):
    name: str
    altitude: int = Field(description="Metres above the sea")
    beds: int
    position: Geo
    open_from: str
    keeper: Keeper


@case(
    "A podcast episode: {}.",
    "How bridges sing; The last typewriter; Living with bees",
    {
        "episode": number(1, 2000),
        "season": number(1, 40),
        "title": words(1, 15),
        "guest": maybe(PERSON),
        "length_minutes": number(1, 300),
        "topics": items(1, 8, words(1, 8)),
        "summary": PROSE,
        "downloads": number(0, 10_000_000),
    },
)
class Podcast(BaseModel):
    episode: int
    season: int
    title: str
    guest: str | None
    length_minutes: int
    topics: list[str]
    summary: str
    downloads: int


@case(
    "Das Rezept für {}.",
    "Kartoffelsuppe; Apfelstrudel; Linsensalat",
    {
        "titel": NAME,
        "portionen": number(1, 50),
        "dauer": number(1, 2000),
        "zutaten": items(1, 12, words(1, 10)),
        "beschreibung": words(2, 60),
        "preis": number(0.1, 200),
    },
)
class Rezept(BaseModel):
    titel: str
    portionen: int
    dauer: int
    zutaten: list[str]
    beschreibung: str
    preis: float
