"""Compare scoring with FFmpeg's decoding over a matrix of containers, codings and ways of writing.

usage: oracle.py [--json FILE] [--keep DIR]

Every file is made from samples/ by ffmpeg or SoX (tools/oracle_files.py), and written whole, to a pipe, cut off, with
wrong sizes, concatenated, with offsets, gaps, video, several tracks, damage or junk (docs/oracle.md). It is scored, and
so is a WAV of what ffmpeg decodes of it: of the intact parts, joined, where ffmpeg itself is misled. Both must agree:
the duration within 50 ms, the emotion, and every probability within 0.02; and the status must be right.
"""

import argparse
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import soundfile  # noqa: E402 - the path above comes first

from emobeam.scoring import Model, load_model, score_recording  # noqa: E402
from tools.oracle_files import Case, cases  # noqa: E402

TOOLS = ("ffmpeg", "sox")
MAX_DURATION_S, MAX_PROBABILITY = 0.05, 0.02

#: Why files may deviate, by words in their names. docs/oracle.md has the table.
REASONS: Mapping[str, str] = {
    "wav_adpcm": "libsndfile and FFmpeg decode a damaged or partial ADPCM block differently",
    "wav_mp3_killed": "ffmpeg decodes the last frame, of which a part is there",
    "wav_float_24_bytes": "damaged bytes are samples of 9e20 times full scale, which are refused (out_of_range)",
    "ogg_flac_24_bytes": "a lost page is silence here, so that times are the recording's; ffmpeg closes the gap",
    "opus_page_lost": "Opus takes some 80 ms behind a hole to decode as if there were none",
    "wavpack_24_bytes": "FFmpeg 8 drops the damaged block, which ffmpeg 5 decodes as noise",
}


def compare(case: Case, model: Model, folder: Path) -> dict[str, Any] | None:
    """Score a file and its truth; return what deviates, or None."""
    path = folder / case.name
    path.write_bytes(case.data)
    (got,) = score_recording(path, model).files
    path.unlink()
    truth = io.BytesIO()
    soundfile.write(truth, case.truth, case.rate, format="WAV", subtype="FLOAT")
    (right,) = score_recording(truth.getvalue(), model).files
    wrong = _difference(got, right, case)
    if wrong is None:
        return None
    what, is_, should = wrong
    reason = next((reason for word, reason in REASONS.items() if word in case.name), "")
    return {"file": case.name, "what": what, "got": is_, "expected": should, "reason": reason}


def _difference(got: Mapping[str, Any], right: Mapping[str, Any], case: Case) -> tuple[str, Any, Any] | None:
    if got["status"] not in case.statuses:
        return "status", f"{got['status']}: {got['error_message']}", " or ".join(case.statuses)
    if got["status"] == "failed":
        return None
    if abs(got["duration_s"] - right["duration_s"]) > MAX_DURATION_S:
        return "duration_s", got["duration_s"], right["duration_s"]
    if got["emotion"] != right["emotion"]:
        return "emotion", got["emotion"], right["emotion"]
    for name in (column for column in right if column.startswith("p_")):
        if right[name] is not None and abs(got[name] - right[name]) > MAX_PROBABILITY:
            return name, got[name], right[name]
    return None


def compare_all(makers: list[Callable[[], Case | None]], model: Model, *, keep: Path | None = None) -> dict[str, Any]:
    """Compare files; return counts and deviations."""
    files = 0
    deviations = []
    with tempfile.TemporaryDirectory() as folder:
        for maker in makers:
            case = maker()
            if case is None:
                continue
            files += 1
            deviation = compare(case, model, Path(folder))
            if deviation is not None:
                deviations.append(deviation)
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / case.name).write_bytes(case.data)
    return {"files": files, "agree": files - len(deviations), "deviations": deviations}


def main() -> int:
    """Compare and print; return 1 if fewer than 98 % agree or a deviation has no reason."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--keep", type=Path, help="folder for files that deviate")
    parser.add_argument("--model", default="default")
    arguments = parser.parse_args()
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        parser.error(f"{' and '.join(missing)} must be installed")
    figures = compare_all(list(cases()), load_model(arguments.model), keep=arguments.keep)
    text = json.dumps(figures, indent=1)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")
    has_reasons = all(deviation["reason"] for deviation in figures["deviations"])
    return 0 if has_reasons and figures["agree"] >= 0.98 * figures["files"] else 1


if __name__ == "__main__":
    sys.exit(main())
