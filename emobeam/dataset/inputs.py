"""What a run takes of what its inputs name."""

import dataclasses
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from emobeam import storage
from emobeam.audio.decode import EXTENSIONS
from emobeam.dataset.errors import OutsideRootError
from emobeam.dataset.layout import STAGING, TABLES
from emobeam.dataset.run_plan import RunPlan
from emobeam.dataset.skip import FORGOTTEN
from emobeam.schemas.settings import ScoreSettings
from emobeam.storage import ListedFile, PassedOver


@dataclass(frozen=True, kw_only=True)
class InputScope:
    """What a run takes of what its inputs name.

    Attributes
    ----------
    output : str
        Uri of the run's output, whose own objects are never taken.
    settings : ScoreSettings
        Its raw formats name extensions of recordings, too.
    any_name : bool
        Take files in folders and globs whatever they are called; their content decides.
    root : str or None
        Uri of the folder or prefix below which all recordings must be, and relative to which the tables name them.
    """

    output: str
    settings: ScoreSettings
    any_name: bool = False
    root: str | None = None

    @classmethod
    def of(cls, plan: RunPlan) -> "InputScope":
        """Return the scope of a run."""
        return cls(output=plan.output, settings=plan.settings, any_name=plan.any_name, root=plan.root)

    def list_input(self, pattern: str, passed_over: PassedOver | None = None) -> Iterator[ListedFile]:
        """List a pattern; see `storage.list_input`.

        Raises
        ------
        OutsideRootError
        storage.StorageError
        """
        return self._taken(storage.list_input(pattern, self._extensions, passed_over, any_name=self.any_name))

    def list_names(self, uris: Sequence[str]) -> Iterator[ListedFile]:
        """List recordings by their uris.

        Raises
        ------
        OutsideRootError
        """
        return self._taken(storage.stat_all(uris))

    def _taken(self, listing: Iterable[ListedFile]) -> Iterator[ListedFile]:
        for listed in listing:
            if not listed.uri.startswith(self._own_objects):
                yield listed if self.root is None else _below(self.root, listed)

    @functools.cached_property
    def _extensions(self) -> frozenset[str]:
        return EXTENSIONS.union(self.settings.raw_formats)

    @functools.cached_property
    def _own_objects(self) -> tuple[str, ...]:
        folders = (storage.join(self.output, name) + "/" for name in (*TABLES, STAGING))
        return *folders, storage.join(self.output, FORGOTTEN)


def _below(root: str, listed: ListedFile) -> ListedFile:
    relative = storage.relative_to(listed.uri, root)
    if listed.uri == root and listed.kind == "broken":
        relative = "."  # the root itself cannot be read
    if relative is None:
        raise OutsideRootError(
            f"{listed.uri} is not below the root {root}; name inputs below it, or another root by --root"
        )
    return dataclasses.replace(listed, relative_uri=relative)


def recorded_root(options: str) -> str | None:
    """Return the root of a run, from the column ``options`` of the runs table; None where it had none."""
    flags = (flag.partition("=") for flag in json.loads(options))
    return next((value for name, _, value in flags if name == "--root"), None)
