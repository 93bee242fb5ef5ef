"""Plot summaries beside MovieLens: they become descriptions, or are counted, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from movielens_files import imported, write_movielens

from recsys.errors import FileFormatError
from recsys.tables import Dataset
from training.import_movielens import MovieLensOptions


@pytest.fixture
def published(tmp_path: Path) -> Path:
    return write_movielens(tmp_path / "ml-latest-small")


def described(out: Path) -> dict[str, str]:
    items = Dataset(out).items().drop_nulls("description")
    return dict(items.select("item_id", "description").rows())


@pytest.mark.parametrize(
    "content",
    [
        {"1": " A cowboy doll. ", "47": "Two detectives.", "99": "?", "11": "", "29": None},
        [
            {"movieId": 1, "overview": "A cowboy doll.", "id": 862},
            {"movie_id": "47", "description": "Two detectives."},
            {"id": 99, "overview": "?"},
            {"movieId": 11, "overview": " "},
            {"tmdbId": 807, "overview": None},
        ],
        [
            {"tmdbId": 862, "overview": "A cowboy doll.", "id": 5},
            {"tmdbId": "807", "overview": "Two detectives."},
            {"tmdbId": 999, "overview": "?"},
            {"id": 11, "overview": None},
            {"id": 29, "overview": ""},
        ],
    ],
)
def test_overviews_become_descriptions_and_the_others_are_counted(
    published: Path, tmp_path: Path, content: object
) -> None:
    plots = tmp_path / "plots.json"
    plots.write_text(json.dumps(content), encoding="utf-8")
    summary = imported(published, tmp_path / "out", MovieLensOptions(overviews=plots))
    assert described(tmp_path / "out") == {"1": "A cowboy doll.", "47": "Two detectives."}
    assert summary.described == 2
    assert summary.left_out["plots.json: unknown movie"] == 1
    assert summary.left_out["plots.json: no text"] == 2


def test_of_two_overviews_of_a_movie_the_first_counts(published: Path, tmp_path: Path) -> None:
    plots = tmp_path / "plots.json"
    texts = [{"movieId": 1, "overview": ""}, {"movieId": 1, "overview": "Première"}]
    plots.write_text(json.dumps([*texts, {"tmdbId": 862, "overview": "Second"}]))
    summary = imported(published, tmp_path / "out", MovieLensOptions(overviews=plots))
    assert described(tmp_path / "out") == {"1": "Première"}
    assert summary.left_out["plots.json: movie described before"] == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"1": "a",\n "2" "b"}', "not JSON: .* in line 2, column 6"),
        ("7", "expected an object or a list of objects, found 7"),
        ('{"1": {"overview": "a"}}', "movieId '1': expected a text or null as overview, found {"),
        ('[{"movieId": 1, "overview": "a"}, "b"]', 'entry 2: expected an object, found "b"'),
        ('[{"title": "x", "overview": "a"}]', "entry 1: .* movieId, .*, id; found title, overview"),
        ('[{"movieId": 1, "plot": "a"}]', "entry 1: .*overview, description; found movieId, plot"),
        ('[{"movieId": 1.5, "overview": "a"}]', "entry 1: movieId: expected .*, found 1.5"),
        ('[{"id": true, "overview": "a"}]', "entry 1: id: expected .*, found true"),
        ('[{"id": 1, "overview": 2}]', "entry 1: expected a text or null as overview, found 2"),
    ],
)
def test_malformed_overviews_are_refused_with_the_place(
    published: Path, tmp_path: Path, content: str, said: str
) -> None:
    plots = tmp_path / "plots.json"
    plots.write_text(content)
    with pytest.raises(FileFormatError, match=rf"plots\.json: {said}"):
        imported(published, tmp_path / "out", MovieLensOptions(overviews=plots))
    assert not (tmp_path / "out").exists()


def test_overviews_that_cannot_be_read_are_refused(published: Path, tmp_path: Path) -> None:
    absent = MovieLensOptions(overviews=tmp_path / "absent.json")
    with pytest.raises(FileFormatError, match=r"absent\.json: can't be read: No such file"):
        imported(published, tmp_path / "out", absent)
    latin = tmp_path / "latin.json"
    latin.write_bytes('{"1": "é"}'.encode("latin-1"))
    with pytest.raises(FileFormatError, match=r"latin\.json: not UTF-8 at byte 7"):
        imported(published, tmp_path / "out", MovieLensOptions(overviews=latin))
    by_tmdb = tmp_path / "tmdb.json"
    by_tmdb.write_text('[{"tmdbId": 862, "overview": "a"}]')
    (published / "links.csv").unlink()
    with pytest.raises(FileFormatError, match=r"by tmdbId, but .* has no links\.csv"):
        imported(published, tmp_path / "out", MovieLensOptions(overviews=by_tmdb))
