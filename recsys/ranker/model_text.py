"""LightGBM text models, checked before LightGBM reads them.

Its own reader trusts what it reads: a file that was cut short aborts the process, and a child out
of range is written through (GHSA-wvg4-4w35-4jc9). So everything a tree refers to is checked here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar

HEADER_ENDS: Final = "\n\nTree=0\n"
TREES_END: Final = "end of trees\n"
FILE_ENDS: Final = "end of parameters"
_MAX_DECISION_TYPE: Final = 15
_CATEGORICAL: Final = 1
_PER_SPLIT: Final = ("split_gain", "internal_value", "internal_weight")
_PER_LEAF: Final = ("leaf_value", "leaf_weight")
_STRANGE: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")
Fields = Mapping[str, str]
Number = TypeVar("Number", int, float)


class UnsoundModelError(ValueError):
    """What is wrong with a text model."""


def check_model_text(text: str) -> None:
    """Refuse a text that is not one whole numerical LightGBM model, every reference of it in range.

    Splits on categories and linear leaves, which the ranker's models don't have, are refused too.

    Raises:
        UnsoundModelError: says where it is wrong.
    """
    if _STRANGE.search(text):
        raise UnsoundModelError("it holds control characters")
    header, found, rest = text.partition(HEADER_ENDS)
    fields = _fields(header)
    if not (found and text.startswith("tree\n")):
        raise UnsoundModelError("it does not begin like a model with trees")
    sizes = _numbers(fields, "tree_sizes", int)
    body = "Tree=0\n" + rest
    if min(sizes) < 1 or not body[sum(sizes) :].startswith(TREES_END) or FILE_ENDS not in rest:
        raise UnsoundModelError("it is not as long as its header says: cut short, or run together")
    features = _count(fields, "max_feature_idx") + 1
    if len(fields.get("feature_names", "").split()) != features:
        raise UnsoundModelError(f"its header does not name {features} features")
    for name in ("num_class", "num_tree_per_iteration"):
        if _count(fields, name) != 1:
            raise UnsoundModelError(f"{name} is {fields[name]}, expected 1")
    start = 0
    for number, size in enumerate(sizes):
        tree = body[start : start + size]
        start += size
        if not tree.startswith(f"Tree={number}\n"):
            raise UnsoundModelError(f"tree {number} is not where the header says")
        try:
            _check_tree(_fields(tree), features)
        except UnsoundModelError as error:
            raise UnsoundModelError(f"tree {number}: {error}") from None


def _check_tree(tree: Fields, features: int) -> None:
    for name in ("num_cat", "is_linear"):
        if _count(tree, name):
            raise UnsoundModelError(f"{name} is {tree[name]}, expected 0")
    leaves = _count(tree, "num_leaves")
    splits = leaves - 1
    if leaves < 1:
        raise UnsoundModelError("it has no leaf")
    if not math.isfinite(_numbers(tree, "shrinkage", float)[0]):
        raise UnsoundModelError("shrinkage is not finite")
    for name in _PER_LEAF if splits else _PER_LEAF[:1]:
        _finite(tree, name, leaves)
    if not splits:
        return
    for name in _PER_SPLIT:
        _finite(tree, name, splits)
    _numbers_each(tree, "threshold", splits)
    _within(tree, "split_feature", splits, range(features))
    for kind in _within(tree, "decision_type", splits, range(_MAX_DECISION_TYPE + 1)):
        if kind & _CATEGORICAL:
            raise UnsoundModelError("a split is on categories, but there are none")
    children = range(-leaves, splits)
    sides = [_within(tree, name, splits, children) for name in ("left_child", "right_child")]
    _check_shape([*zip(*sides, strict=True)], leaves)


def _check_shape(children: Sequence[tuple[int, ...]], leaves: int) -> None:
    """Every split and leaf hangs below the first split, once: no loops, nothing shared or loose."""
    seen, waiting = set(), [0]
    while waiting:
        for child in children[waiting.pop()]:
            if child in seen or child == 0:
                raise UnsoundModelError(f"child {child} has two parents")
            seen.add(child)
            if child > 0:
                waiting.append(child)
    if len(seen) != len(children) - 1 + leaves:
        raise UnsoundModelError("it is not one tree: some nodes hang nowhere")


def _fields(block: str) -> dict[str, str]:
    pairs = (line.partition("=") for line in block.split("\n"))
    return {name: value for name, found, value in pairs if found}


def _count(fields: Fields, name: str) -> int:
    return _within(fields, name, 1, range(1 << 31))[0]


def _numbers(fields: Fields, name: str, kind: Callable[[str], Number]) -> list[Number]:
    """At least one."""
    try:
        values = [kind(word) for word in fields[name].split()]
    except (KeyError, ValueError):
        values = []
    if not values:
        raise UnsoundModelError(f"{name} is missing or holds something else than numbers")
    return values


def _within(fields: Fields, name: str, count: int, allowed: range) -> list[int]:
    values = _numbers(fields, name, int)
    if len(values) != count or any(value not in allowed for value in values):
        raise UnsoundModelError(
            f"{name}: expected {count} numbers from {allowed.start} to {allowed.stop - 1}"
        )
    return values


def _numbers_each(fields: Fields, name: str, count: int) -> None:
    """Infinite ones too: a threshold that divides what is known from what is missing is."""
    values = _numbers(fields, name, float)
    if len(values) != count or any(map(math.isnan, values)):
        raise UnsoundModelError(f"{name}: expected {count} numbers")


def _finite(fields: Fields, name: str, count: int) -> None:
    values = _numbers(fields, name, float)
    if len(values) != count or not all(map(math.isfinite, values)):
        raise UnsoundModelError(f"{name}: expected {count} finite numbers")
