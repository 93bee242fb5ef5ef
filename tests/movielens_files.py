"""A small MovieLens edition in the files GroupLens publishes, and its import."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
from rich.progress import Progress

from recsys.tables import Dataset
from training.import_movielens import MovieLensOptions, import_movielens
from training.published_lines import ImportSummary

Row = tuple[object, ...]
HEADERS = {
    "movies": ("movieId", "title", "genres"),
    "ratings": ("userId", "movieId", "rating", "timestamp"),
    "tags": ("userId", "movieId", "tag", "timestamp"),
    "links": ("movieId", "imdbId", "tmdbId"),
}
MOVIES: list[Row] = [
    (1, "Toy Story (1995)", "Adventure|Animation|Children|Comedy|Fantasy"),
    (11, "American President, The (1995)", "Comedy|Drama|Romance"),
    (29, "City of Lost Children, The (Cité des enfants perdus, La) (1995)", "Fantasy|Sci-Fi"),
    (47, "Seven (a.k.a. Se7en) (1995) ", "Mystery|Thriller"),
    (4422, "Avventura, L' (a.k.a. Adventure, The) (1960)", "Drama|Mystery|Romance"),
    (5785, "11'09\"01 - September 11 (2002)", "Drama"),
    (32898, "Trip to the Moon, A (Voyage dans la lune, Le) (1902)", "Action|Sci-Fi"),
    (40697, "Babylon 5", "Sci-Fi"),
    (69757, "(500) Days of Summer (2009)", "Comedy|Drama|Romance"),
    (108583, "Fawlty Towers (1975-1979)", "Comedy"),
    (114335, "La cravate (1957)", "(no genres listed)"),
    (171749, "Death Note: Desu nôto (2006\N{EN DASH}2007)", "(no genres listed)"),
]
RATINGS: list[Row] = [
    (1, 1, 4.0, 964982703),
    (1, 47, 5.0, 964983815),
    (1, 11, 3.5, 964983815),
    (1, 29, 2.5, 964983900),
    (2, 1, 2.0, 1445714835),
    (2, 69757, 0.5, 1445714836),
    (10, 47, 4.5, 1445714837),
]
TAGS: list[Row] = [
    (1, 47, "mindfuck, really", 964983815),
    (1, 47, "twist ending", 1445714994),
    (1, 1, "pixar before its time", 964982702),
    (1, 11, "lukewarm", 1445714994),
    (2, 69757, "boring", 1445714996),
    (10, 40697, "unrated", 1445714999),
]
LINKS: list[Row] = [
    (1, "0114709", 862),
    (11, "0112346", 862),
    (47, "0114369", 807),
    (40697, "0105946", None),
]


def write_movielens(folder: Path, **changed: list[Row]) -> Path:
    """The four files, as GroupLens writes them; `changed` replaces the rows of a file."""
    files = {"movies": MOVIES, "ratings": RATINGS, "tags": TAGS, "links": LINKS} | changed
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in files.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerows([HEADERS[name], *rows])
    return folder


def imported(
    source: Path,
    out: Path,
    options: MovieLensOptions = MovieLensOptions(),  # noqa: B008  # frozen
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    with Progress(disable=True) as progress:
        return import_movielens(source, out, progress, options, max_rejects_share=max_rejects_share)


def items_of(dataset: Path) -> dict[str, dict[str, Any]]:
    return {row["item_id"]: row for row in Dataset(dataset).items().iter_rows(named=True)}


def events_of(dataset: Path) -> dict[str, dict[str, Any]]:
    rows = Dataset(dataset).scan_events().collect().iter_rows(named=True)
    return {row["event_id"]: row for row in rows}


def make_movielens(folder: Path) -> Path:
    """40 people who each rate 15 of 60 movies over two years, with tags."""
    rng = np.random.default_rng(3)
    genres = ["Action", "Comedy", "Drama", "Horror|Thriller", "Children|Comedy"]
    movies: list[Row] = [
        (movie, f"Story No. {movie}, The ({1960 + movie % 60})", genres[movie % 5])
        for movie in range(1, 61)
    ]
    ratings: list[Row] = []
    tags: list[Row] = []
    for user in range(1, 41):
        for movie in rng.permutation(60)[:15] + 1:
            time = 1_500_000_000 + int(rng.integers(63_000_000))
            ratings.append((user, movie, rng.integers(1, 11) / 2, time))
            if rng.random() < 0.1:
                tags.append((user, movie, f"label {rng.integers(9)}", time + 60))
    return write_movielens(folder, movies=movies, ratings=ratings, tags=tags)
