"""What whoever answers calls may want to know of one while it is under way, and decide."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Protocol, TypeVar

from recsys.errors import ServiceError

Result = TypeVar("Result")


class Watcher(Protocol):
    """Watches one call; asked and told by the thread that answers it."""

    @property
    def wanted(self) -> bool:
        """Whether anybody still waits for the answer."""
        ...

    def stage(self, name: str) -> AbstractContextManager[object]:
        """What is entered when a stage begins and left when it ends; a stage may run repeatedly."""
        ...

    def found(self, by_source: Mapping[str, int]) -> None:
        """How many candidates each source brought."""
        ...

    def unknown(self, *, shopper: bool, items: int) -> None:
        """Whether nothing is known of the shopper, and how many items aren't in the catalogue."""
        ...

    def failed(self, loss: str, error: Exception) -> None:
        """A stage failed: return, and the answer goes without it; raise, and the call fails.

        Args:
            loss: what `degraded` will say.
            error: what was raised.
        """
        ...


class Unwatched:
    """Nobody watches: every call is wanted, and what fails fails the call."""

    wanted = True

    def stage(self, _: str) -> AbstractContextManager[object]:
        """Nothing to enter."""
        return _NOTHING

    def found(self, by_source: Mapping[str, int]) -> None:
        """Nobody counts."""

    def unknown(self, *, shopper: bool, items: int) -> None:
        """Nobody counts."""

    def failed(self, _: str, error: Exception) -> None:
        """Fail the call."""
        raise error


_NOTHING: Final = nullcontext()
UNWATCHED: Final = Unwatched()


def unless_it_fails(watcher: Watcher, loss: str, stage: Callable[[], Result]) -> Result | None:
    """What a stage gives; None where it failed and the watcher lets the call go on without it.

    What ends a call, as its deadline does, ends it here, too.
    """
    try:
        return stage()
    except ServiceError:
        raise
    except Exception as error:  # noqa: BLE001
        watcher.failed(loss, error)
        return None
