"""The Parquet tables: one stable schema each, every column documented in its field's metadata.

Columns are only ever added, at the end. ``run_id`` and ``run_date`` stand in the path and not in the file: readers of
partitioned datasets take them from there, and raise where they find them twice.
"""

import pyarrow as pa

from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.stages import STAGES, WRITE

TABLES_VERSION = "1"

STATUSES = ("ok", "silent", "too_short", "truncated", "failed")

OUTCOMES = ("complete", "recovered", "compacted")

_TIMESTAMP = pa.timestamp("us", tz="UTC")


def _column(name: str, kind: pa.DataType, meaning: str, *, nullable: bool = True) -> pa.Field:
    return pa.field(name, kind, nullable=nullable, metadata={"description": meaning})


def _schema(table: str, *columns: pa.Field) -> pa.Schema:
    return pa.schema(columns, metadata={"emobeam_table": table, "emobeam_tables_version": TABLES_VERSION})


_PROBABILITIES = [
    _column(
        f"p_{emotion}",
        pa.float32(),
        f"probability of {emotion}, calibrated; null without an answer, or where the model lacks the class",
    )
    for emotion in EMOTIONS
]
_P_FEMALE = _column("p_female", pa.float32(), "probability that the voice is female; null without an answer")
_URI = _column(
    "uri", pa.string(), "the recording: absolute, canonical, bytes of the name percent-encoded", nullable=False
)
_CHANNEL = _column(
    "channel", pa.int16(), "0, 1, .. where channels are split; null where they are mixed or the file failed"
)

FILES = _schema(
    "files",
    _URI,
    _CHANNEL,
    _column("status", pa.string(), f"one of {', '.join(STATUSES)}; a truncated file is scored as far as it goes",
            nullable=False),
    _column("error_stage", pa.string(), "list, open, decode, score or child; null unless failed or truncated"),
    _column("error_code", pa.string(), "stable name of the cause; null unless failed or truncated"),
    _column("error_message", pa.string(), "what is wrong and what to do; null unless failed or truncated"),
    _column("retryable", pa.bool_(), "whether another attempt may end otherwise; null unless failed"),
    _column("emotion", pa.string(), "the emotion of the highest probability; null without an answer"),
    _column("confidence", pa.float32(), "its calibrated probability; null without an answer"),
    *_PROBABILITIES,
    _column("gender", pa.string(), "female or male, the likelier; null without an answer"),
    _P_FEMALE,
    _column("entropy", pa.float32(), "entropy of the emotion probabilities in nats: 0 is certain; null without answer"),
    _column("duration_s", pa.float64(), "decoded length in seconds; null if failed"),
    _column("header_duration_s", pa.float64(), "length in seconds by the header; null if failed or the header tells none"),
    _column(
        "speech_s",
        pa.float64(),
        "seconds of speech, by the voice detector; with --vad energy, seconds that stand out, whatever sounds; "
        "null if failed",
    ),
    _column("sample_rate", pa.int32(), "of the recording, in Hz; null if failed"),
    _column("channels", pa.int16(), "number of channels in the recording; null if failed"),
    _column("format", pa.string(), "container and coding, as in wav/pcm_16; null if failed"),
    _column("level_dbfs", pa.float32(), "level of the loudest window, white noise of RMS 1 being 0; null if silent"),
    _column("clipped_fraction", pa.float32(), "share of the samples at full scale, 0 to 1; null if failed"),
    _column(
        "narrowband",
        pa.bool_(),
        "whether nothing is heard above 4 kHz (40 dB below the sound under it); null without an answer",
    ),
    _column("size_bytes", pa.int64(), "when opened, or else as listed; null where neither tells"),
    _column("modified_at", _TIMESTAMP, "when opened, or else as listed; null where neither tells"),
    _column("etag", pa.string(), "the bucket's version of the object; null for files"),
    _column("model", pa.string(), "the model's name", nullable=False),
    _column("model_hash", pa.string(), "first 16 hexadecimal digits of the model file's SHA-256", nullable=False),
    _column("settings_hash", pa.string(), "16 hexadecimal digits of the settings that can change a result",
            nullable=False),
    _column("scored_at", _TIMESTAMP, "when the attempt ended", nullable=False),
)  # fmt: skip

SEGMENTS = _schema(
    "segments",
    _URI,
    _CHANNEL,
    _column(
        "start_s",
        pa.float64(),
        "start of the window or utterance in seconds from the recording's start",
        nullable=False,
    ),
    _column("end_s", pa.float64(), "its end, at most the recording's", nullable=False),
    _column(
        "speech_fraction",
        pa.float32(),
        "share of it, 0 to 1, that is speech, by the voice detector; with --vad energy, that stands out, whatever "
        "sounds (within 10 dB of its mean level)",
        nullable=False,
    ),
    _column(
        "level_dbfs",
        pa.float32(),
        "level of the window, of the utterance's loudest one, white noise of RMS 1 being 0; null in digital silence",
    ),
    *_PROBABILITIES,
    _P_FEMALE,
)

RUNS = _schema(
    "runs",
    _column("started_at", _TIMESTAMP, "start of the run", nullable=False),
    _column("wall_time_s", pa.float64(), "seconds from the start to the commit", nullable=False),
    _column("files_listed", pa.int64(), "distinct uris that the inputs named", nullable=False),
    _column("files_processed", pa.int64(), "distinct uris with rows of this run, counted from its parts",
            nullable=False),
    _column("files_skipped", pa.int64(), "listed and not taken up", nullable=False),
    _column("files_hidden", pa.int64(), "names with a leading dot that were passed over, not in files_listed",
            nullable=False),
    *(
        _column(f"files_{status}", pa.int64(), f"distinct uris taken up whose worst row is {status}", nullable=False)
        for status in STATUSES
    ),
    *(
        _column(f"emotion_{emotion}", pa.int64(), f"rows of the files table whose emotion is {emotion}", nullable=False)
        for emotion in EMOTIONS
    ),
    _column("file_rows", pa.int64(), "rows of the files table", nullable=False),
    _column("segment_rows", pa.int64(), "rows of the segments table", nullable=False),
    _column("audio_duration_s", pa.float64(), "seconds of sound decoded, each recording once", nullable=False),
    _column("rtfx", pa.float64(), "audio_duration_s / wall_time_s", nullable=False),
    _column("model", pa.string(), "the model's name", nullable=False),
    _column("model_hash", pa.string(), "as in the files table", nullable=False),
    _column("model_contract", pa.string(), "the model's contract with its training card, JSON", nullable=False),
    _column("settings", pa.string(), "the settings, JSON", nullable=False),
    _column("settings_hash", pa.string(), "as in the files table", nullable=False),
    _column("inputs", pa.list_(pa.field("element", pa.string())), "the patterns as given", nullable=False),
    _column("options", pa.string(), "the pipeline's options, JSON", nullable=False),
    _column("versions", pa.string(), "of emobeam, Python and the libraries that can change a result, JSON",
            nullable=False),
    _column(
        "outcome",
        pa.string(),
        f"one of {', '.join(OUTCOMES)}; null in runs older than the column. complete: every file listed was taken up "
        "or skipped. recovered: the run died, and the next one committed what it had sealed; files_listed counts only "
        "that, and wall_time_s ends with its last answer. compacted: no scoring, but the rows of the runs in `compacted`, "
        "which have none of their own any more; leave it out of sums over runs",
    ),
    _column("files_forgotten", pa.int64(), "of files_skipped, those that `emobeam forget` keeps out"),
    _column(
        "compacted",
        pa.list_(pa.field("element", pa.string())),
        "run_ids whose rows stand in this run's place; null unless outcome is compacted",
    ),
    _column("size_bytes", pa.int64(), "of the recordings taken up, as in the files table; null in runs older than it"),
    *(
        _column(
            f"{stage}_s",
            pa.float64(),
            f"seconds of {meaning}, added up over workers, so that they may be more than wall_time_s; null in runs older "
            "than the column, recovered or compacted",
        )
        for stage, meaning in (*STAGES.items(), (WRITE, "writing parts"))
    ),
)  # fmt: skip
