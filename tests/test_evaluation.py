"""The evaluation of a bundle: what is asked, measured, refused and written."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from rich.progress import Progress
from small_shop import COLD, CUT, Prophet, small_rows, write_small_shop

from recsys.errors import ConfigurationError, FileFormatError
from recsys.simulation import ORACLE_FILE, SimulationConfig
from recsys.tables import Dataset, write_dataset
from training.evaluate import EvaluationOptions, evaluate, save_report
from training.plots import plot_feature_importance, plot_fine_tuning
from training.report import EVERYONE, HEADLINE, Estimate, EvaluationReport, Target
from training.report_differences import LADDERS, PEERS
from training.report_oracle import oracle_of
from training.report_page import evaluation_page
from training.simulate import simulate

DAY = timedelta(days=1)


def evaluated(
    folder: Path, recommender: Prophet, *, end: datetime | None = None, most: int | None = None
) -> EvaluationReport:
    with Progress(disable=True) as progress:
        return evaluate(folder, recommender, EvaluationOptions(CUT, end, most), progress)


def means(report: EvaluationReport, target: Target, segment: str = EVERYONE) -> dict[str, float]:
    return {row.system: row.metrics[HEADLINE].mean for row in report.rows_of(target, segment)}


@pytest.fixture(scope="module")
def small_shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_shop(tmp_path_factory.mktemp("small") / "shop", small_rows())


@pytest.fixture(scope="module")
def report(small_shop: Path) -> EvaluationReport:
    return evaluated(small_shop, Prophet(small_rows(), degraded=("stale_bundle",)))


def test_who_knows_the_future_scores_one_everywhere(report: EvaluationReport) -> None:
    assert means(report, "all")["system"] == means(report, "new")["system"] == 1.0
    cold = means(report, "cold")
    assert cold["system"] == cold["fine_tuned"] == 1.0
    assert cold["zero_shot"] == cold["popularity"] < 0.9  # both all tied: the same seeded order
    targets: tuple[Target, ...] = ("all", "new")
    for target in targets:
        scores = means(report, target)
        assert scores["without_text"] < scores["bi_encoder"] < scores["system"]
        for segment in report.segments(target):
            if not segment.endswith("tail items"):
                scores = means(report, target, segment)
                assert scores["system"] > max(scores[peer] for peer in PEERS)


def test_report_names_customers_differences_and_degraded_answers(report: EvaluationReport) -> None:
    assert {row.system for row in report.rows_of("all")} == {
        "popularity",
        "bm25_knn",
        "bm25_knn_counts",
        "without_text",
        "bi_encoder",
        "system",
    }
    assert report.cold_items == len(COLD)
    everyone = report.rows_of("all")[0].customers
    assert (
        sum(report.rows_of("all", f"{b} items")[0].customers for b in ("1-4", "5-19")) == everyone
    )
    asked = sum(report.rows_of(target)[0].customers for target in ("all", "new", "cold"))
    assert report.degraded == {"stale_bundle": asked}
    gain = report.difference("all", "system", "bm25_knn")
    assert gain is not None
    scores = means(report, "all")
    assert gain.metrics[HEADLINE].mean == pytest.approx(scores["system"] - scores["bm25_knn"])
    assert 0 < gain.metrics[HEADLINE].low < gain.metrics[HEADLINE].high


def test_probabilities_are_held_against_what_was_bought(report: EvaluationReport) -> None:
    calibration = report.calibration
    assert calibration is not None
    low, high = calibration.bins
    assert low.probability == pytest.approx(0.1)
    assert high.probability == pytest.approx(0.8)
    assert low.share.mean == 0
    assert high.share.mean == 1
    assert calibration.customers <= report.rows_of("all")[0].customers
    error = (0.1 * low.examples + 0.2 * high.examples) / calibration.examples
    assert calibration.error.mean == pytest.approx(error)


def test_family_is_the_system_against_peers_and_no_text_and_each_step_against_the_one_before(
    report: EvaluationReport,
) -> None:
    for target in report.targets:
        measured = [row.system for row in report.rows_of(target)]
        pairs = [(r.system, r.against) for r in report.differences if r.target == target]
        peers = {("system", peer) for peer in PEERS if peer in measured}
        steps = {(after, before) for before, after in pairwise(LADDERS[target])}
        assert len(pairs) == len(set(pairs))
        text = {("system", "without_text")} if target != "cold" else set()
        assert set(pairs) == peers | text | steps
    reasons = {(row.system, row.against): row.reason for row in report.differences}
    assert reasons["fine_tuned", "zero_shot"] == "fine-tuning"
    assert reasons["without_text", "bm25_knn_counts"] == "step"
    assert reasons["system", "without_text"] == "text"
    assert reasons["system", "bm25_knn_counts"] == "peer"


def test_p_values_are_corrected_as_one_family_over_all_targets(report: EvaluationReport) -> None:
    rows = sorted(report.differences, key=lambda row: row.p_value)
    least = 2 / 10_001
    assert rows[0].p_value == pytest.approx(least)
    assert rows[0].p_holm == pytest.approx(len(rows) * least)
    assert all(row.p_value <= row.p_holm <= 1 for row in rows)
    assert [row.p_holm for row in rows] == sorted(row.p_holm for row in rows)
    for row in rows:
        sign = np.sign(row.metrics[HEADLINE].mean)
        assert row.verdict == ("none shown" if row.p_holm > 0.05 else {1: "gain", -1: "loss"}[sign])


def test_candidates_are_counted_by_source_and_with_all_that_is_owned_or_not(
    report: EvaluationReport,
) -> None:
    events = small_rows()
    own = {user: {True: set[str](), False: set[str]()} for user, _, _, _ in events}
    for user, item, _, time in events:
        own[user][time < CUT].add(item)
    for one in report.candidates:
        rows = {row.source: row for row in one.sources}
        new = one.target == "new"
        truth = {user: o[False] - (o[True] if new else set()) for user, o in own.items()}
        truth = {user: wanted for user, wanted in truth.items() if wanted}
        past = [(set() if new else own[user][True]) for user in truth]
        again = [len(p & w) / len(w) for p, w in zip(past, truth.values(), strict=True)]
        assert one.customers == len(truth)
        assert one.total.mean == rows["future"].alone.mean == 1.0
        assert rows["past"].alone.mean == pytest.approx(np.mean(again))
        assert rows["future"].only.mean == pytest.approx(1 - np.mean(again))
        assert (rows["past"].only.mean, rows["gone"].alone.mean) == (0.0, 0.0)
        assert rows["past"].candidates == pytest.approx(np.mean([len(p) for p in past]))
        assert rows["gone"].candidates == 1.0
        assert one.curve[-1].recall == 1.0


def test_use_of_the_catalogue_is_that_of_the_lists(report: EvaluationReport) -> None:
    prophet = Prophet(small_rows())
    shown = [item for user in range(60) for item in prophet.future(f"user-{user:02d}")]
    shares = np.unique(shown, return_counts=True)[1] / len(shown)
    rows = {row.system: row for row in report.catalogue if row.target == "all"}
    assert list(rows) == [row.system for row in report.rows_of("all")]
    assert rows["system"].coverage == len(shares) / 40
    assert rows["system"].effective_items == pytest.approx(np.exp(-(shares @ np.log(shares))))
    assert rows["popularity"].coverage < rows["bm25_knn"].coverage
    surprise, popular = rows["system"].novelty, rows["popularity"].novelty
    assert surprise is not None
    assert popular is not None
    assert surprise.low > popular.high > 0
    assert {row.target for row in report.catalogue} == {"all", "new"}


def test_requests_are_those_of_a_shop_at_the_cut(small_shop: Path) -> None:
    prophet = Prophet(small_rows())
    evaluated(small_shop, prophet)
    assert {one.as_of for one in prophet.asked} == {CUT}
    assert {one.page_size for one in prophet.asked} == {20}
    assert {one.filter.exclude_purchased for one in prophet.asked} == {False, True}
    assert not any(one.filter.exclude_item_ids for one in prophet.asked)


def test_owned_items_that_are_served_all_the_same_are_taken_off_and_noted(small_shop: Path) -> None:
    report = evaluated(small_shop, Prophet(small_rows(), obeys_filters=False))
    assert any("owned items were served" in note for note in report.notes)
    assert means(report, "new")["system"] == 1.0


def test_clicked_items_are_excluded_by_id_where_clicks_are_the_truth(tmp_path: Path) -> None:
    rows = small_rows("click")
    prophet = Prophet(rows)
    report = evaluated(write_small_shop(tmp_path / "shop", rows), prophet)
    assert report.truth == "click"
    assert "the log has no purchases: clicked items are the truth" in report.notes
    asked = [one for one in prophet.asked if one.filter.exclude_item_ids]
    assert set(asked[0].filter.exclude_item_ids) == prophet.past(asked[0].user_id)
    assert means(report, "new")["system"] == 1.0


def test_bundle_that_knows_the_period_is_refused(small_shop: Path) -> None:
    spoilt = Prophet(small_rows(), horizon=CUT + timedelta(microseconds=1))
    with pytest.raises(ConfigurationError, match="it has seen what it would be asked to predict"):
        evaluated(small_shop, spoilt)


def test_older_bundle_is_measured_and_the_gap_noted(small_shop: Path) -> None:
    report = evaluated(small_shop, Prophet(small_rows(), horizon=CUT - 3 * DAY), most=5)
    assert any("nothing of the last 3 days" in note for note in report.notes)
    assert report.rows_of("all")[0].customers == 5


def test_empty_period_is_refused(small_shop: Path) -> None:
    with pytest.raises(ConfigurationError, match="not after its start"):
        evaluated(small_shop, Prophet(small_rows()), end=CUT)


def test_events_at_or_after_the_end_are_no_truth(tmp_path: Path) -> None:
    end = CUT + 5 * DAY
    rows = small_rows()
    kept = [row for row in rows if row[3] < end]
    reports = [
        evaluated(write_small_shop(tmp_path / name, some), Prophet(kept), end=end)
        for name, some in (("whole", rows), ("short", kept))
    ]
    assert reports[0].rows == reports[1].rows


def test_order_of_the_events_changes_nothing(tmp_path: Path, report: EvaluationReport) -> None:
    rows = small_rows()
    shuffled = [rows[place] for place in np.random.default_rng(0).permutation(len(rows))]
    again = evaluated(write_small_shop(tmp_path / "shop", shuffled), Prophet(rows))
    assert again.rows == report.rows
    assert again.differences == report.differences


def test_item_seen_only_in_an_impression_is_not_cold(tmp_path: Path) -> None:
    rows = [*small_rows(), ("user-00", COLD[0], "impression", CUT - DAY)]
    report = evaluated(write_small_shop(tmp_path / "shop", rows), Prophet(small_rows()), most=20)
    assert report.cold_items == len(COLD) - 1


def test_shop_without_new_items_has_no_cold_task(tmp_path: Path) -> None:
    rows = [row for row in small_rows() if row[1] not in COLD]
    report = evaluated(write_small_shop(tmp_path / "shop", rows), Prophet(rows), most=20)
    assert report.rows_of("cold") == []
    assert any("no cold task" in note for note in report.notes)


def test_missing_peer_is_noted_and_left_out(
    small_shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluate.implicit_is_installed", lambda: False)
    report = evaluated(small_shop, Prophet(small_rows()), most=10)
    assert [row.system for row in report.rows_of("all")] == [
        "popularity",
        "without_text",
        "bi_encoder",
        "system",
    ]
    assert any("`peers`" in note for note in report.notes)


def test_items_that_the_dataset_lacks_leave_an_empty_place(tmp_path: Path) -> None:
    rows = small_rows()
    gone = [(f"user-{user:02d}", "a-gone-item", "purchase", CUT) for user in range(60)]
    prophet = Prophet([*rows, *gone])
    report = evaluated(write_small_shop(tmp_path / "shop", rows), prophet)
    assert 0.5 < means(report, "all")["system"] < 1.0  # the unknown item holds the first place


def test_saved_report_reads_back_and_is_strict_json(
    tmp_path: Path, report: EvaluationReport
) -> None:
    paths = save_report(report, tmp_path)
    text = paths["data"].read_text(encoding="utf-8")
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert EvaluationReport.model_validate_json(text) == report
    assert evaluation_page(report) == paths["report"].read_text(encoding="utf-8")


def test_oracle_is_the_ceiling_on_a_simulated_shop(tmp_path: Path) -> None:
    config = SimulationConfig(users=150, items=250, days=28)
    with Progress(disable=True) as progress:
        simulate(tmp_path / "shop", config, 3, progress)
    cut = datetime(config.start.year, config.start.month, config.start.day, tzinfo=UTC) + 14 * DAY
    with Progress(disable=True) as progress:
        options = EvaluationOptions(cut, seed=3)
        report = evaluate(tmp_path / "shop", Prophet([], horizon=cut), options, progress)
    for target in ("all", "new", "cold"):
        scores = means(report, target)
        assert scores["oracle"] == max(scores.values()) > 1.5 * scores["popularity"]
    assert not any(row.against == "oracle" for row in report.differences)

    known = Dataset(tmp_path / "shop").scan_events().filter(pl.col("event_time") < cut).collect()
    items, truth = Dataset(tmp_path / "shop").items(), tmp_path / "shop" / ORACLE_FILE
    documents = {ORACLE_FILE: json.loads(truth.read_text(encoding="utf-8"))}
    write_dataset(tmp_path / "known", items, known, documents=documents)
    shoppers, names = sorted(set(known["user_id"])), sorted(items["item_id"])
    oracles = [oracle_of(tmp_path / name, cut, None) for name in ("shop", "known")]
    whole, short = (oracle(shoppers, names) for oracle in oracles if oracle is not None)
    np.testing.assert_array_equal(whole, short)  # what happened later is not looked at


def test_datasets_that_are_not_simulated_have_no_oracle(small_shop: Path, tmp_path: Path) -> None:
    assert oracle_of(small_shop, CUT, None) is None
    (tmp_path / "oracle.json").write_text("{")
    with pytest.raises(FileFormatError, match=r"oracle\.json"):
        oracle_of(tmp_path, CUT, None)


def test_fine_tuning_and_importance_are_plotted_even_when_there_is_little(tmp_path: Path) -> None:
    history = [{"step": 10, "loss": 2.0}, {"step": 20, "eval_loss": 1.5, "eval_ndcg@10": 0.3}]
    one = {"NDCG@10": Estimate(mean=0.3, low=0.28, high=0.33)}
    for name, curve, values in (("full", history, one), ("empty", [], {})):
        path = tmp_path / f"{name}.png"
        plot_fine_tuning(curve, values, values, path, metric=HEADLINE)
        assert path.stat().st_size > 10_000
    plot_feature_importance(["price", "age"], [3.0, 0.0], tmp_path / "gain.png")
    plot_feature_importance([], [], tmp_path / "nothing.png")
    assert (tmp_path / "gain.png").read_bytes() != (tmp_path / "nothing.png").read_bytes()
