"""The recipes."""

from emobeam.model_export.networks.baselines import (
    BASELINES,
)
from emobeam.model_export.networks.keras_networks import NETWORKS
from emobeam.model_export.training.options import TrainOptions
from emobeam.model_export.training.recipes import (
    FINETUNE,
    PRETRAIN,
    SCRATCH,
    SINGLE_CORPUS,
    SPEAKER_DEPENDENT,
    recipe,
    stage_of,
)


def test_recipes_are_options_of_training(tmp_path):
    assert stage_of(["crema_d"], initialized=False) == SINGLE_CORPUS
    assert stage_of(["crema_d", "ravdess"], initialized=False) == SCRATCH
    assert stage_of(["ravdess"], initialized=True) == FINETUNE
    assert stage_of(["ravdess"], initialized=True, speaker_dependent=True) == SPEAKER_DEPENDENT
    for network in (*NETWORKS, *BASELINES):
        for stage in (PRETRAIN, FINETUNE, SPEAKER_DEPENDENT, SINGLE_CORPUS, SCRATCH):
            options = TrainOptions(corpora=(), out=tmp_path, network=network, **recipe(network, stage))
            assert options.epochs > 1
