"""Text models that several bundles have in common, in memory once."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from threading import RLock
from typing import Protocol, TypeVar, cast
from weakref import WeakValueDictionary

from recsys.bundle import Manifest

Model = TypeVar("Model")


class Obtain(Protocol):
    """Gives a part of a bundle."""

    def __call__(self, made_of: tuple[str, ...], make: Callable[[], Model], /) -> Model:
        """The part that is made of files and settings.

        Args:
            made_of: folders of the bundle whose files it is made of, then what else it depends on.
            make: makes it.
        """
        ...


def made_anew(_made_of: tuple[str, ...], make: Callable[[], Model]) -> Model:
    """The part, whatever is in memory."""
    return make()


class SharedModels:
    """Finds models by the sums of their files; keeps none that nobody else uses.

    From one night to the next most bundles have the same tokenizer and the same encoders. Beside
    the bundle that still answers calls, another then costs neither their memory nor the time to
    read and compile them. For several threads, one of which makes what several look for at once.
    """

    def __init__(self) -> None:
        self._making = RLock()
        self._known: WeakValueDictionary[Hashable, object] = WeakValueDictionary()

    def of_bundle(self, manifest: Manifest) -> Obtain:
        """Gives what is in memory already, or makes it.

        Args:
            manifest: of a bundle whose sums were verified.
        """
        files = manifest.files

        def obtain(made_of: tuple[str, ...], make: Callable[[], Model]) -> Model:
            parts = tuple(f"{part}/" for part in made_of)
            sums = tuple(
                (name, files[name].sha256) for name in sorted(files) if name.startswith(parts)
            )
            with self._making:
                known = self._known.get((made_of, sums))
                if known is not None:
                    return cast("Model", known)
                made = make()
                self._known[made_of, sums] = made
                return made

        return obtain
