"""JSON with one spelling per value, so that equal values are equal bytes."""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import JsonValue, TypeAdapter, ValidationError

from recsys.errors import BundleCorruptError, BundleError

_JSON: TypeAdapter[JsonValue] = TypeAdapter(JsonValue)


def canonical_json(value: object) -> bytes:
    """UTF-8 JSON: keys sorted, indented by 2, a newline at the end.

    Raises:
        BundleError: `value` is not plain JSON data, or holds NaN or an infinity.
    """
    try:
        text = json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False, allow_nan=False)
        return f"{text}\n".encode()
    except (TypeError, ValueError) as error:
        raise BundleError(
            f"bundles hold JSON of objects, lists, texts, booleans, null, finite numbers: {error}"
        ) from error


def save_json(path: Path, value: object) -> None:
    """Write `value` as canonical JSON.

    Raises:
        BundleError: as in `canonical_json`.
    """
    path.write_bytes(canonical_json(value))


def load_json(path: Path) -> JsonValue:
    """Read a JSON file.

    Raises:
        BundleCorruptError: the file is missing or is no JSON.
    """
    try:
        return _JSON.validate_json(path.read_bytes())
    except FileNotFoundError as error:
        raise BundleCorruptError(f"{path} is missing; train again or activate another") from error
    except ValidationError as error:
        reason = error.errors(include_url=False)[0]["msg"]
        raise BundleCorruptError(f"{path} can't be read as JSON: {reason}; train again") from error
