"""What every step of scoring one recording needs."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.model import Model
from emobeam.scoring.timing import StageTimer


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoringContext:
    """What every step of scoring one recording needs.

    Attributes
    ----------
    model : Model
    settings : ScoreSettings
    timer : StageTimer
        Switched to the stage that works.
    on_progress : callable
        Called with the seconds of audio of every decoded block.
    open_read : callable
        Opens a uri for reading.
    hash_content : bool
        Fill the column ``content_hash``.
    """

    model: Model
    settings: ScoreSettings
    timer: StageTimer
    on_progress: Callable[[float], None]
    open_read: Callable[[str], BinaryIO]
    hash_content: bool = False

    @property
    def front_end(self) -> FrontEnd:
        """The model's front end."""
        return self.model.contract.front_end
