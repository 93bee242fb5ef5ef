"""Opens a published bundle for serving."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from recsys.bundle import Manifest, Registry
from recsys.errors import BundleError, DeadlineError
from recsys.pseudonyms import described
from recsys.recommender import Contents, Recommender, SharedModels
from recsys.text import FastestPrecision
from serving.canary import TimeLeft, send_canary
from serving.ranking import Ranker
from training.training_data import require_key_of_bundle

MANIFEST_NAME = "MANIFEST.json"


def open_recommender(
    registry: Path, version: str | None = None, dataset: Path | None = None
) -> Recommender:
    """Verify a bundle's sums and load it for this machine; `version` None takes the current one.

    For jobs, which may end with a damaged bundle; a server opens bundles by `BundleLoader`.

    Args:
        registry: where bundles are.
        version: of the bundle.
        dataset: whose shoppers it will be asked for.

    Raises:
        BundleNotFoundError: there is no such version, or nothing is published yet.
        BundleCorruptError: a file is missing, extra, truncated or altered.
        DataError: the dataset names shoppers by another key than the bundle.
        ModelError: a part does not fit the others.
    """
    folder = verified_bundle(registry, version)
    if dataset is not None:
        require_key_of_bundle(dataset, Manifest.read(folder))
    return _loaded_here(folder, FastestPrecision(time.perf_counter), SharedModels())


def verified_bundle(registry: Path, version: str | None = None) -> Path:
    """The folder of a bundle whose sums are right; see `open_recommender`."""
    bundles = Registry(registry)
    chosen = version or bundles.current()
    bundles.verify(chosen)
    return bundles.folder(chosen)


@dataclass(frozen=True)
class LoadedBundle:
    """A recommender whose bundle stays on the disk until `close`.

    Attributes:
        ranker: not warm yet.
        close: to be called once nobody uses the recommender any more.
    """

    ranker: Ranker
    close: Callable[[], None]


class BundleLoader:
    """Opens bundles for a server, which must survive whatever lies in their folders.

    Args:
        registry: where they are; opened with a public key, it lets only signed ones through.
        on_refused: called for each that is refused.
        canary: tries a folder out in a process of its own, before this one reads it.
        pseudonym_key: fingerprint of the key by which the server names shoppers; bundles that name
            them otherwise are refused.
    """

    def __init__(
        self,
        registry: Registry,
        on_refused: Callable[[], None] = lambda: None,
        canary: Callable[[Path, TimeLeft], None] = send_canary,
        pseudonym_key: str | None = None,
    ) -> None:
        self._registry = registry
        self._on_refused = on_refused
        self._canary = canary
        self._pseudonym_key = pseudonym_key
        self._precision = FastestPrecision(time.perf_counter)
        self._models = SharedModels()
        self._tried: set[str] = set()
        self._loads = 0

    def load(self, version: str, time_left: TimeLeft) -> LoadedBundle:
        """Keep the bundle from being pruned, verify its sums, try it out, then read it.

        What this process has tried out before, by the sum of its manifest, is not tried out again:
        going back to a bundle is quick. The precision that is fastest here is found out once, too,
        and text models that a bundle in memory has are not read again.

        Raises:
            BundleNotFoundError: there is no such version.
            BundleCorruptError: a file is not what was published, or can't be served.
            BundleSignatureError: it is not signed as the registry wants it.
            BundleError: it names shoppers by another key than the server.
            DeadlineError: the time ran out.
            ModelError: a part does not fit the others.
        """
        try:
            return self._loaded(version, time_left)
        except DeadlineError:
            raise
        except Exception:
            self._on_refused()
            raise

    def try_ahead(self, version: str, time_left: TimeLeft) -> None:
        """Try out a bundle that may have to be loaded quickly; given up once any is loaded.

        Raises:
            DeadlineError: it was given up, or the time ran out.
            BundleError: as in `load`.
        """
        loads = self._loads
        with self._registry.reading(version) as folder:
            self._try_out(folder, lambda: time_left() if self._loads == loads else 0.0)

    def _loaded(self, version: str, time_left: TimeLeft) -> LoadedBundle:
        self._loads += 1
        with ExitStack() as held:
            folder = held.enter_context(self._registry.reading(version))
            self._try_out(folder, time_left)
            ranker = _loaded_here(folder, self._precision, self._models)
            return LoadedBundle(ranker, held.pop_all().close)

    def _try_out(self, folder: Path, time_left: TimeLeft) -> None:
        self._require_names(self._registry.verify(folder.name))
        sum_ = hashlib.sha256((folder / MANIFEST_NAME).read_bytes()).hexdigest()
        if sum_ not in self._tried:
            self._canary(folder, time_left)
            self._tried.add(sum_)

    def _require_names(self, manifest: Manifest) -> None:
        if manifest.pseudonym_key != self._pseudonym_key:
            raise BundleError(
                f"bundle {manifest.version} holds {described(manifest.pseudonym_key)}, but the "
                f"server names by {described(self._pseudonym_key)}; give the server the key file "
                "of the bundle's dataset (`recsys serve --pseudonym-key`), or publish a bundle of "
                "the dataset that `recsys pseudonymise` makes"
            )


def _loaded_here(folder: Path, precision: FastestPrecision, models: SharedModels) -> Recommender:
    manifest = Manifest.read(folder)
    contents = Contents.load(folder, models.of_bundle(manifest)).on_this_machine(precision)
    return Recommender(contents, manifest.version, manifest.horizon)
