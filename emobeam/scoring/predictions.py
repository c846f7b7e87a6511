"""From a channel's windows to its rows: of the segments table, and of the files table."""

import functools
from typing import Any

import numpy as np

from emobeam.audio import frontend
from emobeam.audio.windows import aggregate
from emobeam.schemas.contract import FrontEnd, ModelContract
from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.settings import ScoreSettings
from emobeam.scoring.analysis import ChannelAnalysis, RecordingProperties
from emobeam.scoring.result import NO_CHANNEL, SEGMENT

_TELEPHONE_HZ = 4_000.0
_TELEPHONE_DB = 40.0


def channel_rows(
    channel: ChannelAnalysis, properties: RecordingProperties, contract: ModelContract, settings: ScoreSettings
) -> tuple[dict[str, Any], np.ndarray]:
    """Return a channel's own columns of the files table, and its rows of the segments table.

    Parameters
    ----------
    channel : ChannelAnalysis
    properties : RecordingProperties
        Of its recording.
    contract : ModelContract
    settings : ScoreSettings

    Returns
    -------
    values : dict
        Status, speech, and the scores if there are any; the other columns are null.
    segments : np.ndarray of `SEGMENT`, shape (segments,)
        Their channel is `NO_CHANNEL`.
    """
    if properties.duration_s < settings.min_duration_s:
        return {"status": "too_short", "speech_s": 0.0}, np.empty(0, SEGMENT)
    if not channel.segments:
        status = "silent" if channel.is_silent(settings) else "too_short"
        return {"status": status, "speech_s": 0.0}, np.empty(0, SEGMENT)

    predictions = ChannelPredictions(channel, contract, settings, properties.duration_s)
    values: dict[str, Any] = {"status": "silent", "speech_s": predictions.speech_s}
    emotion, gender = predictions.aggregate(slice(None))
    if not np.isnan(gender[0]):
        best = int(emotion.argmax())
        values |= {
            "status": "ok",
            "emotion": contract.emotions[best],
            "confidence": float(emotion[best]),
            "gender": contract.genders[int(gender.argmax())],
            "entropy": float(-(emotion * np.log(np.maximum(emotion, 1e-12))).sum()),
            "level_dbfs": max(channel.levels_db),
            "narrowband": _is_narrowband(channel, properties.sample_rate, contract.front_end),
            **{f"p_{name}": float(p) for name, p in zip(contract.emotions, emotion, strict=True)},
            "p_female": float(gender[0]),
        }
    return values, predictions.segments()


class ChannelPredictions:
    """The model's probabilities for a channel's windows, and their aggregates.

    Parameters
    ----------
    channel : ChannelAnalysis
        With at least one window.
    contract : ModelContract
    settings : ScoreSettings
    duration_s : float
        Of the recording.

    Attributes
    ----------
    speech_s : float
        Seconds of speech in the channel.
    """

    def __init__(
        self, channel: ChannelAnalysis, contract: ModelContract, settings: ScoreSettings, duration_s: float
    ) -> None:
        front_end = contract.front_end
        self._channel, self._settings, self._contract, self._duration_s = channel, settings, contract, duration_s
        starts, lengths = np.array(channel.windows).reshape(-1, 2).T
        probabilities = np.array(channel.probabilities).reshape(len(starts), -1)
        self._emotions, self._genders = np.split(probabilities, [len(contract.emotions)], axis=1)
        self._levels_db, self._active_fractions = np.array(channel.levels_db), np.array(channel.active_fractions)
        if channel.voice_activity is None:
            # Windows overlap: each accounts for the frames up to the next one's start, the last for all of its own.
            own_frames = np.append(np.diff(starts), lengths[-1])
            self.speech_s = float(min(duration_s, (self._active_fractions * own_frames).sum() * front_end.frame_s))
            self._votes = self._active_fractions
        else:
            self.speech_s = float(channel.voice_activity.seconds(np.zeros(1), np.array([duration_s]))[0])
            speech_fractions = self._speech_fractions(*segment_times(starts, lengths, front_end, duration_s))
            self._votes = np.where(speech_fractions >= settings.min_speech_fraction, speech_fractions, 0.0)

    def segments(self) -> np.ndarray:
        """Return the rows of the channel's segments, their channel `NO_CHANNEL`."""
        first_frames, frames, windows = np.array(self._channel.segments).reshape(-1, 3).T
        starts = np.cumsum(windows) - windows
        levels_db = np.maximum.reduceat(self._levels_db, starts)
        emotions, genders = self._emotions, self._genders
        if len(windows) < len(emotions):
            parts = [self.aggregate(slice(start, start + n)) for start, n in zip(starts, windows, strict=True)]
            emotions, genders = (np.array(column, dtype=np.float32) for column in zip(*parts, strict=True))
        rows = np.empty(len(windows), SEGMENT)
        rows["channel"] = NO_CHANNEL
        rows["start_s"], rows["end_s"] = times = segment_times(
            first_frames, frames, self._contract.front_end, self._duration_s
        )
        rows["speech_fraction"] = self._speech_fractions(*times)
        rows["level_dbfs"] = np.where(np.isfinite(levels_db), levels_db, np.nan)
        by_name = dict(zip(self._contract.emotions, emotions.T, strict=True))
        for emotion in EMOTIONS:
            rows[f"p_{emotion}"] = by_name.get(emotion, np.nan)
        rows["p_female"] = genders[:, 0]
        return rows

    def aggregate(self, windows: slice) -> tuple[np.ndarray, np.ndarray]:
        """Return the probabilities of emotions and genders over some windows; NaN if all are silent."""
        emotions, genders, levels_db = self._emotions[windows], self._genders[windows], self._levels_db[windows]
        scored = np.flatnonzero(~np.isnan(genders[:, 0]))
        if len(scored) < 2:
            only = scored[0] if len(scored) else 0
            return emotions[only], genders[only]
        votes = self._votes[windows][scored]
        if not votes.any():
            # Sound without speech by the detector. A cry, a song or a language unlike its training is scored too.
            votes = self._active_fractions[windows][scored]
        emotion, gender = (
            aggregate(probabilities[scored], levels_db[scored], votes, range_db=self._settings.vote_range_db)
            for probabilities in (emotions, genders)
        )
        return emotion, gender

    def _speech_fractions(self, starts_s: np.ndarray, ends_s: np.ndarray) -> np.ndarray:
        """Return the fraction of speech between times; without a detector, these must be the windows' times."""
        if self._channel.voice_activity is None:
            return self._active_fractions
        return np.asarray(np.minimum(self._channel.voice_activity.seconds(starts_s, ends_s) / (ends_s - starts_s), 1.0))


def segment_times(
    first_frames: np.ndarray, frames: np.ndarray, front_end: FrontEnd, duration_s: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return when segments begin and end, in seconds.

    Times come from whole numbers of samples, so that no error accumulates.

    Parameters
    ----------
    first_frames, frames : np.ndarray of int, shape (segments,)
        Index of each segment's first frame, and its number of frames.
    front_end : FrontEnd
    duration_s : float
        Of the recording: no segment ends later.

    Returns
    -------
    starts_s, ends_s : np.ndarray, shape (segments,)
    """
    starts = first_frames * front_end.hop_length
    ends = starts + (frames - 1) * front_end.hop_length + front_end.n_fft
    return starts / front_end.sample_rate, np.minimum(ends / front_end.sample_rate, duration_s)


def _is_narrowband(channel: ChannelAnalysis, sample_rate: int, front_end: FrontEnd) -> bool | None:
    if sample_rate <= 2 * _TELEPHONE_HZ:
        return True
    upper = _above_telephone_band(front_end)
    if channel.spectrum is None or not upper.any():
        return None
    lower_power, upper_power = channel.spectrum[~upper].mean(), channel.spectrum[upper].mean()
    return bool(upper_power < lower_power * 10 ** (-_TELEPHONE_DB / 10))


@functools.lru_cache(maxsize=8)
def _above_telephone_band(front_end: FrontEnd) -> np.ndarray:
    return np.asarray(frontend.mel_frequencies(front_end)[1:-1] > _TELEPHONE_HZ)
