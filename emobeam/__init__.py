"""Score archives of speech recordings for emotion and gender.

>>> import emobeam
>>> model = emobeam.load_model("default")
>>> result = emobeam.score_recording("samples/en_male.flac", model)
>>> result.files[0]["emotion"], result.files[0]["gender"]
('neutral', 'male')

Names are imported when they are first used: ``import emobeam`` loads neither NumPy nor Beam.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from emobeam.errors import EmobeamError
    from emobeam.schemas.settings import ScoreSettings
    from emobeam.scoring.model import load_model
    from emobeam.scoring.recording import score_recording
    from emobeam.scoring.result import FileResult

__version__ = "0.1.0"

__all__ = ["EmobeamError", "FileResult", "ScoreSettings", "__version__", "load_model", "score_recording"]

_MODULES = {
    "EmobeamError": "emobeam.errors",
    "FileResult": "emobeam.scoring.result",
    "ScoreSettings": "emobeam.schemas.settings",
    "load_model": "emobeam.scoring.model",
    "score_recording": "emobeam.scoring.recording",
}


def __getattr__(name: str) -> Any:
    """Import a public name at its first use."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(importlib.import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted(__all__)
