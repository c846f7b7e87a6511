"""Hashes of content: what is the same wherever it lies and whenever it was written."""

import hashlib
from collections.abc import Callable
from typing import BinaryIO

_BLOCK = 1 << 20


def hash_file(file: BinaryIO, on_block: Callable[[], None] = lambda: None) -> str:
    """Return the BLAKE2b-128 of a file's content, 32 hexadecimal digits.

    Parameters
    ----------
    file : binary file object
        Read from its start to its end.
    on_block : callable
        Called for every megabyte.

    Examples
    --------
    >>> import io
    >>> hash_file(io.BytesIO(b"sound"))
    '6e2c12355c49541a4fde9a80ebc186bb'
    """
    digest = hashlib.blake2b(digest_size=16)
    file.seek(0)
    while block := file.read(_BLOCK):
        digest.update(block)
        on_block()
    return digest.hexdigest()
