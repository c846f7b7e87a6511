"""The recipe of each network, frozen before it was measured on any test actor (docs/experiments.md)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emobeam.model_export.networks.front_ends import WHISPER_FRONT_END
from emobeam.model_export.training.augment import Augmentation

#: First stage: on CREMA-D, which shares no actor with RAVDESS.
PRETRAIN = "pretrain"
#: Second stage, from the weights of the first: on RAVDESS and a part of CREMA-D.
FINETUNE = "finetune"
#: Second stage where the test speakers are also training speakers: on RAVDESS alone.
SPEAKER_DEPENDENT = "speaker-dependent"
#: Only stage, on CREMA-D alone.
SINGLE_CORPUS = "single-corpus"
#: Only stage, from random weights, on any corpora.
SCRATCH = "scratch"

#: Songs are left out: sad sounds different in song, and training on it lowers the recall of spoken sad.
_WITHOUT_SONG = {"ravdess_song": 0.0}

#: Stronger masks and more mixing: the network overfits 1,200 clips of twenty actors otherwise.
_STRONG_AUGMENTATION = Augmentation(time_mask_frames=30, band_mask_bands=12, mixup_share=0.8, mixup_alpha=0.4)

_AUXILIARY: Mapping[str, tuple[str, ...]] = {"cnn": ("crema_d",), "whisper": ("crema_d", "nemo", "emovo")}

_STAGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "cnn": {
        PRETRAIN: {"epochs": 18, "learning_rate": 3e-3, "weight_decay": 1e-2},
        FINETUNE: {
            "epochs": 48,
            "learning_rate": 2e-3,
            "augmentation": _STRONG_AUGMENTATION,
            "corpus_shares": {**_WITHOUT_SONG, "crema_d": 0.1},
            "head_shares": {"ravdess": 0.8, "crema_d": 0.2},
        },
        SPEAKER_DEPENDENT: {"epochs": 96, "learning_rate": 2e-3, "corpus_shares": {**_WITHOUT_SONG, "crema_d": 0.0}},
        SINGLE_CORPUS: {"epochs": 48, "learning_rate": 3e-3, "weight_decay": 1e-2},
        SCRATCH: {"epochs": 50, "learning_rate": 2e-3, "corpus_shares": _WITHOUT_SONG},
    },
    "whisper": {
        SCRATCH: {
            "front_end": WHISPER_FRONT_END,
            "augmentation": Augmentation(time_masks=0, band_masks=0),
            "corpus_shares": _WITHOUT_SONG,
            "copies": {"ravdess": 9, "crema_d": 2, "nemo": 2, "emovo": 5},
            "inverse_penalty": 3e-3,
            "head_shares": {"ravdess": 0.8, "crema_d": 0.1, "nemo": 0.05, "emovo": 0.05},
        },
    },
    "gru": {SCRATCH: {"epochs": 60, "learning_rate": 3e-3, "corpus_shares": _WITHOUT_SONG}},
    "lstm": {SCRATCH: {"epochs": 60, "learning_rate": 3e-3, "corpus_shares": _WITHOUT_SONG}},
    "mlp": {SCRATCH: {"epochs": 60, "learning_rate": 1e-3, "corpus_shares": _WITHOUT_SONG}},
}


def is_pretrained(network: str) -> bool:
    """Return whether the network's recipe has a first stage on CREMA-D."""
    return PRETRAIN in _STAGES.get(network, {})


def auxiliary_corpora(network: str) -> tuple[str, ...]:
    """Return the corpora that train the network beside RAVDESS in a protocol that tests RAVDESS."""
    return _AUXILIARY.get(network, ())


def stage_of(corpora: Iterable[str], *, initialized: bool, speaker_dependent: bool = False) -> str:
    """Return the stage of a training other than `PRETRAIN`.

    Parameters
    ----------
    corpora : iterable of str
        Their names.
    initialized : bool
        Whether it takes the weights of another run.
    speaker_dependent : bool
        Whether the test speakers are also training speakers.
    """
    if initialized:
        return SPEAKER_DEPENDENT if speaker_dependent else FINETUNE
    return SCRATCH if "ravdess" in corpora else SINGLE_CORPUS


def recipe(network: str, stage: str) -> dict[str, Any]:
    """Return the fields of `options.TrainOptions` that the network's recipe sets at this stage.

    A network whose recipe has no such stage is trained by its recipe from random weights.
    """
    stages = _STAGES.get(network, _STAGES["cnn"])
    return dict(stages.get(stage, stages[SCRATCH]))
