"""What a Redis answers, nothing of it taken on trust."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from recsys.state.redis_link import WrongValueError


def listed(answer: object, count: int | None = None) -> list[object]:
    """A list, of so many if a count is given.

    Raises:
        WrongValueError: it is something else, as of all that is here.
    """
    if not isinstance(answer, list) or count not in {None, len(answer)}:
        raise WrongValueError("no list of so many")
    return answer


def triples(answer: object) -> Iterator[tuple[str, str, str]]:
    """Lists of three texts."""
    for row in listed(answer):
        first, second, third = listed(row, 3)
        if not all(isinstance(one, str) for one in (first, second, third)):
            raise WrongValueError("no texts")
        yield str(first), str(second), str(third)


def whole_numbers(answer: object, count: int) -> list[int]:
    """The first `count` of a list of whole numbers."""
    return [whole_number(one) for one in islice(listed(answer, count), count)]


def whole_number(value: object) -> int:
    """A whole number, also as digits."""
    try:
        return int(str(value))
    except ValueError as error:
        raise WrongValueError("no number") from error
