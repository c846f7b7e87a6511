"""The flags of the commands that score, and of those that look at an output or change it.

Free of Beam, numpy and pyarrow, so that ``--help`` answers at once.
"""

import argparse
import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from emobeam.pipelines.errors import UsageError
from emobeam.schemas.raw import HEADERLESS, RAW_ENCODINGS, raw_formats
from emobeam.schemas.settings import ScoreSettings

if TYPE_CHECKING:
    from emobeam.pipelines.score import ScoreOptions


#: The flag by which a positional argument of ``score`` and ``plan`` passes argparse.
OPERAND = "--operand"


def run_date(text: str) -> datetime.date:
    """Parse ``YYYY-MM-DD``, for argparse."""
    try:
        return datetime.datetime.strptime(text, "%Y-%m-%d").date()
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not a date of the form YYYY-MM-DD") from error


def failure_rate(text: str) -> float:
    """Parse a fraction from 0 to 1, for argparse."""
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0 <= rate <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction from 0 to 1")
    return rate


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam score`` to a parser; every other flag of that command is Beam's."""
    _add_place_arguments(parser)
    _add_selection_arguments(parser)
    _add_run_arguments(parser)
    _add_settings_arguments(parser)


def _add_place_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--input",
        action="append",
        metavar="PATTERN",
        help="a recording, a folder (with its subfolders), a glob such as 'calls/**/*.wav', a .txt file with "
        "one path or uri a line, or - for such a list on standard input; may be given again",
    )
    parser.add_argument("--output", metavar="DIR", help="folder or bucket prefix of the Parquet tables")
    parser.add_argument(OPERAND, dest="operands", action="append", default=[], help=argparse.SUPPRESS)
    parser.add_argument(
        "--model",
        default="default",
        metavar="MODEL",
        help="default, open (learned from CREMA-D alone, whose terms allow commercial use; 6 emotions), or an .onnx "
        "file exported by emobeam (default: default)",
    )


def _add_selection_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rescore", action="store_true", help="score again what this model and these settings have scored"
    )
    parser.add_argument(
        "--retry-failed",
        action="store_true",
        help="try again all that failed, also what waits for its weekly retry or no attempt is expected to mend",
    )
    parser.add_argument(
        "--same-by",
        choices=("mtime", "size", "hash"),
        default="mtime",
        help="what says that a recording is the one that was scored: size and etag or modification time, where whole "
        "hours make no difference; size alone, as for an archive that was copied; or hash, the content, which is read "
        "where size alone is the same, and hashed when it is scored (default: mtime)",
    )
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="name recordings in the tables relative to this folder or bucket prefix, below which all inputs must be: "
        "an archive that is moved or linked elsewhere, and given with its new root, is not scored again",
    )
    parser.add_argument(
        "--any-name",
        action="store_true",
        help="in folders and globs, take every file that is not empty, whatever its ending, and decide by its content: "
        "one that holds no sound gets a row with status failed (default: only names that end as recordings do; the "
        "others are counted by ending)",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-failure-rate",
        type=failure_rate,
        default=0.05,
        metavar="FRACTION",
        help="exit with 3 where more of the files processed fail; what was scored is committed all the same "
        "(default: 0.05)",
    )
    parser.add_argument(
        "--metrics-file",
        metavar="PATH",
        help="at the end of every run, also of one that fails, write its figures there as OpenMetrics; for node "
        "exporter, a name in its textfile folder that ends in .prom, one for each output",
    )
    parser.add_argument(
        "--run-date",
        type=run_date,
        metavar="YYYY-MM-DD",
        help="the run's date in the tables' path (default: today, UTC)",
    )


def _add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--channels",
        choices=("mix", "split"),
        default="mix",
        help="one answer for the mean of all channels, or one for each channel (default: mix)",
    )
    parser.add_argument(
        "--segments",
        choices=("windows", "pauses"),
        default="windows",
        help="a row of the segments table for each window, or for each utterance between pauses (default: windows)",
    )
    parser.add_argument(
        "--vad",
        choices=("silero", "energy"),
        default="silero",
        help="what detects speech: a network, or energy alone, which is faster and counts music (default: silero)",
    )
    parser.add_argument(
        "--raw",
        action="append",
        type=raw_format,
        default=[],
        metavar="[ENDING=]ENCODING,RATE,CHANNELS",
        help="the format of files without a header that have this ending, as in .ul=ulaw,8000,1; without ENDING=, of "
        f"{' '.join(sorted(HEADERLESS))}; ENCODING is one of {', '.join(RAW_ENCODINGS)}; a file that has a header is "
        "read by it; may be given again",
    )


def raw_format(text: str) -> str:
    """Check ``[ENDING=]ENCODING,RATE,CHANNELS``, for argparse."""
    try:
        raw_formats([text])
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def place_operands(arguments: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Add the operands of ``score`` and ``plan`` to the inputs; without ``--output``, the last one is the output.

    Parameters
    ----------
    arguments : argparse.Namespace
        Of `add_score_arguments`; its `input` and `output` are set.
    rest : sequence of str
        What the parser left: Beam's flags, and operands behind other flags. A word behind a flag of Beam's is its
        value.

    Returns
    -------
    list of str
        Beam's flags.

    Raises
    ------
    UsageError
        Without an input or an output, or where the last operand is no place for tables.
    storage.StorageError, storage.UriError
    """
    operands, beam_flags, takes_value = list(arguments.operands), [], False
    for word in rest:
        is_flag = word.startswith("-") and word != "-"
        if is_flag or takes_value:
            beam_flags.append(word)
        else:
            operands.append(word)
        takes_value = is_flag and "=" not in word
    if arguments.output is None and operands[not arguments.input :]:
        arguments.output = operands.pop()
        _check_place(arguments.output)
    arguments.input = [*(arguments.input or ()), *operands]
    missing = [name for name, value in (("input", arguments.input), ("output", arguments.output)) if not value]
    if missing:
        raise UsageError(f"the following arguments are required: {', '.join(f'--{name}' for name in missing)}")
    return beam_flags


def placed(parser: argparse.ArgumentParser, arguments: argparse.Namespace, rest: Sequence[str]) -> list[str]:
    """Return `place_operands`, a wrong usage being the parser's error, which ends the process."""
    try:
        return place_operands(arguments, rest)
    except UsageError as error:
        parser.error(str(error))


def _check_place(output: str) -> None:
    """Refuse an output by position that is likely an input: one that holds something, and no tables."""
    from emobeam import storage
    from emobeam.dataset.layout import STAGING
    from emobeam.dataset.skip import FORGOTTEN

    try:
        names = set(storage.names(storage.canonical(output)))
    except storage.StorageError:
        names = {"a file"}
    if names and not names & {"runs", STAGING, FORGOTTEN}:
        raise UsageError(
            f"without --output, the last argument is the output, and {output} is or holds other files than tables; "
            "give the output by --output"
        )


def score_options(arguments: argparse.Namespace, beam_flags: Sequence[str]) -> "ScoreOptions":
    """Return the options that the flags of `add_score_arguments`, and Beam's, ask for.

    Raises
    ------
    UsageError
        If they do not go together.
    """
    from emobeam.pipelines.score import ScoreOptions

    try:
        settings = ScoreSettings(
            channels=arguments.channels, segments=arguments.segments, vad=arguments.vad, raw=tuple(arguments.raw)
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    return ScoreOptions(
        inputs=tuple(arguments.input),
        output=arguments.output,
        model=arguments.model,
        settings=settings,
        rescore=arguments.rescore,
        retry_failed=arguments.retry_failed,
        same_by=arguments.same_by,
        any_name=arguments.any_name,
        root=arguments.root,
        run_date=arguments.run_date,
        beam_flags=tuple(beam_flags),
        names=_names_on_stdin() if "-" in arguments.input else (),
    )


def _names_on_stdin() -> tuple[str, ...]:
    """Return the uris of a list on standard input; paths in it are relative to the working directory."""
    from emobeam import storage

    with open(0, "rb", closefd=False) as stdin:  # sys.stdin is None where the process was started without one
        names = storage.parse_list(stdin.read(), "standard input")
    return tuple(map(storage.canonical, names))


def add_show_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam show``."""
    add_output_argument(parser)
    parser.add_argument("--limit", type=int, default=50, metavar="N", help="rows to print (default: 50)")


def add_doctor_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam doctor``."""
    parser.add_argument("--input", action="append", metavar="PATTERN", help="check that it can be listed and read")
    add_output_argument(parser, required=False, purpose="check that it can be locked and written")
    parser.add_argument("--model", default="default", metavar="FILE", help="check that it answers (default: default)")


def add_output_argument(
    parser: argparse.ArgumentParser, *, required: bool = True, purpose: str = "the --output of scoring runs"
) -> None:
    """Add the argument of commands on an output, such as ``emobeam verify``: by position or by ``--output``."""
    either = parser.add_mutually_exclusive_group(required=required)
    either.add_argument("place", nargs="?", metavar="DIR", help=purpose)
    either.add_argument("--output", metavar="DIR", help="the same")


def output_of(arguments: argparse.Namespace) -> str:
    """Return the value of the argument that `add_output_argument` adds; None where it is not required and missing."""
    output: str = arguments.place if arguments.output is None else arguments.output
    return output


def add_forget_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``emobeam forget``."""
    parser.add_argument(
        "names",
        nargs="+",
        metavar="NAME",
        help="the --output of scoring runs, unless it is given by that flag; then what to forget: recordings by path "
        "or uri, folders with all under them, globs, and .txt files with one recording or folder a line. They are "
        "looked up in the output: the recordings need not exist any more",
    )
    parser.add_argument("--output", metavar="DIR", help="the --output of scoring runs")
    parser.add_argument(
        "--root",
        metavar="DIR",
        help="where the archive is, if runs had another --root; those of runs are found in the output",
    )
    parser.add_argument(
        "--allow-missing",
        action="store_true",
        help="keep out also names that the output does not hold, and what comes later into folders that are named",
    )
