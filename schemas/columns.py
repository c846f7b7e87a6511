"""The columns of the tables: every name, type and meaning, in one place.

Columns are only ever added, at the end. ``run_id`` and ``run_date`` are in the path and not in the file: readers of
partitioned datasets take them from the path, and raise if the file has them too.

Free of pyarrow, since the scoring process fills rows and does not write them. `emobeam.schemas.tables` makes the
Parquet schemas.
"""

from dataclasses import dataclass
from typing import Literal

from emobeam.schemas.labels import EMOTIONS
from emobeam.schemas.stages import STAGES, WRITE

STATUSES = ("ok", "silent", "too_short", "truncated", "failed")

Table = Literal["files", "segments", "runs"]

OUTCOMES = ("complete", "recovered", "compacted")


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes
    ----------
    name : str
    type : str
        A numpy type's name, or "string", "strings" (a list of them) or "timestamp" (microseconds, UTC).
    description : str
        Unit, meaning, and when it is null.
    nullable : bool
    """

    name: str
    type: Literal["string", "strings", "bool", "int16", "int32", "int64", "float32", "float64", "timestamp"]
    description: str
    nullable: bool = True


_PROBABILITIES = [
    Column(
        f"p_{emotion}",
        "float32",
        f"calibrated probability of {emotion}; null without an answer, or if the model lacks this emotion",
    )
    for emotion in EMOTIONS
]
_P_FEMALE = Column("p_female", "float32", "probability that the voice is female; null without an answer")
_URI = Column(
    "uri",
    "string",
    "canonical uri of the recording, absolute and percent-encoded; in runs with --root, its path below the root, "
    "percent-encoded",
    nullable=False,
)
_CHANNEL = Column("channel", "int16", "0, 1, .. if channels are split; null if they are mixed or the file failed")

FILES: tuple[Column, ...] = (
    _URI,
    _CHANNEL,
    Column(
        "status",
        "string",
        f"one of {', '.join(STATUSES)}; a truncated file is scored up to where it breaks off",
        nullable=False,
    ),
    Column("error_stage", "string", "list, open, decode, score or process; null unless failed or truncated"),
    Column("error_code", "string", "stable name of the cause; null unless failed or truncated"),
    Column("error_message", "string", "what is wrong and what to do; null unless failed or truncated"),
    Column("retryable", "bool", "whether another attempt may succeed; null unless failed"),
    Column("emotion", "string", "the emotion with the highest probability; null without an answer"),
    Column("confidence", "float32", "its calibrated probability; null without an answer"),
    *_PROBABILITIES,
    Column("gender", "string", "female or male, the likelier; null without an answer"),
    _P_FEMALE,
    Column("entropy", "float32", "entropy of the emotion probabilities in nats: 0 is certain; null without answer"),
    Column("duration_s", "float64", "decoded length in seconds; null if failed"),
    Column(
        "header_duration_s",
        "float64",
        "length in seconds that the header promises exactly; null if failed, or if the header has none, an estimate or "
        "a placeholder",
    ),
    Column(
        "speech_s",
        "float64",
        "seconds of speech, by the voice detector; with --vad energy, seconds of active sound of any kind; "
        "null if failed",
    ),
    Column("sample_rate", "int32", "of the recording, in Hz; null if failed"),
    Column("channels", "int16", "number of channels in the recording; null if failed"),
    Column("format", "string", "container and coding, as in wav/pcm_16; null if failed"),
    Column("level_dbfs", "float32", "level of the loudest window, relative to white noise of RMS 1; null if silent"),
    Column("clipped_fraction", "float32", "fraction of the samples at full scale, 0 to 1; null if failed"),
    Column(
        "narrowband",
        "bool",
        "whether the sound above 4 kHz is more than 40 dB below the sound under it; null without an answer",
    ),
    Column("size_bytes", "int64", "size when opened, otherwise as listed; null if neither is known"),
    Column("modified_at", "timestamp", "modification time when opened, otherwise as listed; null if neither is known"),
    Column("etag", "string", "the bucket's version of the object; null for files"),
    Column("model", "string", "the model's name", nullable=False),
    Column("model_hash", "string", "first 16 hexadecimal digits of the model file's SHA-256", nullable=False),
    Column(
        "settings_hash",
        "string",
        "16 hexadecimal digits of the settings that can change a result; of the raw formats, that of this extension",
        nullable=False,
    ),
    Column("scored_at", "timestamp", "end of the attempt", nullable=False),
    Column("decode_errors", "int32", "packets that could not be decoded and were passed over; null if failed"),
    Column("lost_s", "float64", "seconds of sound in them; null if failed"),
    Column(
        "audio_tracks",
        "int16",
        "sound tracks in the container, of which the default one is scored, or each with --channels split if they are "
        "mono; null if failed",
    ),
    Column(
        "content_hash",
        "string",
        "BLAKE2b-128 of the file's bytes, 32 hexadecimal digits; null unless the run had --same-by hash and could read "
        "the file",
    ),
)

SEGMENTS: tuple[Column, ...] = (
    _URI,
    _CHANNEL,
    Column(
        "start_s",
        "float64",
        "start of the window or utterance in seconds from the recording's start",
        nullable=False,
    ),
    Column("end_s", "float64", "its end, at most the recording's", nullable=False),
    Column(
        "speech_fraction",
        "float32",
        "fraction of it, 0 to 1, that is speech, by the voice detector; with --vad energy, fraction that is active "
        "sound of any kind (within 10 dB of its mean level)",
        nullable=False,
    ),
    Column(
        "level_dbfs",
        "float32",
        "level of the window, or of the utterance's loudest window, relative to white noise of RMS 1; null in digital "
        "silence",
    ),
    *_PROBABILITIES,
    _P_FEMALE,
)

RUNS: tuple[Column, ...] = (
    Column("started_at", "timestamp", "start of the run", nullable=False),
    Column("wall_time_s", "float64", "seconds from the start to the commit", nullable=False),
    Column("files_listed", "int64", "distinct uris that the inputs match", nullable=False),
    Column("files_processed", "int64", "distinct uris with rows of this run, counted from its parts", nullable=False),
    Column("files_skipped", "int64", "listed and not processed", nullable=False),
    Column(
        "files_hidden", "int64", "names with a leading dot, which are skipped and not in files_listed", nullable=False
    ),
    *(
        Column(f"files_{status}", "int64", f"distinct uris processed whose worst row is {status}", nullable=False)
        for status in STATUSES
    ),
    *(
        Column(f"emotion_{emotion}", "int64", f"rows of the files table whose emotion is {emotion}", nullable=False)
        for emotion in EMOTIONS
    ),
    Column("file_rows", "int64", "rows of the files table", nullable=False),
    Column("segment_rows", "int64", "rows of the segments table", nullable=False),
    Column("audio_duration_s", "float64", "seconds of sound decoded, each recording once", nullable=False),
    Column("rtfx", "float64", "audio_duration_s / wall_time_s", nullable=False),
    Column("model", "string", "the model's name", nullable=False),
    Column("model_hash", "string", "as in the files table", nullable=False),
    Column("model_contract", "string", "the model's contract with its training card, JSON", nullable=False),
    Column("settings", "string", "the settings, JSON", nullable=False),
    Column(
        "settings_hash", "string", "as in the files table; with --raw, of the formats of all extensions", nullable=False
    ),
    Column("inputs", "strings", "the patterns as given", nullable=False),
    Column(
        "options",
        "string",
        "a list in JSON: --same-by, --any-name and --root (its uri) where they were given, and the pipeline's options",
        nullable=False,
    ),
    Column("versions", "string", "of emobeam, Python and the libraries that can change a result, JSON", nullable=False),
    Column(
        "outcome",
        "string",
        f"one of {', '.join(OUTCOMES)}; null in runs older than the column. complete: every file listed was "
        "processed or skipped. recovered: the run died, and the next one committed what it had sealed; files_listed "
        "counts only that, and wall_time_s ends with its last row. compacted: no scoring; it holds the rows of the "
        "runs in `compacted`, which have no rows of their own any more; leave it out of sums over runs",
    ),
    Column("files_forgotten", "int64", "of files_skipped, those that `emobeam forget` keeps out"),
    Column(
        "compacted",
        "strings",
        "run_ids whose rows this run holds; null unless outcome is compacted",
    ),
    Column(
        "size_bytes",
        "int64",
        "of the recordings processed, as in the files table; null in runs older than the column",
    ),
    *(
        Column(
            f"{stage}_s",
            "float64",
            f"seconds of {meaning}, summed over workers, so that it may exceed wall_time_s; null in runs older than "
            "the column, recovered or compacted",
        )
        for stage, meaning in (*STAGES.items(), (WRITE, "writing parts"))
    ),
    Column(
        "files_passed_over",
        "int64",
        "names in folders and globs that do not end as recordings do, not in files_listed; null in recovered and "
        "compacted runs, and in runs older than the column",
    ),
    Column("passed_over", "string", "the same by ending, JSON"),
    Column(
        "files_deferred",
        "int64",
        "of files_skipped, those that failed with the same lasting cause on three nights in a row and wait for their "
        "weekly retry; null in runs older than the column",
    ),
)

COLUMNS: dict[Table, tuple[Column, ...]] = {"files": FILES, "segments": SEGMENTS, "runs": RUNS}
