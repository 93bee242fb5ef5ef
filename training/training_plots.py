"""The plots of a training run: both encoders before and after fine-tuning, and the ranker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from recsys.ranker import TieredRanker
from training.plots import plot_feature_importance, plot_fine_tuning
from training.report import HEADLINE, Estimate
from training.text_recall import RECALL
from training.workspace import Summary


def plot_training(
    bi_encoder: Summary, encoder: Summary, ranker: TieredRanker, folder: Path
) -> None:
    """Write `bi_encoder.png`, `fine_tuning.png` and `feature_importance.png`.

    The first one only if the bi-encoder was fine-tuned, its weights kept or not.

    Args:
        bi_encoder: summary of its stage, see `training.tune_bi_encoder`.
        encoder: summary of the cross-encoder's stage.
        ranker: fitted.
        folder: that exists.
    """
    if "test" in bi_encoder:
        before, after = (_recalls(bi_encoder, when) for when in ("before", "after"))
        plot_fine_tuning(
            bi_encoder["history"], before, after, folder / "bi_encoder.png", metric=RECALL
        )
    before, after = (
        {"NDCG@10": _estimate(encoder[f"test_{when}"])} for when in ("before", "after")
    )
    plot_fine_tuning(encoder["history"], before, after, folder / "fine_tuning.png", metric=HEADLINE)
    importance = ranker.importance()
    names, gains = list(importance), list(importance.values())
    plot_feature_importance(names, gains, folder / "feature_importance.png")


def _recalls(summary: Summary, when: str) -> dict[str, Estimate]:
    return {
        f"{name.capitalize()},\nby {task}": _estimate(found[when])
        for task, recalls in summary["test"].items()
        for name, found in recalls.items()
    }


def _estimate(interval: Mapping[str, float]) -> Estimate:
    return Estimate(mean=interval["mean"], low=interval["low"], high=interval["high"])
