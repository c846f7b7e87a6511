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
#: Version 2 adds `FrontEnd.scale` and `FrontEnd.stretch_frames`, which have their defaults in a contract of version 1.
CONTRACT_VERSION = 2
_VERSIONS = (1, CONTRACT_VERSION)
_ADDED_IN_2 = ("scale", "stretch_frames")

INPUT_NAME = "log_mel"
WINDOWS_INPUT = "windows"
EMOTION_OUTPUT = "emotion"
GENDER_OUTPUT = "gender"
EMBEDDING_OUTPUT = "embedding"

#: Values of `FrontEnd.scale`.
LN, WHISPER = "ln", "whisper"


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
        Added to the level-normalised mel power before the natural logarithm; `WHISPER` does not use it.
    window_frames, window_hop_frames : int
        Length of the model's window and the step between windows, in frames.
    scale : {"ln", "whisper"}
        How mel power becomes the input: `emobeam.audio.frontend.log_mel`.
    stretch_frames : int
        The model takes stretches of at most so many frames, and the windows in them; 0 if it takes single windows.
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
    scale: str = LN
    stretch_frames: int = 0

    def __post_init__(self) -> None:
        if self.scale not in (LN, WHISPER):
            raise ContractError(f"front_end.scale is {self.scale!r}; it must be {LN!r} or {WHISPER!r}")
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
        stretch = self.stretch_frames
        if not isinstance(stretch, int) or isinstance(stretch, bool) or (stretch and stretch < self.window_frames):
            raise ContractError(
                f"front_end.stretch_frames is {stretch!r}; it must be 0, or a whole number of at least window_frames, "
                f"{self.window_frames}"
            )

    @property
    def windows_per_stretch(self) -> int:
        """Windows that the model takes at once."""
        return 1 + max(0, self.stretch_frames - self.window_frames) // self.window_hop_frames

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
        _check_version(self.version)
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
        # Before anything else: another version may have other fields.
        _check_version(values.get("version"))
        _check_names(cls, values, prefix="")
        front_end = values["front_end"]
        if not isinstance(front_end, dict):
            raise ContractError(f"front_end is {front_end!r}; it must be an object")
        missing = _ADDED_IN_2 if values["version"] == 1 else ()
        _check_names(FrontEnd, front_end, prefix="front_end.", without=missing)
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
        labels = {EMOTION_OUTPUT: (_FREE, len(self.emotions)), GENDER_OUTPUT: (_FREE, len(self.genders))}
        if self.front_end.stretch_frames:
            wanted = {INPUT_NAME: (1, _FREE, self.front_end.n_mels), WINDOWS_INPUT: (_FREE, 2)}
            # The length of an embedding is the model's own.
            labels[EMBEDDING_OUTPUT] = (_FREE, *outputs.get(EMBEDDING_OUTPUT, ())[1:2])
        else:
            wanted = {INPUT_NAME: (_FREE, self.front_end.window_frames, self.front_end.n_mels)}
        for name, shape in wanted.items():
            _check_shape("input", inputs, name, shape)
        if set(inputs) != set(wanted):
            raise ContractError(f"the graph has inputs {sorted(inputs)}; the contract allows {sorted(wanted)} alone")
        for name, shape in labels.items():
            _check_shape("output", outputs, name, shape)


#: An axis of any length.
_FREE = "free"

_FIELDS = {
    INPUT_NAME: "front_end.window_frames and front_end.n_mels",
    WINDOWS_INPUT: "front_end.stretch_frames",
    EMBEDDING_OUTPUT: "front_end.stretch_frames",
    EMOTION_OUTPUT: "emotions",
    GENDER_OUTPUT: "genders",
}


def _check_shape(
    kind: str, shapes: Mapping[str, Sequence[Any]], name: str, expected: tuple[int | str | None, ...]
) -> None:
    field = _FIELDS[name]
    if name not in shapes:
        raise ContractError(f"the graph has no {kind} {name!r}, which {field} needs; it has {sorted(shapes)}")
    shape = shapes[name]
    if len(shape) != len(expected) or any(
        wanted != _FREE and axis != wanted for axis, wanted in zip(shape, expected, strict=True)
    ):
        raise ContractError(
            f"{field} asks for {kind} {name!r} of shape ({', '.join(map(str, expected))}), "
            f"but the graph has ({', '.join(map(str, shape))})"
        )
    for index, (axis, wanted) in enumerate(zip(shape, expected, strict=True)):
        if wanted == _FREE and isinstance(axis, int):
            raise ContractError(
                f"{kind} {name!r} of the graph has a fixed {'length' if index else 'batch'} of {axis}; it must be free"
            )


def _check_version(version: Any) -> None:
    if type(version) is not int or version not in _VERSIONS:
        raise ContractError(
            f"version is {version!r}; this emobeam reads versions {', '.join(map(str, _VERSIONS))}. "
            "Export the model again with this release, or install the release that exported it"
        )


def _check_names(kind: type, values: Mapping[str, Any], prefix: str, without: Sequence[str] = ()) -> None:
    known = {f.name for f in dataclasses.fields(kind)} - set(without)
    for name in sorted(known - values.keys()):
        raise ContractError(f"{prefix}{name} is missing")
    for name in sorted(values.keys() - known):
        raise ContractError(f"{prefix}{name} is not a field of this version of the contract")
