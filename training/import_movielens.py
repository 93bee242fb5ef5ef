"""Turn a MovieLens edition (GroupLens) into a dataset: movies as items, ratings as events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl
from rich.progress import Progress

from recsys.errors import EmptyTableError, FileFormatError
from recsys.tables import new_dataset_folder
from training.published_lines import (
    OVERLONG,
    ImportSummary,
    PublishedLines,
    first_reason,
    write_import,
)
from training.read_movielens import HEADERS, read_movielens
from training.read_overviews import read_overviews

LOWEST, HIGHEST = 0.5, 5.0
DISLIKED: Final = 2.0
"""Ratings up to here say that a movie was not liked."""

_LATEST: Final = 2**32 - 1
_NO_GENRES: Final = "(no genres listed)"
_YEAR: Final = r"\(((?:18|19|20)\d\d)(?:[-\x{2013}](?:\d{4})?)?\)$"
_LAST_ARTICLE: Final = (
    r"((?:a\.k\.a\. )?)([^() ][^()]*), (The|A|An|La|Le|Les|L'|El|Los|Las|Il|Der|Das|Une?|Una)"
    r"(\)| \(|$)"
)

_VALUES: Final[dict[str, pl.Expr]] = {
    "item_id": pl.col("movie").cast(pl.UInt32, strict=False).cast(pl.String),
    "user_id": pl.col("user").cast(pl.UInt32, strict=False).cast(pl.String),
    "stars": pl.col("rating").cast(pl.Float64, strict=False),
    "seconds": pl.col("time").cast(pl.Int64, strict=False),
}
_WHO_WHAT_WHEN: Final = (
    pl.col("user_id"),
    pl.col("item_id"),
    pl.from_epoch("seconds", time_unit="s").dt.replace_time_zone("UTC").alias("event_time"),
)
_MOVIE: Final[dict[str, pl.Expr]] = OVERLONG | {
    "movieId: not a whole number": pl.col("item_id").is_null(),
    "title: missing": pl.col("title").is_null(),
}
_ACT: Final[dict[str, pl.Expr]] = OVERLONG | {
    "userId: not a whole number": pl.col("user_id").is_null(),
    "movieId: not a whole number": pl.col("item_id").is_null(),
    "timestamp: not in seconds since 1970": (
        ~pl.col("seconds").is_between(0, _LATEST).fill_null(value=False)
    ),
    "movieId: not in movies.csv": ~pl.col("known"),
}
_RATING: Final[dict[str, pl.Expr]] = _ACT | {
    f"rating: not from {LOWEST:g} to {HIGHEST:g}": (
        ~pl.col("stars").is_between(LOWEST, HIGHEST).fill_null(value=False)
    ),
}
_TAG: Final[dict[str, pl.Expr]] = _ACT | {"tag: missing": pl.col("tag").is_null()}


@dataclass(frozen=True)
class MovieLensOptions:
    """What to make of a MovieLens edition.

    Attributes:
        positive_rating: a rating from here on is a `purchase`.
        overviews: JSON file with plot summaries, which become descriptions; see `read_overviews`.
    """

    positive_rating: float = 4.0
    overviews: Path | None = None


def import_movielens(
    source: Path,
    out: Path,
    progress: Progress,
    options: MovieLensOptions,
    *,
    overwrite: bool = False,
    max_rejects_share: float = 0.01,
) -> ImportSummary:
    """Read a published edition and write a dataset that appears whole or not at all.

    Every well-formed movie is an item, rated or not. Its title has a trailing article put in front
    and keeps the year; `category` are the genres as published; `created_at` is 1 January of the
    (first) year in the title, null without one. Nothing of an item comes from ratings or tags.

    A rating is a `purchase` from `positive_rating` on, else a `hide` up to 2.0, else a `view`. A
    tag is a `review` with the tag as text, but only on a movie that its author had rated
    `positive_rating` or more by then: a tag alone does not say whether the movie was liked.

    Args:
        source: see `read_movielens`.
        out: the dataset's folder; malformed lines go to `rejected/FILE.parquet` in it.
        progress: shows a bar of the steps.
        options: the rules.
        overwrite: replace the dataset that is there.
        max_rejects_share: malformed lines that are allowed, as a share of each file's.

    Raises:
        DataError: a file can't be read, `out` is taken, or too much is malformed.
    """
    task = progress.add_task("MovieLens", total=3)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        files = _classified(source, read_movielens(source), options)
        progress.advance(task)
        for file in files.values():
            file.require_few_rejects(max_rejects_share)
        tables = {"items": _items(files), "events": _events(files, options.positive_rating)}
        if tables["events"].is_empty():
            raise EmptyTableError(f"{source}: no line of ratings.csv is well-formed")
        progress.advance(task)
        summary = ImportSummary.of(files.values(), tables["items"], tables["events"])
        write_import(folder, tables, files, summary)
        progress.advance(task)
    return summary


def _classified(
    source: Path, tables: Mapping[str, pl.DataFrame], options: MovieLensOptions
) -> dict[str, PublishedLines]:
    """By file name without extension; `overviews` for the file of the options."""
    movies = _judged(tables["movies"], _MOVIE, {"movieId: repeated": ["item_id"]})
    known = movies.filter(pl.col("reason").is_null())["item_id"]
    ratings = _judged(
        tables["ratings"], _RATING, {"userId, movieId: repeated": ["user_id", "item_id"]}, known
    )
    judged = {"movies": movies, "ratings": ratings}
    if "tags" in tables:
        key = {"userId, movieId, tag: repeated": ["user_id", "item_id", "tag"]}
        tags = _judged(tables["tags"], _TAG, key, known)
        judged["tags"] = _on_liked_movies(tags, ratings, options.positive_rating)
    files = {
        name: PublishedLines(f"{source / name}.csv", tuple(HEADERS[name]), lines)
        for name, lines in judged.items()
    }
    if options.overviews:
        files["overviews"] = _overviews(options.overviews, source, tables.get("links"), known)
    return files


def _judged(
    lines: pl.DataFrame,
    rules: Mapping[str, pl.Expr],
    key: Mapping[str, list[str]],
    known: pl.Series | None = None,
) -> pl.DataFrame:
    """Parse the values and say of each line why it is malformed, if it is.

    Args:
        lines: one file's.
        rules: reasons, by what they say.
        key: name and columns of what no two good lines share; the first of them is good.
        known: ids of the good movies.
    """
    values = {
        name: value
        for name, value in _VALUES.items()
        if set(value.meta.root_names()) <= set(lines.columns)
    }
    parsed = lines.with_columns(**values)
    if known is not None:
        parsed = parsed.with_columns(known=pl.col("item_id").is_in(known.implode()))
    judged = parsed.with_columns(reason=first_reason(rules), left_out=pl.lit(None, pl.String))
    return judged.with_columns(reason=pl.coalesce("reason", _repeated(key)))


def _repeated(key: Mapping[str, list[str]]) -> pl.Expr:
    """The key's name where a line has no fault but that an earlier such line has the same key."""
    good = pl.all_horizontal(pl.col("reason", "left_out").is_null())
    return first_reason(
        {name: good & (good.cum_sum().over(columns) > 1) for name, columns in key.items()}
    )


def _on_liked_movies(
    tags: pl.DataFrame, ratings: pl.DataFrame, positive_rating: float
) -> pl.DataFrame:
    """Leave out tags on movies that their author had not rated positively by then."""
    liked = ratings.filter(pl.col("reason").is_null() & (pl.col("stars") >= positive_rating))
    since = liked.select("user_id", "item_id", liked_at="seconds")
    joined = tags.join(since, on=["user_id", "item_id"], how="left", maintain_order="left")
    too_early = ~(pl.col("liked_at") <= pl.col("seconds")).fill_null(value=False)
    reason = "movie not yet rated positively by the tag's author"
    return joined.with_columns(left_out=first_reason({reason: too_early}))


def _overviews(
    path: Path, source: Path, links: pl.DataFrame | None, known: pl.Series
) -> PublishedLines:
    """The overviews by movie; of several movies with one tmdbId the first in `links`."""
    entries = read_overviews(path)
    if links is None:
        if entries["tmdb"].count():
            raise FileFormatError(
                f"{path}: has entries by tmdbId, but {source} has no links.csv, which says what "
                "movies they are; give entries by movieId"
            )
        links = pl.DataFrame(schema=dict.fromkeys(("tmdb", "movie"), pl.String))
    linked = links.select("tmdb", linked="movie").unique("tmdb", keep="first", maintain_order=True)
    lines = entries.join(linked, on="tmdb", how="left", maintain_order="left").with_columns(
        item_id=pl.coalesce("movie", "linked"), reason=pl.lit(None, pl.String)
    )
    unusable = {
        "no text": pl.col("description").is_null(),
        "unknown movie": ~pl.col("item_id").is_in(known.implode()).fill_null(value=False),
    }
    lines = lines.with_columns(left_out=first_reason(unusable))
    again = _repeated({"movie described before": ["item_id"]})
    lines = lines.with_columns(left_out=pl.coalesce("left_out", again))
    return PublishedLines(str(path), tuple(entries.columns[1:]), lines)


def _items(files: Mapping[str, PublishedLines]) -> pl.DataFrame:
    genres = pl.col("genres").replace({_NO_GENRES: None}).str.split("|")
    year = pl.col("title").str.extract(_YEAR).cast(pl.Int32)
    items = files["movies"].kept.select(
        "item_id",
        title=_readable(pl.col("title")),
        category=genres.list.eval(pl.element().filter(pl.element() != "")),
        created_at=pl.datetime(year, 1, 1, time_zone="UTC"),
    )
    if "overviews" in files:
        texts = files["overviews"].kept.select("item_id", "description")
        items = items.join(texts, on="item_id", how="left")
    return items.sort("item_id")


def _readable(title: pl.Expr) -> pl.Expr:
    """The title, and other titles within it, with the article in front: "Boot, Das (Boat, The)"."""
    moved = title.str.replace_all(_LAST_ARTICLE, "${1}${3} ${2}${4}")
    return moved.str.replace_all(r"\bL' ", "L'")


def _events(files: Mapping[str, PublishedLines], positive_rating: float) -> pl.DataFrame:
    stars = pl.col("stars")
    kind = pl.when(stars >= positive_rating).then(pl.lit("purchase"))
    parts = [
        files["ratings"].kept.select(
            pl.format("rating-{}-{}", "user_id", "item_id").alias("event_id"),
            *_WHO_WHAT_WHEN,
            event_type=kind.when(stars <= DISLIKED).then(pl.lit("hide")).otherwise(pl.lit("view")),
            text=pl.lit(None, pl.String),
        )
    ]
    if "tags" in files:
        number = pl.int_range(1, pl.len() + 1).over("user_id", "item_id")
        parts.append(
            files["tags"].kept.select(
                pl.format("tag-{}-{}-{}", "user_id", "item_id", number).alias("event_id"),
                *_WHO_WHAT_WHEN,
                event_type=pl.lit("review"),
                text="tag",
            )
        )
    return pl.concat(parts).sort("event_time", "event_id")
