"""What an ``.onnx`` model says of itself: labels, front end, window, temperature, training card.

The contract travels as JSON inside the ONNX file (``metadata_props``, key `METADATA_KEY`), so a model file is
complete in itself: scoring needs no second file and no guess about features or label order.
"""

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from emobeam.errors import EmobeamError
from emobeam.schemas.labels import EMOTIONS, GENDERS

METADATA_KEY = "emobeam_contract"
CONTRACT_VERSION = 1

INPUT_NAME = "log_mel"
EMOTION_OUTPUT = "emotion"
GENDER_OUTPUT = "gender"


class ContractError(EmobeamError, ValueError):
    """A model's contract is absent, of an unknown version, malformed, or at odds with its graph."""


@dataclass(frozen=True, kw_only=True)
class FrontEnd:
    """How sound becomes the log-mel windows that a model was trained on.

    Attributes
    ----------
    sample_rate : int
        Rate in Hz to which every recording is resampled (by soxr, quality HQ).
    n_fft, hop_length : int
        Length of a Hann-windowed frame and the step between frames, in samples. Frames are not centred: frame
        ``i`` starts at sample ``i * hop_length``.
    n_mels : int
        Number of mel bands (Slaney's scale, area-normalised filters).
    fmin, fmax : float
        Edges of the mel bands in Hz.
    floor : float
        Added to the level-normalised mel power before the natural logarithm.
    window_frames, window_hop_frames : int
        Length of the model's window and the step between windows, in frames.
    """

    sample_rate: int = 16_000
    n_fft: int = 1_024
    hop_length: int = 256
    n_mels: int = 96
    fmin: float = 125.0
    fmax: float = 8_000.0
    floor: float = 0.02
    window_frames: int = 144
    window_hop_frames: int = 48

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "hop_length", "n_mels", "window_frames", "window_hop_frames"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ContractError(f"front_end.{name} is {value!r}; it must be a positive whole number")
        for name in ("fmin", "fmax", "floor"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
                raise ContractError(f"front_end.{name} is {value!r}; it must be a finite number")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ContractError(
                f"front_end.fmin and front_end.fmax are {self.fmin} and {self.fmax} Hz; they must satisfy "
                f"0 <= fmin < fmax <= sample_rate / 2 = {self.sample_rate / 2:g}"
            )
        if self.floor <= 0:
            raise ContractError(f"front_end.floor is {self.floor}; it must be above 0, or silence has no logarithm")
        if self.hop_length > self.n_fft:
            raise ContractError(f"front_end.hop_length {self.hop_length} skips samples: n_fft is {self.n_fft}")
        if self.window_hop_frames > self.window_frames:
            raise ContractError(
                f"front_end.window_hop_frames {self.window_hop_frames} skips frames: "
                f"window_frames is {self.window_frames}"
            )

    @property
    def frame_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.hop_length / self.sample_rate

    @property
    def window_samples(self) -> int:
        """Samples that a full window covers."""
        return (self.window_frames - 1) * self.hop_length + self.n_fft


@dataclass(frozen=True, kw_only=True)
class ModelContract:
    """Everything that scoring must know of a model, validated on construction.

    Attributes
    ----------
    name : str
        The model's name, as in the tables.
    emotions : tuple of str
        Labels of the ``emotion`` output, a subset of `emobeam.schemas.labels.EMOTIONS` in that order.
    genders : tuple of str
        Labels of the ``gender`` output: `emobeam.schemas.labels.GENDERS`.
    front_end : FrontEnd
        How its input is made.
    temperature : float
        The temperature that the graph applies to its emotion logits; for the record, never applied again.
    licence : str
        Terms of the weights.
    training : mapping
        The training card: corpora, seed, options, held-out figures. Free-form JSON, for people.
    version : int
        Version of this contract's form.
    """

    name: str
    emotions: tuple[str, ...] = EMOTIONS
    genders: tuple[str, ...] = GENDERS
    front_end: FrontEnd = field(default_factory=FrontEnd)
    temperature: float = 1.0
    licence: str
    training: Mapping[str, Any] = field(default_factory=dict)
    version: int = CONTRACT_VERSION

    def __post_init__(self) -> None:
        if self.version != CONTRACT_VERSION:
            raise ContractError(
                f"version is {self.version!r}; this emobeam reads version {CONTRACT_VERSION}. "
                "Export the model again with this release, or install the release that exported it"
            )
        for name in ("name", "licence"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value.strip():
                raise ContractError(f"{name} is {value!r}; it must be a text that is not empty")
        if not self.emotions or self.emotions != tuple(e for e in EMOTIONS if e in self.emotions):
            raise ContractError(
                f"emotions is {list(self.emotions)!r}; it must be some of {list(EMOTIONS)!r}, once each, in that order"
            )
        if self.genders != GENDERS:
            raise ContractError(f"genders is {list(self.genders)!r}; it must be {list(GENDERS)!r}")
        if (
            not isinstance(self.temperature, int | float)
            or not math.isfinite(self.temperature)
            or self.temperature <= 0
        ):
            raise ContractError(f"temperature is {self.temperature!r}; it must be a number above 0")
        if not isinstance(self.training, Mapping):
            raise ContractError(f"training is {self.training!r}; it must be an object")

    def to_json(self) -> str:
        """Return the contract as the JSON text that `from_json` reads."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "ModelContract":
        """Read a contract from JSON.

        Raises
        ------
        ContractError
            If the text is not JSON, lacks a field, has one that this version does not know, or has a value that is
            not allowed. The message names the field.
        """
        try:
            values = json.loads(text)
        except json.JSONDecodeError as error:
            raise ContractError(f"the contract is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise ContractError(f"the contract is a JSON {type(values).__name__}; it must be an object")
        if values.get("version") != CONTRACT_VERSION:
            # Before anything else: another version may have other fields.
            raise ContractError(
                f"version is {values.get('version')!r}; this emobeam reads version {CONTRACT_VERSION}. "
                "Export the model again with this release, or install the release that exported it"
            )
        _check_names(cls, values, prefix="")
        front_end = values["front_end"]
        if not isinstance(front_end, dict):
            raise ContractError(f"front_end is {front_end!r}; it must be an object")
        _check_names(FrontEnd, front_end, prefix="front_end.")
        for name in ("emotions", "genders"):
            if not isinstance(values[name], list):
                raise ContractError(f"{name} is {values[name]!r}; it must be a list")
        return cls(
            **{
                **values,
                "front_end": FrontEnd(**front_end),
                "emotions": tuple(values["emotions"]),
                "genders": tuple(values["genders"]),
            }
        )

    def check_graph(self, inputs: Mapping[str, Sequence[Any]], outputs: Mapping[str, Sequence[Any]]) -> None:
        """Check that a graph's inputs and outputs are those that this contract promises.

        Parameters
        ----------
        inputs, outputs : mapping of str to sequence
            Name to shape, as ONNX Runtime gives them: a number where an axis is fixed, else a text or None.

        Raises
        ------
        ContractError
            If a name is missing, or a shape is at odds with the contract. The message names the contract's field.
        """
        self._check_shape("input", inputs, INPUT_NAME, (self.front_end.window_frames, self.front_end.n_mels))
        if len(inputs) != 1:
            raise ContractError(f"the graph has inputs {sorted(inputs)}; the contract allows {INPUT_NAME!r} alone")
        self._check_shape("output", outputs, EMOTION_OUTPUT, (len(self.emotions),))
        self._check_shape("output", outputs, GENDER_OUTPUT, (len(self.genders),))

    @staticmethod
    def _check_shape(kind: str, shapes: Mapping[str, Sequence[Any]], name: str, expected: tuple[int, ...]) -> None:
        fields = {
            INPUT_NAME: "front_end.window_frames and front_end.n_mels",
            EMOTION_OUTPUT: "emotions",
            GENDER_OUTPUT: "genders",
        }
        if name not in shapes:
            raise ContractError(
                f"the graph has no {kind} {name!r}, which {fields[name]} needs; it has {sorted(shapes)}"
            )
        shape = shapes[name]
        if len(shape) != len(expected) + 1 or tuple(shape[1:]) != expected:
            raise ContractError(
                f"{fields[name]} asks for {kind} {name!r} of shape (batch, {', '.join(map(str, expected))}), "
                f"but the graph has ({', '.join(map(str, shape))})"
            )
        if isinstance(shape[0], int):
            raise ContractError(f"{kind} {name!r} of the graph has a fixed batch of {shape[0]}; it must be free")


def _check_names(kind: type, values: Mapping[str, Any], prefix: str) -> None:
    known = {f.name for f in dataclasses.fields(kind)}
    for name in sorted(known - values.keys()):
        raise ContractError(f"{prefix}{name} is missing")
    for name in sorted(values.keys() - known):
        raise ContractError(f"{prefix}{name} is not a field of contract version {CONTRACT_VERSION}")
