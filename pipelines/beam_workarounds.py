"""What Beam does that a run cannot have, each with the version in which it was seen and the reason."""

import logging
import signal
import sys
from typing import Any


def quiet_logging() -> None:
    """Keep Beam from logging.

    Beam 2.77 warns of libraries that a local run does not need, and logs each error at length, besides raising it.
    """
    logging.getLogger().addFilter(lambda record: "apitools not found" not in record.getMessage())
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL)


def quiet_workers() -> None:
    """Keep Beam's workers from printing: in Beam 2.77 one prints its error to standard error, besides raising it."""
    from apache_beam.runners.worker import sdk_worker

    sdk_worker.print = lambda *_, **__: None


def submit(pipeline: Any) -> Any:
    """Submit a pipeline to a cluster, and keep the handler of Ctrl-C as it is; return the job.

    Beam 2.77 starts a job server from the main thread, and sets a handler that ends that server. With it would go the
    way to cancel the job.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        return pipeline.run()
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:
            signal.signal(signal.SIGINT, handler)


def hide_main() -> None:
    """Hide ``__main__`` from multiprocessing where it is Beam's worker.

    A process that is started would import it: in Beam 2.77 a second, and 100 MB.
    """
    main = sys.modules["__main__"]
    if main.__spec__ is not None and main.__spec__.name.startswith("apache_beam."):
        main.__spec__ = None
        main.__dict__.pop("__file__", None)
