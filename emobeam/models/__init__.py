"""The packaged models, their cards, and the ONNX Runtime sessions that run a model."""

from pathlib import Path

#: Names that ``--model`` takes besides a path.
NAMES = ("default", "open")

#: The network of voice activity detection.
SPEECH = Path(__file__).with_name("speech.onnx")


def path(name: str) -> Path:
    """Return the path of a packaged model's ``.onnx`` file.

    Raises
    ------
    ValueError
        If no packaged model has this name.
    """
    if name not in NAMES:
        raise ValueError(f"no packaged model is called {name!r}; there is {', '.join(NAMES)}")
    return Path(__file__).with_name(f"{name}.onnx")
