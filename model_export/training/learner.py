"""A network in training: its steps, the running mean of its weights, and its checkpoints."""

import contextlib
import functools
import json
from collections.abc import Iterator, Sequence, Set
from pathlib import Path
from typing import Any

import keras
import numpy as np

from emobeam.model_export.errors import RunError
from emobeam.model_export.networks.heads import Head, shares_among, with_mixed_head
from emobeam.model_export.networks.keras_networks import NETWORKS
from emobeam.model_export.training.batches import NOT_ASKED, Batch
from emobeam.model_export.training.options import TrainOptions
from emobeam.model_export.training.runs import TrainingRun, load_network, read_run, replacing
from emobeam.schemas.contract import EMOTION_OUTPUT, GENDER_OUTPUT


@contextlib.contextmanager
def _precision(policy: str) -> Iterator[None]:
    """Make layers in this block compute in a precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


class Learner:
    """The network in training, and the running mean of its weights.

    Parameters
    ----------
    options : TrainOptions
    heads : sequence of Head
        The meaning of the emotion logits.
    steps : int
        Number in an epoch.

    Attributes
    ----------
    model : keras.Model
        The network in training.
    """

    def __init__(self, options: TrainOptions, heads: Sequence[Head], steps: int) -> None:
        self._heads = tuple(heads)
        logits = sum(len(head.emotions) for head in heads)
        build = functools.partial(NETWORKS[options.network], emotions=logits, **options.network_options)
        with _precision(options.precision):
            self.model = build(options.front_end)
        self._averaged = build(options.front_end)
        self._answering = with_mixed_head(self._averaged, heads)
        self._mean = [np.array(weight) for weight in self.model.get_weights()]
        self._decay = options.averaging
        self._steps = 0
        schedule = keras.optimizers.schedules.CosineDecay(
            options.learning_rate * 0.1,
            decay_steps=max(1, (options.epochs - 1) * steps),
            alpha=0.01,
            warmup_target=options.learning_rate,
            warmup_steps=steps,
        )
        self._optimizer = keras.optimizers.AdamW(schedule, weight_decay=options.weight_decay, clipnorm=5.0)
        self._optimizer.build(self.model.trainable_variables)
        self.model.compile(
            self._optimizer,
            loss={EMOTION_OUTPUT: masked_crossentropy, GENDER_OUTPUT: masked_crossentropy},
            loss_weights={EMOTION_OUTPUT: 1.0, GENDER_OUTPUT: options.gender_weight},
            # XLA on a CPU is slower than oneDNN's convolutions: 0.28 s a step where these take 0.19.
            jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
        )

    def init_from(self, folder: Path, held_out: Set[str]) -> None:
        """Take the weights of another run.

        Raises
        ------
        RunError
            If the folder is no finished run, one of the `held_out` actors trained it, or its network has several
            heads or another shape.
        """
        before = read_run(folder)
        if shares_among(before.clips, before.options.get("head_shares", {})):
            raise RunError(f"{folder} joins several heads, which cannot go on learning; start from a run with one")
        shared = held_out if before.split.unit != "actor" else held_out & set(before.split.train)
        if shared:
            raise RunError(
                f"{folder} was trained on {', '.join(sorted(shared))}, who validate or are tested here; take the same "
                "--fold and --seed as there, or start anew"
            )
        weights = [
            self._relabelled(old, new, before.emotions)
            for old, new in zip(load_network(folder).get_weights(), self._mean, strict=False)
        ]
        if [w.shape for w in weights] != [w.shape for w in self._mean]:
            raise RunError(f"{folder} holds a network of another shape; start anew, or from another run")
        self.model.set_weights(weights)
        self._mean = weights

    def _relabelled(self, old: np.ndarray, new: np.ndarray, labels: Sequence[str]) -> np.ndarray:
        """Return the old weights, the emotion head's once for each new head; new emotions keep the new ones."""
        wanted = [emotion for head in self._heads for emotion in head.emotions]
        if (old.shape[-1], new.shape[-1]) != (len(labels), len(wanted)) or old.shape[:-1] != new.shape[:-1]:
            return old
        shared = [i for i, emotion in enumerate(wanted) if emotion in labels]
        weights = new.copy()
        weights[..., shared] = old[..., [labels.index(wanted[i]) for i in shared]]
        return weights

    def step(self, batch: Batch) -> float:
        """Take one step and return its loss."""
        self.model.reset_metrics()
        targets = {EMOTION_OUTPUT: batch.emotion, GENDER_OUTPUT: batch.gender}
        logs = self.model.train_on_batch(batch.log_mel, targets, return_dict=True)
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for mean, weight in zip(self._mean, self.model.get_weights(), strict=True):
            mean *= decay
            mean += (1 - decay) * weight
        return float(logs["loss"])

    def average(self) -> Any:
        """Return the network with the running mean of its weights, its heads mixed into one."""
        self._averaged.set_weights(self._mean)
        return self._answering

    def save(self, path: Path, run: TrainingRun) -> None:
        """Write everything that the next epoch needs, and the run as it is."""
        # All variables, not only the weights: dropout's random state is among them.
        arrays = {f"model_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self.model.variables)}
        arrays |= {f"mean_{i}": w for i, w in enumerate(self._mean)}
        arrays |= {f"optimizer_{i}": keras.ops.convert_to_numpy(v) for i, v in enumerate(self._optimizer.variables)}
        with replacing(path) as temporary:
            np.savez(temporary, steps=self._steps, run=json.dumps(run.to_json()), **arrays)

    def restore(self, path: Path) -> TrainingRun | None:
        """Load a checkpoint and return the run as it was then; None where there is no checkpoint."""
        if not path.is_file():
            return None
        with np.load(path) as arrays:
            self._steps = int(arrays["steps"])
            for i, variable in enumerate(self.model.variables):
                variable.assign(arrays[f"model_{i}"])
            self._mean = [arrays[f"mean_{i}"] for i in range(len(self._mean))]
            for i, variable in enumerate(self._optimizer.variables):
                variable.assign(arrays[f"optimizer_{i}"])
            return TrainingRun.from_json(json.loads(str(arrays["run"])))


def masked_crossentropy(target: Any, logits: Any) -> Any:
    """Return the cross-entropy over the classes that a clip is evidence for; other logits get no gradient.

    Parameters
    ----------
    target : tensor, shape (n, classes)
        Weighted shares, and `batches.NOT_ASKED`.
    logits : tensor, shape (n, classes)
    """
    asked = keras.ops.cast(keras.ops.greater(target, 0.5 * NOT_ASKED), logits.dtype)
    logs = keras.ops.log_softmax(logits + (asked - 1.0) * 1e9, axis=-1)
    return -keras.ops.sum(asked * target * logs, axis=-1)
