"""Make the sample clips beside this script: ``python samples/make_samples.py [--crema-d DIR] [FOLDER]``.

The synthetic voices are espeak-ng's (``apt-get install espeak-ng``, ``brew install espeak-ng``). With ``--crema-d``,
the actors' clips are made instead, out of a folder with clips of CREMA-D. One version of espeak-ng and of the codecs
gives the same bytes every time; other versions sound a little different.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import soundfile
import soxr


@dataclass(frozen=True)
class Voice:
    """A speaker: an espeak-ng voice with its variant, pitch (0 to 99) and speed (words a minute)."""

    name: str
    pitch: int
    speed: int

    def say(self, text: str, rate: int) -> np.ndarray:
        """Return `text` spoken, as mono float32 at `rate` Hz, with 0.1 s of silence at either end."""
        with tempfile.TemporaryDirectory() as folder:
            wav = Path(folder, "said.wav")
            command = ["espeak-ng", "-b", "1", "-v", self.name, "-p", str(self.pitch), "-s", str(self.speed)]
            subprocess.run([*command, "-w", str(wav), "--stdin"], input=text.encode(), check=True)
            sound, spoken_rate = soundfile.read(wav, dtype="float32")
        sounding = np.flatnonzero(np.abs(sound) > 1e-3)
        if not len(sounding):
            sys.exit(f"make_samples: espeak-ng said nothing with voice {self.name}; see `espeak-ng --voices`")
        edge = spoken_rate // 10
        sound = np.pad(sound[sounding[0] : sounding[-1] + 1], edge)
        return np.asarray(soxr.resample(sound, spoken_rate, rate), dtype=np.float32)


ANNA = Voice("en+f3", pitch=58, speed=165)
BEN = Voice("en+m3", pitch=38, speed=150)
CARA = Voice("en-us+f2", pitch=75, speed=190)
DAN = Voice("en-us+m7", pitch=30, speed=160)
EVA = Voice("de+f2", pitch=60, speed=160)
FRITZ = Voice("de+m1", pitch=35, speed=150)
GRETA = Voice("de+f4", pitch=70, speed=185)

CALL = [
    (ANNA, "Good morning, this is the bicycle workshop. How can I help?"),
    (BEN, "Hello. The brake on my bicycle is making a noise."),
    (ANNA, "The front one or the back one?"),
    (BEN, "The front one, I think."),
    (ANNA, "Then bring it in today, before six."),
    (BEN, "I will. Thank you."),
]

MINUTE = [
    "On Monday the river stood higher than any of us could remember.",
    "By noon the lower road was closed, and the post came round by the hill.",
    "We carried the chairs upstairs, and then the books, and at last the piano stool.",
    "The piano itself had to stay where it was.",
    "In the evening the neighbours came over with soup and a lamp.",
    "Somebody told the story of the flood of his childhood, and nobody believed the part about the cow.",
    "On Tuesday the rain stopped.",
    "The water went down slowly, a hand's breadth in an hour, and left the garden brown and smooth.",
    "We found one shoe, two oars, and a sign from a village that none of us knew.",
    "On Wednesday we opened every window, and began to sweep.",
]


#: A clip of CREMA-D for each sample that an actor speaks.
ACTED = {
    "acted_angry_female_57.flac": "1028_WSI_ANG_XX",
    "acted_disgust_male_21.webm": "1080_WSI_DIS_XX",
    "acted_fearful_female_25.aiff": "1018_IWW_FEA_XX",
    "acted_fearful_male_62.mp3": "1050_IWL_FEA_XX",
    "acted_happy_female_25.ogg": "1018_ITH_HAP_XX",
    "acted_happy_male_21.caf": "1080_DFA_HAP_XX",
    "acted_neutral_male_62.m4a": "1050_ITH_NEU_XX",
    "acted_sad_female_57.wav": "1028_DFA_SAD_XX",
}
#: Codec and bit rate of the containers that FFmpeg writes.
CODECS = {".webm": ("libopus", 32_000), ".ogg": ("libopus", 32_000), ".m4a": ("aac", 48_000)}


def level(sound: np.ndarray, peak_db: float) -> np.ndarray:
    """Return `sound` with its peak at `peak_db` dB of full scale."""
    return np.asarray(sound * (10 ** (peak_db / 20) / np.abs(sound).max()), dtype=np.float32)


def with_pauses(turns: Iterable[np.ndarray], pause_s: float, rate: int) -> np.ndarray:
    """Return sounds of shape (frames, ...) one after another, `pause_s` seconds of silence between them."""
    parts: list[np.ndarray] = []
    for turn in turns:
        if parts:
            parts.append(np.zeros((round(pause_s * rate), *turn.shape[1:]), dtype=np.float32))
        parts.append(turn)
    return np.concatenate(parts)


def call(rate: int) -> np.ndarray:
    """Return the two-channel call, shape (frames, 2): the first speaker on channel 0, the second on channel 1."""
    turns = []
    for voice, text in CALL:
        said = level(voice.say(text, rate), -6 if voice is ANNA else -10)
        silent = np.zeros_like(said)
        turns.append(np.stack([said, silent] if voice is ANNA else [silent, said], axis=1))
    return with_pauses(turns, 0.3, rate)


def write_with_ffmpeg(path: Path, sound: np.ndarray, rate: int, codec: str, bit_rate: int) -> None:
    """Encode mono `sound` by FFmpeg: for the containers that libsndfile does not write.

    And for Ogg, where libsndfile draws a random serial number into every page, while FFmpeg can leave chance out.
    """
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream(codec, rate=rate, layout="mono")
        if not isinstance(stream, av.AudioStream):
            raise TypeError(f"{codec} is no audio codec")
        stream.bit_rate = bit_rate
        stream.codec_context.flags |= av.codec.context.Flags.bitexact
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(sound[np.newaxis]), format="fltp", layout="mono")
        frame.sample_rate = rate
        frame.pts = 0
        # Encoders take their own sample format, in frames of their own size.
        encoder = stream.codec_context
        encoder.open()
        resampler = av.AudioResampler(encoder.format, "mono", rate, frame_size=encoder.frame_size)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))


def make(folder: Path) -> list[Path]:
    """Write all clips into `folder` and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []

    def named(name: str) -> Path:
        made.append(folder / name)
        return made[-1]

    said = ANNA.say("The parcel came this morning, all in one piece.", 48_000)
    soundfile.write(named("en_female_studio.wav"), level(said, -3), 48_000, subtype="PCM_16")

    said = BEN.say("There is a light on in the kitchen, and nobody is at home.", 22_050)
    soundfile.write(named("en_male.flac"), level(said, -6), 22_050, subtype="PCM_16")

    said = EVA.say("Heute Morgen fuhr der Zug zum ersten Mal pünktlich ab.", 44_100)
    soundfile.write(named("de_female.mp3"), level(said, -3), 44_100, compression_level=0.8)

    said = FRITZ.say("Der Schlüssel hängt im Flur, gleich neben der Tür.", 48_000)
    write_with_ffmpeg(named("de_male.opus"), level(said, -9), 48_000, "libopus", 32_000)

    said = CARA.say("I have told you three times already, the meeting is tomorrow!", 44_100)
    write_with_ffmpeg(named("en_female.m4a"), level(said, -3), 44_100, "aac", 48_000)

    said = DAN.say("Please leave a message, and I will call you back tonight.", 8_000)
    soundfile.write(named("en_male_phone.wav"), level(said, -12), 8_000, subtype="ULAW")

    said = GRETA.say("Wo sind denn alle hingegangen?", 48_000)
    write_with_ffmpeg(named("de_female.webm"), level(said, -20), 48_000, "libopus", 32_000)

    soundfile.write(named("en_call_two_channels.flac"), call(16_000), 16_000, subtype="PCM_16")

    story = with_pauses((DAN.say(sentence, 48_000) for sentence in MINUTE), 2.1, 48_000)
    write_with_ffmpeg(named("en_male_minute.ogg"), level(story, -4), 48_000, "libopus", 24_000)
    return made


def make_acted(folder: Path, corpus: Path) -> list[Path]:
    """Write the actors' clips into `folder`, out of a folder with CREMA-D's, and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for name, clip in ACTED.items():
        source = next((path for path in sorted(corpus.rglob(f"{clip}.*"))), None)
        if source is None:
            sys.exit(f"make_samples: {clip} is not in {corpus}; `emobeam fetch crema_d {corpus}` downloads CREMA-D")
        sound, rate = soundfile.read(source, dtype="float32")
        path = folder / name
        made.append(path)
        if path.suffix in CODECS:
            codec, bit_rate = CODECS[path.suffix]
            write_with_ffmpeg(path, sound, rate, codec, bit_rate)
        elif path.suffix == ".mp3":
            soundfile.write(path, sound, rate, compression_level=0.5)
        else:
            soundfile.write(path, sound, rate, subtype="ALAC_16" if path.suffix == ".caf" else "PCM_16")
    return made


def main() -> None:
    """Make the clips and print what was made."""
    parser = argparse.ArgumentParser(description="Make the sample clips.")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).resolve().parent)
    parser.add_argument("--crema-d", type=Path, metavar="DIR", help="make the actors' clips, out of this folder's")
    args = parser.parse_args()
    if args.crema_d is None and shutil.which("espeak-ng") is None:
        sys.exit("make_samples: espeak-ng is missing; `apt-get install espeak-ng` or `brew install espeak-ng`")
    made = make(args.folder) if args.crema_d is None else make_acted(args.folder, args.crema_d)
    for path in made:
        print(f"{path.stat().st_size:8d} bytes  {path}")
    print(f"{sum(path.stat().st_size for path in made):8d} bytes in all")


if __name__ == "__main__":
    main()
