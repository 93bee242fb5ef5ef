"""Off-policy evaluation: what another policy would have earned on logged decisions."""

from recsys.off_policy.decisions import (
    Decisions,
    clipped,
    direct_method,
    doubly_robust,
    inverse_propensity,
    self_normalised,
    shrunk_doubly_robust,
    switch_doubly_robust,
)
from recsys.off_policy.estimates import PolicyValue, policy_value
from recsys.off_policy.overlap import QUANTILES, Answer, Overlap, overlap
from recsys.off_policy.plackett_luce import NO_ITEM, RankedCandidates, plackett_luce
from recsys.off_policy.reward_model import FOLDS, SmoothedMeans
from recsys.off_policy.slates import (
    Slates,
    cascade_doubly_robust,
    independent_ips,
    pseudo_inverse,
    reward_interaction_ips,
    standard_ips,
)

__all__ = [
    "FOLDS",
    "NO_ITEM",
    "QUANTILES",
    "Answer",
    "Decisions",
    "Overlap",
    "PolicyValue",
    "RankedCandidates",
    "Slates",
    "SmoothedMeans",
    "cascade_doubly_robust",
    "clipped",
    "direct_method",
    "doubly_robust",
    "independent_ips",
    "inverse_propensity",
    "overlap",
    "plackett_luce",
    "policy_value",
    "pseudo_inverse",
    "reward_interaction_ips",
    "self_normalised",
    "shrunk_doubly_robust",
    "standard_ips",
    "switch_doubly_robust",
]
