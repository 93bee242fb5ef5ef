"""Importing MovieLens: what becomes of movies, ratings and tags, and of bad lines and files."""

from __future__ import annotations

import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from movielens_files import (
    MOVIES,
    RATINGS,
    TAGS,
    Row,
    events_of,
    imported,
    items_of,
    make_movielens,
    write_movielens,
)

from recsys.config import Configuration
from recsys.errors import (
    DataError,
    EmptyTableError,
    FileFormatError,
    MissingColumnError,
    TooManyRejectsError,
)
from recsys.interactions import EventKind
from recsys.tables import Dataset
from serving.cli.main import main
from training.import_movielens import MovieLensOptions
from training.training_data import read_training_data

BAD_MOVIES: list[Row] = [
    ("tt1", "No Number (1990)", "Drama"),
    (2, "", "Drama"),
    (1, "Toy Story Again (1995)", "Drama"),
    (3, "Unquoted", " Comma (1990)", "Drama"),
]
BAD_RATINGS: list[Row] = [
    ("", 1, 4.0, 964982703),
    (1, "one", 4.0, 964982703),
    (1, 99, 4.0, 964982703),
    (1, 3, 4.0, 964982703),
    (1, 4422, 5.5, 964982703),
    (1, 4422, 0, 964982703),
    (1, 4422, "good", 964982703),
    (1, 4422, "nan", 964982703),
    (1, 4422, 4.0, 964982703000),
    (1, 4422, 4.0, "2000-07-30"),
    (1, 4422, 4.0),
    (1, 1, 1.0, 964982800),
    (1, 4422, 4.0, 964982703, 7, 8),
]
BAD_TAGS: list[Row] = [(1, 47, "", 1445714994), TAGS[1], (-1, 47, "x", 1445714994)]


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_movielens(tmp_path / "ml-latest-small")


def test_titles_keep_the_year_and_read_with_the_article_in_front(
    published: Path, tmp_path: Path
) -> None:
    imported(published, tmp_path / "out")
    assert {name: item["title"] for name, item in items_of(tmp_path / "out").items()} == {
        "1": "Toy Story (1995)",
        "11": "The American President (1995)",
        "29": "The City of Lost Children (La Cité des enfants perdus) (1995)",
        "47": "Seven (a.k.a. Se7en) (1995)",
        "4422": "L'Avventura (a.k.a. The Adventure) (1960)",
        "5785": "11'09\"01 - September 11 (2002)",
        "32898": "A Trip to the Moon (Le Voyage dans la lune) (1902)",
        "40697": "Babylon 5",
        "69757": "(500) Days of Summer (2009)",
        "108583": "Fawlty Towers (1975-1979)",
        "114335": "La cravate (1957)",
        "171749": "Death Note: Desu nôto (2006\N{EN DASH}2007)",
    }


def test_a_movie_exists_from_the_new_year_of_its_release_or_for_ever(
    published: Path, tmp_path: Path
) -> None:
    imported(published, tmp_path / "out")
    created = {name: item["created_at"] for name, item in items_of(tmp_path / "out").items()}
    assert created["1"] == datetime(1995, 1, 1, tzinfo=UTC)
    assert created["32898"] == datetime(1902, 1, 1, tzinfo=UTC)
    assert created["69757"] == datetime(2009, 1, 1, tzinfo=UTC)
    assert created["108583"] == datetime(1975, 1, 1, tzinfo=UTC)
    assert created["171749"] == datetime(2006, 1, 1, tzinfo=UTC)
    assert created["40697"] is None


def test_genres_are_the_category_and_every_movie_is_an_item(
    published: Path, tmp_path: Path
) -> None:
    summary = imported(published, tmp_path / "out")
    items = items_of(tmp_path / "out")
    assert items["1"]["category"] == ["Adventure", "Animation", "Children", "Comedy", "Fantasy"]
    assert items["40697"]["category"] == ["Sci-Fi"]
    assert items["114335"]["category"] is None
    assert len(items) == summary.items == len(MOVIES)
    assert list(items) == sorted(items)


def test_ratings_are_purchases_views_or_hides(published: Path, tmp_path: Path) -> None:
    summary = imported(published, tmp_path / "out")
    events = events_of(tmp_path / "out")
    kinds = {name: event["event_type"] for name, event in events.items() if "rating" in name}
    assert kinds == {
        "rating-1-1": "purchase",
        "rating-1-47": "purchase",
        "rating-1-11": "view",
        "rating-1-29": "view",
        "rating-2-1": "hide",
        "rating-2-69757": "hide",
        "rating-10-47": "purchase",
    }
    first = events["rating-1-1"]
    assert (first["user_id"], first["item_id"], first["text"]) == ("1", "1", None)
    assert first["event_time"] == datetime(2000, 7, 30, 18, 45, 3, tzinfo=UTC)
    assert summary.events == {"purchase": 3, "hide": 2, "review": 2, "view": 2}
    assert (summary.users, summary.first_event) == (3, "2000-07-30T18:45:03Z")
    times = [event["event_time"] for event in events.values()]
    assert times == sorted(times)


@pytest.mark.parametrize(
    ("threshold", "kinds"),
    [
        (2.0, {"purchase": 6, "hide": 1}),
        (3.5, {"purchase": 4, "view": 1, "hide": 2}),
        (4.5, {"purchase": 2, "view": 3, "hide": 2}),
    ],
)
def test_the_threshold_of_a_purchase_can_be_moved(
    published: Path, tmp_path: Path, threshold: float, kinds: dict[str, int]
) -> None:
    summary = imported(published, tmp_path / "out", MovieLensOptions(threshold))
    assert {kind: rows for kind, rows in summary.events.items() if kind != "review"} == kinds


def test_a_tag_is_a_review_only_on_what_its_author_had_rated_positively_by_then(
    published: Path, tmp_path: Path
) -> None:
    summary = imported(published, tmp_path / "out")
    events = events_of(tmp_path / "out").values()
    reviews = [event for event in events if event["event_type"] == "review"]
    assert [(event["event_id"], event["text"]) for event in reviews] == [
        ("tag-1-47-1", "mindfuck, really"),
        ("tag-1-47-2", "twist ending"),
    ]
    assert reviews[1]["event_time"] == datetime(2015, 10, 24, 19, 29, 54, tzinfo=UTC)
    reason = "tags.csv: movie not yet rated positively by the tag's author"
    assert summary.left_out == {reason: 4}
    assert summary.kept == len(MOVIES) + len(RATINGS) + len(TAGS) - 4 == summary.lines - 4


def test_no_item_holds_anything_of_ratings_or_tags(tmp_path: Path) -> None:
    written = []
    for name, count in (("all", None), ("few", 1)):
        source = write_movielens(tmp_path / name, ratings=RATINGS[:count], tags=TAGS[:count])
        imported(source, tmp_path / f"{name}-out")
        written.append((tmp_path / f"{name}-out" / "items.parquet").read_bytes())
    assert written[0] == written[1]
    text = str(Dataset(tmp_path / "all-out").items().rows()).lower()
    assert "toy story" in text
    assert not [tag for _, _, tag, _ in TAGS if str(tag) in text]


def test_tags_and_links_may_be_missing(tmp_path: Path) -> None:
    source = write_movielens(tmp_path / "ml", tags=[], links=[])
    imported(source, tmp_path / "empty")
    for name in ("tags", "links"):
        (source / f"{name}.csv").unlink()
    assert imported(source, tmp_path / "out").kept == len(MOVIES) + len(RATINGS)
    assert events_of(tmp_path / "out") == events_of(tmp_path / "empty")


def test_a_folder_its_parent_and_the_zip_archive_give_the_same_bytes(
    published: Path, tmp_path: Path
) -> None:
    archive = tmp_path / "ml.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
        for path in sorted(published.iterdir()):
            file.write(path, f"ml-latest-small/{path.name}")
        file.writestr("__MACOSX/ml-latest-small/._movies.csv", b"\0")
    parent = tmp_path / "downloads"
    parent.mkdir()
    published.rename(parent / "ml-latest-small")
    sources = [parent / "ml-latest-small", parent, archive, archive]
    for number, source in enumerate(sources):
        imported(source, tmp_path / f"out{number}")
    for path in sorted((tmp_path / "out0").iterdir()):
        contents = {(tmp_path / f"out{number}" / path.name).read_bytes() for number in range(4)}
        assert len(contents) == 1, path.name


def test_malformed_lines_are_rejected_with_their_reason(tmp_path: Path) -> None:
    good: Row = (1, 4422, 4.0, 964982703)
    source = write_movielens(
        tmp_path / "ml",
        movies=MOVIES + BAD_MOVIES,
        ratings=[*RATINGS, *BAD_RATINGS, good],
        tags=TAGS + BAD_TAGS,
    )
    with pytest.raises(TooManyRejectsError, match=r"movies\.csv: 4 of 16 lines.*line 13 \(movieId"):
        imported(source, tmp_path / "out")
    with pytest.raises(TooManyRejectsError, match=r"ratings\.csv: 13 of 21.*line 8 \(userId"):
        imported(source, tmp_path / "out", max_rejects_share=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["ml"]
    summary = imported(source, tmp_path / "out", max_rejects_share=1)
    assert summary.rejected == {
        "movies.csv: more values than columns": 1,
        "movies.csv: movieId: not a whole number": 1,
        "movies.csv: movieId: repeated": 1,
        "movies.csv: title: missing": 1,
        "ratings.csv: more values than columns": 1,
        "ratings.csv: userId: not a whole number": 1,
        "ratings.csv: movieId: not a whole number": 1,
        "ratings.csv: timestamp: not in seconds since 1970": 3,
        "ratings.csv: movieId: not in movies.csv": 2,
        "ratings.csv: rating: not from 0.5 to 5": 4,
        "ratings.csv: userId, movieId: repeated": 1,
        "tags.csv: userId: not a whole number": 1,
        "tags.csv: tag: missing": 1,
        "tags.csv: userId, movieId, tag: repeated": 1,
    }
    assert summary.lines == summary.kept + sum(
        [*summary.rejected.values(), *summary.left_out.values()]
    )
    rejected = pl.read_parquet(tmp_path / "out" / "rejected" / "ratings.parquet")
    assert rejected.columns == ["line", "user", "movie", "rating", "time", "reason"]
    assert rejected["line"].to_list() == list(range(8, 21))
    assert rejected["rating"].to_list()[4:8] == ["5.5", "0", "good", "nan"]
    events = events_of(tmp_path / "out")
    assert events["rating-1-4422"]["event_type"] == "purchase"
    assert events["rating-1-1"]["event_type"] == "purchase"
    assert items_of(tmp_path / "out")["1"]["title"] == "Toy Story (1995)"


def test_sources_that_are_not_movielens_are_named_so(published: Path, tmp_path: Path) -> None:
    def refused(source: Path, error: type[DataError], said: str) -> None:
        with pytest.raises(error, match=said):
            imported(source, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    refused(tmp_path / "absent", FileFormatError, "no such folder or file")
    refused(published / "movies.csv", FileFormatError, "expected a folder or a complete zip")
    old = tmp_path / "ml-1m"
    old.mkdir()
    (old / "movies.dat").write_text("1::Toy Story (1995)::Comedy\n")
    refused(old, FileFormatError, r"expected movies\.csv and ratings\.csv, found movies\.dat")
    both = tmp_path / "both"
    write_movielens(both / "a")
    write_movielens(both / "b")
    refused(both, FileFormatError, "expected one such folder, found a, b")
    cut = tmp_path / "cut.zip"
    with zipfile.ZipFile(cut, "w") as file:
        file.writestr("movies.csv", "movieId,title,genres\n1,A (1990),Drama\n")
        file.writestr("ratings.csv", "userId,movieId,rating,timestamp\n1,1,4.0,5\n")
    damaged = cut.read_bytes().replace(b"1,1,4.0,5", b"1,1,4.5,5")
    cut.write_bytes(damaged)
    refused(cut, FileFormatError, "archive is damaged")
    cut.write_bytes(damaged[:90])
    refused(cut, FileFormatError, "complete zip archive, it looks like a zip")
    (published / "movies.csv").write_text("<html>not found</html>")
    refused(published, FileFormatError, r"movies\.csv: not a \.csv.*HTML")
    (published / "movies.csv").write_bytes("movieId,title,genres\n1,Café,X\n".encode("latin-1"))
    refused(published, FileFormatError, r"movies\.csv: not readable as CSV: .*utf-?8")


def test_missing_columns_and_missing_lines_are_named(tmp_path: Path) -> None:
    source = write_movielens(tmp_path / "ml", ratings=[])
    with pytest.raises(EmptyTableError, match=r"ratings\.csv: no lines below the header"):
        imported(source, tmp_path / "out")
    write_movielens(source, ratings=[("x", 1, 4.0, 964982703)])
    with pytest.raises(EmptyTableError, match=r"no line of ratings\.csv is well-formed"):
        imported(source, tmp_path / "out", max_rejects_share=1)
    (source / "ratings.csv").write_text("userId,movieId,timestamp\n1,1,964982703\n")
    with pytest.raises(MissingColumnError, match="no column rating; found userId, movieId, times"):
        imported(source, tmp_path / "out")
    (source / "ratings.csv").write_bytes(b"")
    with pytest.raises(EmptyTableError, match="the file is empty"):
        imported(source, tmp_path / "out")


def test_an_import_is_validated_and_read_for_training(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = make_movielens(tmp_path / "ml"), tmp_path / "movies"
    command = ["import", "movielens", str(source), "--out", str(out), "--json"]
    command += ["--positive-rating", "3.5"]
    codes = [_exit_code(arguments) for arguments in (command, command, [*command, "--overwrite"])]
    assert codes == [0, 3, 0]
    first, second = capsys.readouterr().out.splitlines()
    summary = json.loads(first)
    assert summary == json.loads(second)
    assert json.loads((out / "summary.json").read_text()).items() <= summary.items()
    assert _exit_code(["validate", str(out), "--max-rejects-share", "0"]) == 0

    until = datetime(2019, 1, 1, tzinfo=UTC)
    data = read_training_data(out, until, Configuration())
    assert data.texts[data.log.item_rows["5"]] == "the story no. 5 (1965). action"
    stars = pl.read_csv(source / "ratings.csv").filter(pl.col("timestamp") < until.timestamp())
    assert (data.log.kind == EventKind.PURCHASE).sum() == (stars["rating"] >= 3.5).sum()
    assert (data.log.kind == EventKind.HIDE).sum() == (stars["rating"] <= 2).sum()
    assert (data.log.kind == EventKind.REVIEW).any()
    disliked = data.log.pair[data.log.kind == EventKind.HIDE]
    assert not np.isin(disliked, data.log.pair[data.log.kind != EventKind.HIDE]).any()
    created = data.catalogue.columns.created_at
    assert created[data.log.item_rows["5"]] == datetime(1965, 1, 1, tzinfo=UTC).timestamp() * 1e6


def test_the_command_prints_what_became_of_the_lines(
    published: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plots = tmp_path / "plots.json"
    plots.write_text('{"1": "A cowboy doll.", "99": "?"}')
    command = ["import", "movielens", str(published), "--out", str(tmp_path / "out")]
    assert _exit_code([*command, "--overviews", str(plots)]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "left out: plots.json: unknown movie │ 1" in printed
    assert "events: purchase │ 3" in printed
    assert "12 items (1 with a description), 3 shoppers" in printed


def _exit_code(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    return int(ending.value.code or 0)
