"""The evaluation as one page: what is in it, that it needs nothing else, and what it says."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from html_page import Page
from rich.progress import Progress
from small_shop import CUT, Prophet, small_rows, write_small_shop

from recsys.evaluation import expected_calibration_error
from training.evaluate import EvaluationOptions, evaluate
from training.report import (
    HEADLINE,
    CalibrationReport,
    DifferenceRow,
    Estimate,
    EvaluationReport,
)
from training.report_calibration import calibration_report
from training.report_findings import findings
from training.report_page import evaluation_page

SECTIONS = [
    *("summary", "ablation", "differences", "systems", "segments"),
    *("catalogue", "candidates", "calibration"),
]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> EvaluationReport:
    folder = write_small_shop(tmp_path_factory.mktemp("small") / "shop", small_rows())
    prophet = Prophet(small_rows(), degraded=("stale_bundle",))
    with Progress(disable=True) as progress:
        return evaluate(folder, prophet, EvaluationOptions(CUT, max_customers=50), progress)


@pytest.fixture(scope="module")
def text(report: EvaluationReport) -> str:
    """The report's page."""
    return evaluation_page(report)


@pytest.fixture(scope="module")
def calibration() -> CalibrationReport:
    rng = np.random.default_rng(2)
    probability = rng.beta(1.0, 9.0, 600)
    return calibration_report(probability, rng.random(600) < probability, np.arange(600) // 20, 1)


def test_page_has_every_section_and_its_contents_lead_there(text: str) -> None:
    page = Page(text)
    assert list(page.sections) == [*SECTIONS, "method"]
    links = [address for address in page.addresses if address.startswith("#")]
    assert links == [f"#{name}" for name in page.sections]
    assert len(page.images()) == 5
    assert all(one.startswith(b"\x89PNG") for one in page.images())


def test_page_loads_nothing_from_anywhere(text: str) -> None:
    page = Page(text)
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in page.addresses)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base", "form"})
    written = re.sub(r"data:image/png;base64,[\w+/=]+", "", text)
    for way_out in ("http", "://", "url(", "@import"):
        assert way_out not in written


def test_sections_without_data_are_left_out(report: EvaluationReport) -> None:
    bare = report.model_copy(
        update={
            "rows": tuple(row for row in report.rows if row.segment == "everyone"),
            "candidates": (),
            "calibration": None,
            "differences": (),
            "catalogue": (),
        }
    )
    page = Page(evaluation_page(bare))
    assert list(page.sections) == ["summary", "ablation", "systems", "method"]
    assert len(page.images()) == 1


def test_calibration_appears_when_it_is_given(
    report: EvaluationReport, calibration: CalibrationReport
) -> None:
    given = report.model_copy(update={"calibration": calibration})
    assert EvaluationReport.model_validate_json(given.model_dump_json()) == given
    page = Page(evaluation_page(given))
    assert list(page.sections) == [*SECTIONS, "method"]
    said = page.sections["calibration"]
    assert "600 candidates of 30 shoppers" in " ".join(said.split())
    assert f"{calibration.error.mean:.4f}" in said
    assert all(f"{row.share.mean:.4f}" in said for row in calibration.bins)


def test_calibration_rows_are_those_of_the_kernels() -> None:
    probability = np.repeat([0.1, 0.4], 50)
    outcome = np.arange(100) % 5 == 0
    found = calibration_report(probability, outcome, np.arange(100) // 4, 3)
    assert [row.probability for row in found.bins] == pytest.approx([0.1, 0.4])
    assert [row.examples for row in found.bins] == [50, 50]
    assert [row.share.mean for row in found.bins] == [0.2, 0.2]
    assert found.error.mean == pytest.approx(expected_calibration_error(probability, outcome))
    assert (found.customers, found.examples, found.share) == (25, 100, 0.2)


def test_every_mean_of_the_report_stands_on_the_page(report: EvaluationReport, text: str) -> None:
    page = Page(text)
    systems = page.sections["systems"]
    for target in report.targets:
        for row in report.rows_of(target):
            assert all(f"{one.mean:.3f}" in systems for one in row.metrics.values())
    for difference in report.differences:
        size = f"{difference.metrics[HEADLINE].mean:+.3f}".replace("-", "\N{MINUS SIGN}")
        assert size in page.sections["differences"]
    for use in report.catalogue:
        assert f"{use.coverage:.1%}" in page.sections["catalogue"]
    for one in report.candidates:
        assert all(row.source in page.sections["candidates"] for row in one.sources)
    assert f"{report.degraded['stale_bundle']} lists were degraded" in page.sections["summary"]


def test_the_same_report_gives_the_same_page(report: EvaluationReport, text: str) -> None:
    again = EvaluationReport.model_validate_json(report.model_dump_json())
    assert again == report
    assert evaluation_page(again) == text


def test_names_from_outside_are_shown_not_obeyed(report: EvaluationReport) -> None:
    text = evaluation_page(report.model_copy(update={"dataset": "<script>alert(1)</script>"}))
    assert "script" not in Page(text).tags
    assert "&lt;script&gt;" in text


def outcome(report: EvaluationReport, mean: float, p_holm: float) -> str:
    """What is said of the system on all items if it stood so against its strongest peer."""

    def stands(row: DifferenceRow) -> DifferenceRow:
        one = Estimate(mean=mean, low=mean - 0.01, high=mean + 0.01)
        return row.model_copy(update={"metrics": row.metrics | {HEADLINE: one}, "p_holm": p_holm})

    rows: Sequence[DifferenceRow] = [stands(row) for row in report.differences]
    (first, *_) = findings(report.model_copy(update={"differences": tuple(rows)}))
    assert first.about == "All items, re-buys count"
    return first.text


def test_a_gain_is_told_from_a_loss_and_from_neither(report: EvaluationReport) -> None:
    assert outcome(report, 0.2, 0.0002).endswith(": +0.200 [+0.190, +0.210], p <0.001.")
    loss = outcome(report, -0.2, 0.04)
    assert loss.endswith(": −0.200 [−0.210, −0.190], p = 0.040.")  # noqa: RUF001
    neither = outcome(report, 0.005, 0.6)
    assert neither.endswith(": no difference shown (+0.005 [−0.005, +0.015], p = 0.600).")  # noqa: RUF001


def test_findings_name_the_strongest_peer_and_what_text_and_candidates_do(
    report: EvaluationReport,
) -> None:
    said = {one.about: one.text for one in findings(report)}
    peers = [row for row in report.rows_of("all") if row.system.startswith(("pop", "bm25"))]
    best = max(peers, key=lambda row: row.metrics[HEADLINE].mean)
    share = f"{best.metrics['hit@10'].mean:.0%} do"
    assert "100% of 50 shoppers find something" in said["All items, re-buys count"]
    assert f"the strongest peer, {share}" in said["All items, re-buys count"]
    assert "which ties them all" in said["Only items nobody had seen"]
    steps = said["What text adds in NDCG@10, all items"]
    assert steps.startswith("bi-encoder: +")
    assert "; cross-encoder: +" in steps
    assert said["Fine-tuning"].startswith("Text alone, on only items nobody had seen")
    assert said["Candidates, all items"].startswith("100% of what shoppers took next")


def test_a_report_without_peers_or_a_cold_task_still_has_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluate.implicit_is_installed", lambda: False)
    rows = [row for row in small_rows() if row[1] < "item-34"]
    folder = write_small_shop(tmp_path / "shop", rows)
    with Progress(disable=True) as progress:
        options = EvaluationOptions(CUT, max_customers=10)
        page = Page(evaluation_page(evaluate(folder, Prophet(rows), options, progress)))
    said = page.sections["summary"]
    assert "No shopper acted on an item first seen after the cut: no cold task." in said
    assert "BM25-kNN" not in page.sections["systems"]
    assert "zero-shot" not in page.sections["ablation"]
