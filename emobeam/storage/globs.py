"""Globs as patterns over keys and over uris."""

import functools
import os
import re
from collections.abc import Callable

from emobeam.storage.uris import GLOB_CHARACTER, canonical, is_bucket, path_of, split_uri

_MAX_CACHED_FOLDERS = 65_536


def compile_glob(key: str) -> re.Pattern[str]:
    """Translate a glob over keys or paths, in which only ``**`` as a whole part matches ``/``."""
    from wcmatch import glob  # 10 ms that a run without a glob need not spend

    # A backslash is a character of a key here, as it is of a name in a folder; to wcmatch it is an escape.
    flags = glob.GLOBSTAR | glob.DOTGLOB | glob.CASE | glob.FORCEUNIX
    (regex,), _ = glob.translate(key.replace("\\", "\\\\"), flags=flags)
    return re.compile(regex)


def glob_matcher(pattern: str) -> Callable[[str], bool] | None:
    """Return a function that says whether a glob matches a canonical uri; None where the pattern is no glob.

    As in a listing, a glob over files matches the files in a folder that it matches. A glob over a bucket matches whole
    keys.

    Raises
    ------
    UriError
        For a scheme that is neither a bucket's nor ``file``.

    Examples
    --------
    >>> matches = glob_matcher("s3://calls/2024-*/*.wav")
    >>> [matches(f"s3://calls/{key}") for key in ("2024-01/a%20b.wav", "2024-01/x/a.wav")]
    [True, False]
    """
    uri = canonical(pattern)
    if is_bucket(uri):
        root, key = split_uri(uri)
        return functools.partial(_matches_key, root, compile_glob(key)) if GLOB_CHARACTER.search(key) else None
    path = path_of(uri)
    return _path_matcher(compile_glob(path)) if GLOB_CHARACTER.search(path) else None


def _matches_key(root: str, regex: re.Pattern[str], uri: str) -> bool:
    if not uri.startswith(f"{root}/"):
        return False
    return regex.fullmatch(split_uri(uri)[1]) is not None


def _path_matcher(regex: re.Pattern[str]) -> Callable[[str], bool]:
    @functools.lru_cache(_MAX_CACHED_FOLDERS)
    def is_within(folder: str) -> bool:
        above = os.path.dirname(folder)
        return regex.fullmatch(folder) is not None or (above != folder and is_within(above))

    def matches(uri: str) -> bool:
        if not uri.startswith("file://"):
            return False
        path = path_of(uri)
        return regex.fullmatch(path) is not None or is_within(os.path.dirname(path))

    return matches
