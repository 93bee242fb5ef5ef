"""What a bundle's folder holds, as objects: written by training, read by the server."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from transformers import PreTrainedTokenizerFast

from recsys.bundle import load_arrays, load_json, save_arrays, save_json
from recsys.bundle.log_files import LOG, load_log, save_log
from recsys.config import Configuration
from recsys.errors import BundleCorruptError, ModelError
from recsys.interactions import InteractionLog
from recsys.mapped_arrays import map_arrays
from recsys.page import MerchandisingRules
from recsys.ranker import RankerTier, TieredRanker, load_tiers
from recsys.recommender.catalogue import Catalogue
from recsys.recommender.shared_models import Obtain, made_anew
from recsys.recommender.texts import TextModels
from recsys.recommender.upkeep import Upkeep
from recsys.retrieval import (
    CoOccurrence,
    ItemNeighbours,
    Taste,
    TastePrior,
    TextSpace,
    VectorIndex,
)
from recsys.text import (
    BiEncoder,
    Calibration,
    CompiledLayers,
    CrossEncoder,
    FastestPrecision,
    FileStates,
    TextScorer,
    save_tokenizer,
    share_weights,
    usable_device,
)

CONFIGURATION: Final = "configuration.json"
CATALOGUE: Final = "catalogue.jsonl"
TOKENIZER: Final = "tokenizer"
BI_ENCODER: Final = "bi_encoder"
CROSS_ENCODER: Final = "cross_encoder"
INDEX: Final = "index"
VECTORS: Final = "item_vectors.safetensors"
TASTES: Final = "tastes.safetensors"
STATES: Final = "item_states.safetensors"
CO_OCCURRENCE: Final = "co_occurrence.safetensors"
RANKER: Final = "ranker"
MERCHANDISING: Final = "merchandising.safetensors"
UPKEEP: Final = "upkeep"


@dataclass(frozen=True)
class Contents:
    """A bundle in memory.

    Attributes:
        configuration: all stages as trained.
        catalogue: items by row.
        log: events before the horizon.
        texts: encoders and what they computed for the catalogue.
        co_occurrence: tables from the log.
        rankers: the final stage, one for each tier.
        calibration: of the cross-encoder's purchase logit.
        rules: the shop's own, for pages; a folder without their file has none.
    """

    configuration: Configuration
    catalogue: Catalogue
    log: InteractionLog
    texts: TextModels
    co_occurrence: CoOccurrence
    rankers: Mapping[RankerTier, TieredRanker]
    calibration: Calibration
    rules: MerchandisingRules

    def save(self, folder: Path) -> None:
        """Write everything into an existing folder, in formats that can't carry code."""
        for part in (LOG, INDEX, RANKER):
            (folder / part).mkdir()
        save_json(folder / CONFIGURATION, self.configuration.model_dump(mode="json"))
        self.catalogue.save(folder / CATALOGUE)
        save_log(self.log, folder / LOG)
        save_tokenizer(self.texts.bi_encoder.tokenizer, folder / TOKENIZER)
        self.texts.bi_encoder.save(folder / BI_ENCODER)
        self.texts.scorer.model.save(folder / CROSS_ENCODER)
        self.texts.index.save(folder / INDEX)
        texts = self.texts
        tuned = texts.untuned_vectors is not texts.vectors
        save_arrays(
            folder / VECTORS,
            {"vectors": texts.vectors}
            | ({"untuned_vectors": texts.untuned_vectors} if tuned else {})
            | texts.neighbours.arrays("neighbours.")
            | texts.lexical.arrays("lexical."),
        )
        if texts.upkeep is not None:
            texts.upkeep.save(folder, UPKEEP)
        save_tastes(texts.tastes, folder / TASTES)
        states = self.texts.scorer.states
        save_arrays(
            folder / STATES,
            {"offsets": states.offsets.numpy(), "states": states.together().numpy()},
        )
        self.co_occurrence.save(folder / CO_OCCURRENCE)
        for tier, ranker in self.rankers.items():
            (folder / RANKER / tier).mkdir()
            ranker.save(folder / RANKER / tier)
        self.calibration.save(folder / CROSS_ENCODER)
        if len(self.rules):
            save_arrays(folder / MERCHANDISING, self.rules.arrays())

    @classmethod
    def load(cls, folder: Path, obtain: Obtain = made_anew) -> Self:
        """Read a folder whose sums were verified.

        Args:
            folder: of the bundle.
            obtain: gives the text models, which other bundles may have, too.

        Raises:
            ModelError: a part is missing, damaged or does not fit the others.
        """
        configuration = Configuration.model_validate(load_json(folder / CONFIGURATION))
        catalogue = Catalogue.load(folder / CATALOGUE)
        contents = cls(
            configuration=configuration,
            catalogue=catalogue,
            log=load_log(folder / LOG),
            texts=load_texts(folder, configuration, obtain),
            co_occurrence=CoOccurrence.load(folder / CO_OCCURRENCE),
            rankers=load_tiers(folder / RANKER),
            calibration=Calibration.load(folder / CROSS_ENCODER),
            rules=_load_rules(folder / MERCHANDISING),
        )
        contents.check()
        return contents.with_ids_shared()

    def with_ids_shared(self) -> Self:
        """The same; all that names the items in the same order holds one list of their ids."""
        ids, log, texts = self.catalogue.item_ids, self.log, self.texts
        if log.item_ids == ids:
            log = replace(log, item_ids=ids)
        if texts.index.item_ids == ids:
            texts = replace(texts, index=replace(texts.index, item_ids=ids))
        return replace(self, log=log, texts=texts)

    def on_this_machine(self, precision: FastestPrecision) -> Self:
        """The same contents, scoring in the precision that is fastest here if the settings let it.

        Args:
            precision: chooses it.
        """
        if self.configuration.cross_encoder.scoring != "auto":
            return self
        scorer = precision.of(self.texts.scorer)
        return replace(self, texts=replace(self.texts, scorer=scorer))

    def check(self) -> None:
        """Refuse parts that speak of different catalogues.

        Raises:
            ModelError: names the part and both sizes.
        """
        items = len(self.catalogue.item_ids)
        sizes = {
            "log": len(self.log.item_ids),
            "item vectors": len(self.texts.vectors),
            "untuned item vectors": len(self.texts.untuned_vectors),
            "item states": self.texts.scorer.states.texts,
            "index": len(self.texts.index.item_ids),
            "text neighbours": self.texts.neighbours.items,
            "lexical neighbours": self.texts.lexical.items,
            **_upkeep_sizes(self.texts.upkeep),
            **{f"{name} space": len(t.space.items) for name, t in self.texts.tastes.items()},
            "co-occurrence tables": self.co_occurrence.bm25.items,
        }
        for part, found in sizes.items():
            if found != items:
                raise ModelError(
                    f"the bundle's {part} covers {found} items but its catalogue has {items}; "
                    "rebuild it with `recsys train`"
                )
        if self.rules.item.max(initial=-1) >= items:
            raise ModelError(
                f"the bundle's merchandising rules speak of item row {self.rules.item.max()} but "
                f"its catalogue has {items} items; rebuild it with `recsys train`"
            )


def _upkeep_sizes(upkeep: Upkeep | None) -> dict[str, int]:
    if upkeep is None:
        return {}
    return {"sums of texts": len(upkeep.text_sums), "words": upkeep.words.texts}


def save_tastes(tastes: Mapping[str, Taste], path: Path) -> None:
    """Write all spaces and priors to one file."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, taste in tastes.items():
        arrays |= taste.space.arrays(f"{name}.")
        arrays |= taste.prior.arrays(f"{name}.prior.")
    save_arrays(path, arrays)


def load_tastes(path: Path) -> dict[str, Taste]:
    """Read what `save_tastes` wrote.

    Raises:
        ModelError: the file is missing or damaged.
    """
    arrays = map_arrays(path)
    return {
        name: Taste(
            TextSpace.from_arrays(arrays, f"{name}."),
            TastePrior.from_arrays(arrays, f"{name}.prior."),
        )
        for name in sorted({key.split(".")[0] for key in arrays})
    }


def _load_rules(path: Path) -> MerchandisingRules:
    if not path.exists():
        return MerchandisingRules.none()
    return MerchandisingRules.from_arrays(load_arrays(path))


def load_texts(folder: Path, configuration: Configuration, obtain: Obtain) -> TextModels:
    """Read the encoders and what they made of the catalogue.

    Raises:
        ModelError: a part is missing, damaged or does not fit the others.
    """
    tokenizer, bi_encoder, cross_encoder, compiled = _encoders(folder, configuration, obtain)
    arrays = map_arrays(folder / VECTORS)
    vectors = arrays["vectors"].astype(np.float32, copy=False)
    untuned = arrays.get("untuned_vectors", vectors).astype(np.float32, copy=False)
    neighbours, lexical = (
        ItemNeighbours.from_arrays(arrays, f"{name}.") for name in ("neighbours", "lexical")
    )
    upkeep = None
    if (folder / f"{UPKEEP}.json").exists():
        upkeep = Upkeep.load(folder, UPKEEP, neighbours, lexical)
    return TextModels(
        bi_encoder=bi_encoder,
        vectors=vectors,
        untuned_vectors=untuned,
        index=VectorIndex.load(folder / INDEX),
        neighbours=neighbours,
        lexical=lexical,
        tastes=load_tastes(folder / TASTES),
        scorer=TextScorer(
            model=cross_encoder,
            states=_stored_states(folder / STATES),
            tokenizer=tokenizer,
            query_max_tokens=configuration.text.query_max_tokens,
            precision=configuration.cross_encoder.scoring_precision,
            device=usable_device(configuration.device),
            compiled=compiled,
        ),
        config=configuration.text,
        upkeep=upkeep,
    )


def _encoders(
    folder: Path, configuration: Configuration, obtain: Obtain
) -> tuple[PreTrainedTokenizerFast, BiEncoder, CrossEncoder, CompiledLayers]:
    """Both encoders, their tokenizer, and the layers that score; weights that are equal once."""
    settings = configuration.cross_encoder
    precision = settings.precision
    tokenizer = obtain(
        (TOKENIZER,), lambda: PreTrainedTokenizerFast.from_pretrained(str(folder / TOKENIZER))
    )
    bi_encoder = obtain(
        (TOKENIZER, BI_ENCODER, precision),
        lambda: BiEncoder.load(folder / BI_ENCODER, tokenizer, precision),
    )

    def read() -> CrossEncoder:
        cross_encoder = CrossEncoder.load(folder / CROSS_ENCODER)
        share_weights(bi_encoder.bert, cross_encoder.bert)
        return cross_encoder

    cross_encoder = obtain((CROSS_ENCODER,), read)
    arithmetic = (settings.scoring, settings.scoring_precision, configuration.device)
    compiled = obtain((CROSS_ENCODER, *arithmetic), CompiledLayers)
    return tokenizer, bi_encoder, cross_encoder, compiled


def _stored_states(path: Path) -> FileStates:
    """The items' states in their file."""
    try:
        return FileStates.open(path)
    except (OSError, SafetensorError, KeyError) as error:
        raise BundleCorruptError(
            f"{path} can't be read as item states: {error}; train again or activate another"
        ) from error
