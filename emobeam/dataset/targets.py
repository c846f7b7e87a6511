"""Which recordings of an output the arguments of ``emobeam forget`` name.

An argument names recordings as an input of ``emobeam score`` does, but among the uris that the output holds: it makes
no difference whether the recordings still exist. In this order, it is a list (a ``.txt`` file), the uri of a recording,
a folder, or a glob. The lines of a list are uris of recordings or folders, and no globs. Where the output's uris are
relative to a root, a recording has the whole uris that it has below the root of each run.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from emobeam import storage
from emobeam.dataset import parts
from emobeam.dataset.forget import Erasure
from emobeam.dataset.inputs import recorded_root
from emobeam.dataset.layout import RunParts, committed_runs
from emobeam.dataset.skip import ForgottenList

_Kind = Literal["recording", "folder", "glob"]


@dataclass(frozen=True)
class Target:
    """What an argument, or a line of a list, names.

    Attributes
    ----------
    text : str
        As given; of a list, the line's uri.
    uris : tuple of str
        Canonical, without a slash at the end. The second one, in a bucket, takes percent signs for characters of the
        key: ``a%20b.wav`` is the uri of the key ``a b.wav``, and may be a key itself. What is held decides.
    is_folder : bool
        Whether it ends in a slash, and is no recording.
    matches : callable or None
        For a glob: says whether it matches a uri.
    """

    text: str
    uris: tuple[str, ...]
    is_folder: bool
    matches: Callable[[str], bool] | None

    @property
    def prefixes(self) -> tuple[str, ...]:
        """The uris as those of folders."""
        return tuple("file:///" if uri == "file:" else f"{uri}/" for uri in self.uris)


@dataclass(frozen=True)
class Selection:
    """What targets name.

    Attributes
    ----------
    erasure : Erasure
    missing : tuple of str
        Targets, as given, of which nothing was found and nothing is kept out.
    """

    erasure: Erasure
    missing: tuple[str, ...]

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to forget."""
        return not (self.erasure.uris or self.erasure.folders)


def read_targets(arguments: Iterable[str]) -> list[Target]:
    """Return what arguments name: one target each, and one for each line of a list.

    Raises
    ------
    storage.StorageError
        Where a list cannot be read.
    storage.UriError
    """
    targets: list[Target] = []
    for argument in arguments:
        lines = storage.read_list(argument)
        if lines is None:
            targets.append(
                Target(argument, _spellings(argument), argument.endswith("/"), storage.glob_matcher(argument))
            )
        else:
            targets += [Target(uri, (uri.rstrip("/"),), uri.endswith("/"), None) for uri in lines]
    return targets


def _spellings(name: str) -> tuple[str, ...]:
    names = (name, storage.literal_percents(name))
    return tuple(storage.canonical(each).rstrip("/") for each in names if each is not None)


def select(
    output: str, targets: Sequence[Target], *, root: str | None = None, allow_missing: bool = False
) -> Selection:
    """Return what targets name among the uris that an output holds.

    A name that was forgotten before is not missing. A glob cannot keep out names beforehand.

    Parameters
    ----------
    output : str
        Its uri.
    targets : sequence of Target
    root : str, optional
        Canonical uri of a folder or prefix to which uris of the output are relative, besides the roots of the runs.
    allow_missing : bool
        Also keep out names that the output does not hold, and all that comes into folders that are named.

    Raises
    ------
    storage.StorageError
    """
    forgotten = ForgottenList.of(output)
    runs = committed_runs(output)
    roots = _roots(runs, root)
    # Else the second reading of a name would be forgotten when the command is repeated.
    targets = [replace(each, uris=each.uris[:1]) if each.uris[0] in forgotten else each for each in targets]
    found = _match(targets, _held_names(runs, roots))
    uris: set[str] = set()
    folders: set[str] = set()
    patterns: set[str] = set()
    missing: list[str] = []
    for target in targets:
        kind, own = found[target]
        uris |= own
        if kind is not None:
            patterns.update(*(_below_each(uri, roots) for uri in target.uris))
        if allow_missing and (kind == "folder" or (kind is None and target.matches is None)):
            folders.update(target.prefixes)
            if kind is None and not target.is_folder:
                uris.update(target.uris)
        elif kind is None and not any(name in forgotten for name in (*target.uris, *target.prefixes)):
            missing.append(target.text)
    aliases = {storage.below(each, uri) for uri in uris if "://" not in uri for each in roots}
    erasure = Erasure(frozenset(uris), frozenset(folders), frozenset(patterns), frozenset(aliases))
    return Selection(erasure, tuple(missing))


def _roots(runs: Iterable[RunParts], root: str | None) -> set[str]:
    recorded = (recorded_root(run.record().origin.options) for run in runs)
    return {each for each in (root, *recorded) if each is not None}


def _below_each(uri: str, roots: Collection[str]) -> set[str]:
    """Return a uri, and what it is below each root if it is below one."""
    relative = {storage.relative_to(uri, root) for root in roots}
    return {uri, *(storage.below(root, each) for root in roots for each in relative if each is not None)}


def _held_names(runs: Iterable[RunParts], roots: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield the uris in the files table of runs, each with its whole uri: the same, or that below each root.

    What several runs hold comes several times.
    """
    for run in runs:
        for listed in run.files.values():
            for uri in parts.read(listed.uri, ["uri"])["uri"].unique().to_pylist():
                if "://" in uri:
                    yield uri, uri
                else:
                    yield from ((uri, storage.below(each, uri)) for each in roots)


def _match(targets: Sequence[Target], held: Iterable[tuple[str, str]]) -> dict[Target, tuple[_Kind | None, set[str]]]:
    """Return for each target how it names recordings, None where it names none, and their uris in the table."""
    names = {uri for target in targets for uri in target.uris}
    globs = [target for target in targets if target.matches is not None]
    recordings: dict[str, set[str]] = {}
    in_folder: dict[str, set[str]] = {}
    by_glob: dict[Target, set[str]] = {}
    named_above: dict[str, tuple[str, ...]] = {"": ()}

    def folders_above(folder: str) -> tuple[str, ...]:
        if folder not in named_above:
            bare = folder.rstrip("/")
            named_above[folder] = ((bare,) if bare in names else ()) + folders_above(storage.parent_of(folder))
        return named_above[folder]

    for uri, whole in held:
        if whole in names:
            recordings.setdefault(whole, set()).add(uri)
        for folder in folders_above(storage.parent_of(whole)):
            in_folder.setdefault(folder, set()).add(uri)
        for target in globs:
            if target.matches is not None and target.matches(whole):
                by_glob.setdefault(target, set()).add(uri)

    def meaning(target: Target) -> tuple[_Kind | None, set[str]]:
        for uri in target.uris:
            if uri in recordings and not target.is_folder:
                return "recording", recordings[uri]
            if uri in in_folder:
                return "folder", in_folder[uri]
        return ("glob", by_glob[target]) if target in by_glob else (None, set())

    return {target: meaning(target) for target in targets}
