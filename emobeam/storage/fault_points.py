"""The hook that every change of storage calls, so that a test can end the process at any change."""

from collections.abc import Callable


def _nothing(step: str, place: str) -> None:
    del step, place


#: Called before, within and after every change, with the step's name and the path or uri. Does nothing by default.
watch: Callable[[str, str], None] = _nothing
