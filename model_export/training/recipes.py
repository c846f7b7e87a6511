"""How each network is trained: the recipe, as it was frozen before any test actor was heard (docs/experiments.md)."""

from collections.abc import Iterable, Mapping
from typing import Any

from emobeam.model_export.training.augment import Augmentation

#: Before all: on CREMA-D, which shares no actor with RAVDESS.
PRETRAIN = "pretrain"
#: On RAVDESS and a part of CREMA-D, from there.
FINETUNE = "finetune"
#: Likewise, on RAVDESS alone, where those who are asked about later are among those who train.
KNOWN = "known"
#: On CREMA-D alone, for a model that nothing follows.
ALONE = "alone"
#: On whatever is given, from random weights.
SCRATCH = "scratch"

#: An actor who sings a sad line does not do what the same actor does who speaks it: songs teach sad wrongly.
_SPEECH_ALONE = {"ravdess_song": 0.0}

#: 1,200 clips of twenty actors are soon known by heart.
_HARDER = Augmentation(time_mask_frames=30, band_mask_bands=12, mixup_share=0.8, mixup_alpha=0.4)

_STAGES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "cnn": {
        PRETRAIN: {"epochs": 18, "learning_rate": 3e-3, "weight_decay": 1e-2},
        FINETUNE: {
            "epochs": 48,
            "learning_rate": 2e-3,
            "augmentation": _HARDER,
            "corpus_shares": {**_SPEECH_ALONE, "crema_d": 0.1},
            "head_shares": {"ravdess": 0.8, "crema_d": 0.2},
        },
        KNOWN: {"epochs": 96, "learning_rate": 2e-3, "corpus_shares": {**_SPEECH_ALONE, "crema_d": 0.0}},
        ALONE: {"epochs": 48, "learning_rate": 3e-3, "weight_decay": 1e-2},
        SCRATCH: {"epochs": 50, "learning_rate": 2e-3, "corpus_shares": _SPEECH_ALONE},
    },
    "gru": {SCRATCH: {"epochs": 60, "learning_rate": 3e-3, "corpus_shares": _SPEECH_ALONE}},
    "lstm": {SCRATCH: {"epochs": 60, "learning_rate": 3e-3, "corpus_shares": _SPEECH_ALONE}},
    "mlp": {SCRATCH: {"epochs": 60, "learning_rate": 1e-3, "corpus_shares": _SPEECH_ALONE}},
}


def is_pretrained(network: str) -> bool:
    """Return whether the network's recipe has a first stage on CREMA-D."""
    return PRETRAIN in _STAGES.get(network, {})


def stage_of(corpora: Iterable[str], *, started: bool, known: bool = False) -> str:
    """Return the stage at which a training stands, other than a `PRETRAIN` that another follows.

    Parameters
    ----------
    corpora : iterable of str
        Their names.
    started : bool
        Whether it has weights already.
    known : bool
        Whether those who are asked about later are among those who train.
    """
    if started:
        return KNOWN if known else FINETUNE
    return SCRATCH if "ravdess" in corpora else ALONE


def recipe(network: str, stage: str) -> dict[str, Any]:
    """Return the fields of `options.TrainOptions` that the network's recipe sets at this stage.

    A network with a recipe from random weights alone is trained by that at every stage.
    """
    stages = _STAGES.get(network, _STAGES["cnn"])
    return dict(stages.get(stage, stages[SCRATCH]))
