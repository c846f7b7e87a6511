"""The seam through which every change of storage passes, so that a test can end the process at any one of them."""

from collections.abc import Callable


def _nothing(step: str, place: str) -> None:
    del step, place


#: Called before, within and after every change, with the step's name and the path or uri; does nothing.
watch: Callable[[str, str], None] = _nothing
