"""One recording in, rows out. What Beam, the command line, a notebook and a test all call.

>>> from emobeam.scoring import load_model, score_recording
>>> result = score_recording("samples/en_male.flac", load_model())
>>> result.files[0]["status"], result.files[0]["gender"]
('ok', 'male')
"""

from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model, ModelError, load_model
from emobeam.scoring.recording import score_recording
from emobeam.scoring.result import FileResult

__all__ = ["FileResult", "Model", "ModelError", "ScoreSettings", "load_model", "score_recording"]
