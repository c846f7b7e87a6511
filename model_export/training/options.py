"""The options of a training run."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emobeam.model_export.errors import RunError
from emobeam.model_export.networks.baselines import BASELINES
from emobeam.model_export.networks.keras_networks import ENCODERS, NETWORKS
from emobeam.model_export.training.augment import Augmentation
from emobeam.model_export.training.runs import PLACES
from emobeam.schemas.contract import FrontEnd

_PRECISIONS = ("float32", "mixed_bfloat16")


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Everything that determines the result of a training run.

    Attributes
    ----------
    corpora : tuple of (name, folder)
    out : Path
        The run's folder. An interrupted run there is continued.
    fold : int or None
        EmoBox fold whose actors are held out; None trains on every actor.
    epochs : int
        Length of the schedule. The weights kept are the last epoch's: none is chosen.
    seed : int
        Of the split, the weights, and everything random in training.
    network : str
        A name of `keras_networks.NETWORKS`, or of `keras_networks.ENCODERS` or `baselines.BASELINES`, which ignore the
        options of gradient descent.
    network_options : mapping
        Keyword arguments of the network, such as ``width``.
    front_end : FrontEnd
    augmentation : Augmentation
    speeds : tuple of float
        Speeds at which clips are played in training; the first is 1.
    precision : {"float32", "mixed_bfloat16"}
        Of the arithmetic in training; the weights and the saved network are float32.
    corpus_shares : mapping of str to float
        Share of a corpus's clips in an epoch; 1 where a corpus is not named. A corpus of share 0 is left out.
    head_shares : mapping of str to float
        Share of each emotion head in the answer, by the names of `heads.CORPUS_HEADS`; one head where empty.
    batch_size : int
    learning_rate, weight_decay : float
        Of AdamW; the rate rises for an epoch, then falls along a cosine to a hundredth.
    label_smoothing : float
    gender_weight : float
        Weight of the gender head's loss beside the emotion head's 1.
    encoder : Path or None
        For a network of `keras_networks.ENCODERS`: the file of its weights.
    copies : mapping of str to int
        For such a network: windows of each clip that its heads are fitted on, by corpus; the first as the clip is, the
        others augmented; 1 where a corpus is not named.
    inverse_penalty : float
        For such a network: ``C`` of the logistic regressions that are its heads.
    init_from : Path or None
        A finished run whose weights are taken. None of its training actors may validate or be tested here.
    averaging : float
        Decay a step of the running mean of weights; the mean is validated and saved.
    validation_actors : int
    cache : Path or None
        Folder for cached features; the run's own where None.
    """

    corpora: tuple[tuple[str, Path], ...]
    out: Path
    fold: int | None = 1
    epochs: int = 50
    seed: int = 0
    network: str = "cnn"
    network_options: Mapping[str, Any] = field(default_factory=dict)
    front_end: FrontEnd = field(default_factory=FrontEnd)
    augmentation: Augmentation = field(default_factory=Augmentation)
    speeds: tuple[float, ...] = (1.0, 0.93, 1.07)
    precision: str = "mixed_bfloat16"
    corpus_shares: Mapping[str, float] = field(default_factory=dict)
    head_shares: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 32
    learning_rate: float = 2e-3
    weight_decay: float = 2e-2
    label_smoothing: float = 0.1
    gender_weight: float = 0.5
    averaging: float = 0.997
    encoder: Path | None = None
    copies: Mapping[str, int] = field(default_factory=dict)
    inverse_penalty: float = 1e-3
    init_from: Path | None = None
    validation_actors: int = 2
    cache: Path | None = None

    def __post_init__(self) -> None:
        networks = sorted({*NETWORKS, *ENCODERS, *BASELINES})
        if self.network not in networks:
            raise RunError(f"unknown network {self.network!r}; known are {', '.join(networks)}")
        if self.precision not in _PRECISIONS:
            raise RunError(f"unknown precision {self.precision!r}; known are {', '.join(_PRECISIONS)}")
        if self.network in ENCODERS and self.encoder is None:
            raise RunError(
                f"network {self.network!r} needs the weights of its encoder; fetch them by `emobeam fetch "
                f"{self.network}-base DIR` and give --encoder DIR/{self.network}-base.npz"
            )
        if self.epochs < 1:
            raise RunError(f"epochs is {self.epochs}; it must be at least 1")
        if not self.speeds or self.speeds[0] != 1.0:
            raise RunError(f"speeds is {self.speeds}; the first must be 1.0, the speed that is validated")

    def to_json(self) -> dict[str, Any]:
        """Return the options as JSON values."""
        values = dataclasses.asdict(self)
        values["corpora"] = {name: str(folder) for name, folder in self.corpora}
        values |= {name: str(values[name]) for name in PLACES if values[name]}
        return dict(json.loads(json.dumps(values)))
