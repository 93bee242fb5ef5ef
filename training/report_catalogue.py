"""What lists do with the catalogue beyond being right: coverage, concentration, novelty."""

from __future__ import annotations

import numpy as np

from recsys.evaluation import (
    catalogue_coverage,
    effective_items,
    novelty,
    self_information,
    truth_kind,
)
from training.peers import purchase_matrix
from training.report import TOP, CatalogueRow, Target
from training.report_rows import Lists, estimates
from training.report_systems import Shop


def catalogue_rows(shop: Shop, target: Target, lists: Lists) -> list[CatalogueRow]:
    """Every system of a target whose lists are taken from the full catalogue.

    An item's surprise is by the share of customers who bought it before the cut (clicked, where the
    log has no purchases), of those who bought anything.
    """
    bought = purchase_matrix(shop.log, shop.start, truth_kind(shop.log))
    customers = int((np.diff(bought.indptr) > 0).sum())
    items = len(shop.log.item_ids)
    information = self_information(np.bincount(bought.indices, minlength=items), customers)
    rows = []
    for system, ranked in lists.items():
        surprise = novelty(ranked, information, TOP)
        known = bool((~np.isnan(surprise)).any())
        rows.append(
            CatalogueRow(
                target=target,
                system=system,
                coverage=catalogue_coverage(ranked, items, TOP),
                effective_items=effective_items(ranked, items, TOP),
                novelty=estimates(surprise[:, None], shop.seed)[0] if known else None,
            )
        )
    return rows
