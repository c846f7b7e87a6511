"""A number that tells one set of recordings from another, whatever the order in which it is added up.

A cluster may run a step twice, and not get the same shares of the work the second time. Equal numbers of recordings
then prove nothing: one may be missing and another be there twice. Their sums agree only where the recordings do.
"""

import hashlib
from collections.abc import Iterable

_MODULUS = 2**64


def uri_set_checksum(uris: Iterable[str]) -> int:
    """Return the sum of the uris' 64-bit hashes, below 2**64.

    >>> uri_set_checksum(["file:///a", "file:///b"]) == uri_set_checksum(["file:///b", "file:///a"])
    True
    """
    return total(int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest()) for uri in uris)


def total(sums: Iterable[int]) -> int:
    """Return the sum of disjoint sets from those of each."""
    return sum(sums) % _MODULUS
