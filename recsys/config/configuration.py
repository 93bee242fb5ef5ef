"""All settings: the profiles, and a TOML file over one of them."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from recsys.config.ranking import PageConfig, RankerConfig, RetrievalConfig
from recsys.config.section import Section
from recsys.config.text import BiEncoderConfig, CrossEncoderConfig, NegativesConfig, TextConfig
from recsys.errors import ConfigurationError

Profile = Literal["fast", "full"]


class WindowsConfig(Section):
    """How the history before the cut is divided by time.

    From the cut backwards: `ranker_windows` label windows for the ranker, each `stride_days` before
    the next, then a validation and before it the training slice for the encoder. The encoder's test
    slice is the last ranker window: the encoder never saw it.
    """

    label_days: float = Field(default=30.0, gt=0)
    """Length of a label window; what a shopper does in it is true for a list made at its start."""

    ranker_windows: int = Field(default=6, ge=1)
    """Label windows that the ranker learns from."""

    stride_days: float = Field(default=15.0, gt=0)
    """Days from the start of a window to that of the next; windows may overlap."""

    validation_days: float = Field(default=15.0, gt=0)
    """Length of the encoder's validation slice."""

    max_share_of_history: float = Field(default=0.5, gt=0, lt=1)
    """Share of the span that windows and validation may take together. Where they would take more,
    validation and strides shrink in proportion; a label window keeps up to half of the share,
    whatever that leaves of the number of windows: what comes due within a month can't be learnt
    from windows of ten days."""


class GatesConfig(Section):
    """When a training run refuses to publish."""

    max_drop: float = Field(default=0.015, ge=0)
    """NDCG@10 on held-back requests that a model may lose against the one in service (the encoder:
    also against the untuned one); less is refused, too, when its 95 % interval lies below 0. Twice
    the standard error of 1,000 requests, so that chance alone seldom holds a release back."""


class Configuration(Section):
    """All stages; `recsys train --config FILE` reads it from TOML."""

    seed: int = Field(default=20_260_101, ge=0)
    """Seed of every random choice; it is in the manifest."""

    threads: int = Field(default=0, ge=0)
    """Threads for torch, LightGBM and FAISS; 0 takes the cores this process may use."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the cross-encoder is fine-tuned and scores; `auto` is CUDA where PyTorch finds it."""

    text: TextConfig = TextConfig()
    """Texts and pretrained model."""

    windows: WindowsConfig = WindowsConfig()
    """Division of the history by time."""

    bi_encoder: BiEncoderConfig = BiEncoderConfig()
    """Fine-tuning of the encoder behind the index."""

    cross_encoder: CrossEncoderConfig = Field(default_factory=CrossEncoderConfig)
    """Fine-tuning of the encoder that scores candidates."""

    retrieval: RetrievalConfig = RetrievalConfig()
    """Candidates."""

    ranker: RankerConfig = RankerConfig()
    """Ranking."""

    gates: GatesConfig = GatesConfig()
    """Publishing."""

    page: PageConfig = PageConfig()
    """After ranking."""


@cache
def profile(name: Profile) -> Configuration:
    """The defaults of a profile: `full` for production, `fast` for a first look."""
    if name == "full":
        return Configuration()
    return Configuration(
        text=TextConfig(item_max_tokens=20, shopper_max_segments=12, segment_max_tokens=12),
        bi_encoder=BiEncoderConfig(
            max_pairs=2_000, evaluation_steps=8, max_evaluation_requests=300
        ),
        cross_encoder=CrossEncoderConfig(
            candidates=40,
            max_groups=2_000,
            max_evaluation_groups=200,
            max_test_groups=200,
            evaluation_steps=25,
            negatives=NegativesConfig(per_group=11),
        ),
        windows=WindowsConfig(ranker_windows=2, stride_days=30.0),
        ranker=RankerConfig(rounds=150, early_stopping_rounds=40, max_shoppers_per_window=400),
    )


def load_configuration(path: Path, base: Configuration) -> Configuration:
    """Read a TOML file over `base`: settings the file leaves out keep `base`'s values.

    Raises:
        ConfigurationError: the file is missing, not TOML, or has an unknown or invalid setting; the
            message names the setting.
    """
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(
            f"can't read the configuration {path}: {error.strerror}"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error
    try:
        return Configuration.model_validate(_overlay(base.model_dump(), given))
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()
        )
        raise ConfigurationError(f"{path}: {problems}") from error


def _overlay(base: dict[str, object], given: dict[str, object]) -> dict[str, object]:
    merged = dict(base)
    for key, value in given.items():
        below = merged.get(key)
        both = isinstance(below, dict) and isinstance(value, dict)
        merged[key] = _overlay(below, value) if both else value  # type: ignore[arg-type]
    return merged
