"""The README's speed tables: what a run measured, and nothing else of the README."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from serving.bench.embedding import Embedding
from serving.bench.features import FeatureSpeed, LogCost
from serving.bench.machine import Machine
from serving.bench.serving_path import Load, RankLatency, ServingPath, UnderDeadline
from serving.bench.speed_tables import END, START, Benchmarks, with_figures
from serving.bench.text_scoring import Cost, TextScoring
from serving.bench.training import TrainingSpeed
from serving.bench.vector_libraries import SearchCost
from serving.bench.vector_search import VectorSearch

MACHINE = Machine(cpu="A CPU", cores=2, threads=2, capability="AVX512", packages={})
FIGURES = Benchmarks(
    encoder=TextScoring(
        machine=MACHINE,
        precision="bf16",
        repeats=7,
        costs=[
            Cost(
                case="with peer, real items",
                shopper_tokens=48,
                item_tokens=8.2,
                candidates=100,
                two_part_ms=10.0,
                plain_ms=204.0,
                peer_ms=1_657.0,
            ),
            Cost(
                case="candidates",
                shopper_tokens=128,
                item_tokens=8.2,
                candidates=1_000,
                two_part_ms=77.0,
            ),
        ],
        embedding=Embedding(
            texts=9, this_product=2_344.0, sentence_transformers=605.0, smallest_cosine=1.0
        ),
        kernels_ms={"bf16": 1.0},
        item_states=[],
    ),
    serving=ServingPath(
        machine=MACHINE,
        bundle="v000001",
        items=4_006,
        candidates=504.0,
        read=100.0,
        loads=[
            Load(clients=8, calls=600, errors=0, calls_per_second=33.6, p50_ms=238.0, p99_ms=407.0)
        ],
        steps_ms={"LightGBM": 6.25},
        with_peer_ms=1_200.0,
        deadlines=[
            UnderDeadline(
                deadline_ms=15,
                calls=20,
                full=1,
                degraded={"cross_encoder_partial": 2, "cross_encoder_skipped": 3},
                exceeded=14,
                late=0,
                p99_ms=14.5,
            )
        ],
        ranks=[RankLatency(items=10, calls=20, p50_ms=12.0)],
    ),
    training=TrainingSpeed(
        machine=MACHINE,
        repeats=5,
        shopper_titles=16,
        pairs=4_096,
        this_product=423.0,
        sentence_transformers=34.0,
        peer_pairs=512,
    ),
)


def test_the_tables_say_what_was_measured() -> None:
    lines = FIGURES.markdown().splitlines()
    assert "| 48 tokens of the shopper | 10 ms | 204 ms | 1,657 ms | 20 x, 166 x |" in lines
    assert "| 8 clients, beside the server on its cores | 33.6 | 238 ms | 407 ms | 0 |" in lines
    assert "| 15 ms | 20 | 1 | 2 | 3 | 14 | 0 | 14.5 ms |" in lines
    text = " ".join(lines)
    for figure in ("2 cores", "1,000 candidates take 77 ms", "LightGBM 6.2", "12 ms for 10"):
        assert figure in text


def test_figures_at_scale_are_told_where_they_were_measured() -> None:
    found = FIGURES.model_copy(
        update={
            "features": FeatureSpeed(
                machine=MACHINE,
                items=20_000,
                shoppers=40_000,
                limit_mib=4_096,
                logs=[
                    LogCost(
                        events=10_488_675,
                        days=83.7,
                        read_seconds=7.5,
                        statistics_seconds=1.6,
                        events_per_second=1_161_256.1,
                        peak_mib=2_607.9,
                        feature_rows=1_024,
                        feature_columns=100,
                        feature_rows_per_second=1e5,
                    )
                ],
                peers=[],
            ),
            "index": VectorSearch(
                machine=MACHINE,
                dimension=384,
                queries=1_000,
                build_threads=2,
                costs=[
                    SearchCost(
                        library="hnswlib",
                        vectors=1_000_000,
                        settings="",
                        recall=0.9812,
                        p50_ms=1.344,
                        p99_ms=2.5,
                        build_seconds=430.2,
                        index_mib=1_703.3,
                    )
                ],
                missing=[],
            ),
        }
    )
    lines = found.markdown().splitlines()
    assert lines[: len(FIGURES.markdown().splitlines())] == FIGURES.markdown().splitlines()
    assert "| 10,488,675 events | 1,161,256 | 2,608 MiB |" in lines
    assert "| 1,000,000, hnswlib | 0.981 | 1.34 ms | 2.50 ms | 430 s | 1,703 MiB |" in lines


def test_the_figures_of_a_folder_go_between_the_marks(tmp_path: Path) -> None:
    for name in ("encoder", "serving", "training"):
        document = getattr(FIGURES, name).model_dump_json()
        (tmp_path / f"{name}.json").write_text(document, encoding="utf-8")
    found = Benchmarks.read(tmp_path)
    assert found == FIGURES
    text = f"before\n{START}old\n{END}after\n"
    once = with_figures(text, found)
    assert once == f"before\n{START}\n{FIGURES.markdown()}\n{END}after\n"
    assert with_figures(once, found) == once
    with pytest.raises(ValueError, match="once each"):
        with_figures("no marks", found)


def test_the_readme_has_a_place_for_the_figures() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert FIGURES.markdown() in with_figures(readme, FIGURES)
