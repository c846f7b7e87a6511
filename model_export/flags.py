"""The flags of ``emobeam fetch``, ``explore``, ``train``, ``evaluate`` and ``export``.

Without numpy, pandas and Keras, so that --help is quick.
"""

import argparse
from pathlib import Path

from emobeam.model_export.corpora.sources import SOURCES
from emobeam.model_export.networks.whisper_download import WHISPER_BASE


def corpus(text: str) -> tuple[str, Path]:
    """Parse ``NAME=DIR``, for argparse."""
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=DIR, as in ravdess=RAVDESS_FOLDER")
    return name, Path(folder)


def _add_corpus(parser: argparse.ArgumentParser, *, required: bool, purpose: str) -> None:
    parser.add_argument(
        "--corpus",
        action="append",
        type=corpus,
        required=required,
        default=None if required else [],
        metavar="NAME=DIR",
        help=f"{purpose}; NAME is ravdess, ravdess_song, crema_d, nemo or emovo; may be given again",
    )


def add_out_argument(parser: argparse.ArgumentParser, *, metavar: str, purpose: str) -> None:
    """Add the argument of what a command writes: by position, or by ``--out`` or ``--output``."""
    either = parser.add_mutually_exclusive_group(required=True)
    either.add_argument("place", nargs="?", type=Path, metavar=metavar, help=purpose)
    either.add_argument("--out", "--output", type=Path, metavar=metavar, help="the same")


def out_of(args: argparse.Namespace) -> Path:
    """Return the value of the argument that `add_out_argument` adds."""
    out: Path = args.place if args.out is None else args.out
    return out


def add_fetch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``emobeam fetch``."""
    parser.add_argument(
        "name", choices=sorted([*SOURCES, WHISPER_BASE.name]), help="which corpus, or the weights of network whisper"
    )
    parser.add_argument("dir", type=Path, metavar="DIR", help="the folder to put it into; made if it is not there")
    parser.add_argument(
        "--url",
        help="a mirror: of the zip file, of base.pt or of the folder with AudioWAV; official checksums stay required",
    )
    parser.add_argument(
        "--from", dest="file", type=Path, metavar="FILE",
        help="whisper-base: a copy to convert, OpenAI's base.pt or the encoder as an .npz from CTranslate2's model",
    )  # fmt: skip


def add_explore_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam explore``."""
    _add_corpus(parser, required=True, purpose="a corpus to explore")
    add_out_argument(parser, metavar="DIR", purpose="folder for index.html and its figures")


def add_train_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam train``."""
    _add_corpus(parser, required=True, purpose="a corpus to train on")
    add_out_argument(parser, metavar="RUN", purpose="the run's folder; an interrupted run there is continued")
    parser.add_argument("--network", default="cnn", metavar="NAME", help="the network to train (default: cnn)")
    parser.add_argument(
        "--fold", type=int, default=1, metavar="N", help="EmoBox RAVDESS fold whose actors are held out (default: 1)"
    )
    parser.add_argument(
        "--no-holdout",
        action="store_true",
        help="train on every actor: for a model whose accuracy and temperature a protocol measures (export --results)",
    )
    parser.add_argument("--epochs", type=int, metavar="N", help="length of the schedule (default: the recipe's)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of everything random (default: 0)")
    parser.add_argument("--init-from", type=Path, metavar="RUN", help="a finished run whose weights to start from")
    parser.add_argument(
        "--encoder", type=Path, metavar="FILE", help="weights of network whisper's encoder (emobeam fetch whisper-base)"
    )
    parser.add_argument("--learning-rate", type=float, metavar="R", help="highest rate (default: the recipe's)")
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of cached features, for several runs (default: RUN/cache)",
    )


def add_evaluate_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam evaluate``."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="folder of a training run")
    _add_corpus(parser, required=False, purpose="a corpus to evaluate on (default: the run's)")
    parser.add_argument(
        "--report", type=Path, metavar="DIR", help="write figures and tables there too, as a page, index.html"
    )
    parser.add_argument(
        "--robustness",
        action="store_true",
        help="measure instead the cost of codecs, noise, a room, clipping and other levels on held-out speech",
    )
    parser.add_argument("--noise", type=Path, metavar="DIR", help="folder of recordings of noise, for --robustness")
    protocol = parser.add_argument_group("instead of RUN: train and test by a protocol")
    protocol.add_argument(
        "--protocol",
        metavar="NAME",
        help="emobox, loso, random-clips, grouped-clips, leaky, cross-corpus, leave-corpus-out or crema-speakers",
    )
    protocol.add_argument("--network", default="cnn", metavar="NAME", help="cnn, whisper, gru, lstm, mlp, knn or tree")
    protocol.add_argument("--encoder", type=Path, metavar="FILE", help="weights of network whisper's encoder")
    protocol.add_argument(
        "--seed", type=int, action="append", default=[], metavar="N", help="may be given again (default: 0)"
    )
    protocol.add_argument(
        "--fold", action="append", default=[], metavar="NAME", help="may be given again (default: all)"
    )
    protocol.add_argument("--jobs", type=int, default=1, metavar="N", help="trainings in parallel (default: 1)")
    protocol.add_argument(
        "--train-only",
        action="store_true",
        help="do not test yet, as on a machine with a GPU and no TensorFlow (KERAS_BACKEND=jax or torch)",
    )
    protocol.add_argument(
        "--work-dir", type=Path, default=Path("trials"), metavar="DIR",
        help="folder of the trainings; those already there are used (default: trials)",
    )  # fmt: skip
    protocol.add_argument(
        "--results", type=Path, metavar="DIR", help="folder for PROTOCOL-NETWORK.json and .parquet (default: WORK_DIR)"
    )
    protocol.add_argument(
        "--cache", type=Path, metavar="DIR", help="folder of cached features (default: WORK_DIR/cache)"
    )


def add_export_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of ``emobeam export``."""
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a training run")
    add_out_argument(parser, metavar="FILE", purpose="the .onnx file to write")
    parser.add_argument("--name", metavar="NAME", help="the model's name in the tables (default: the file's)")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="quantize its convolutions to 8 bits: a third of the time, nearly the same answers (docs/model.md)",
    )
    parser.add_argument(
        "--card", action="store_true", help="write the model's card and its figures beside it, as .md and .json"
    )
    parser.add_argument(
        "--results",
        type=Path,
        metavar="DIR",
        help="folder of protocols' results: the temperature and the figures of a run without held-out actors",
    )
    _add_corpus(parser, required=False, purpose="a corpus whose clips verify the export (default: the run's)")
