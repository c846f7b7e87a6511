"""Errors of `emobeam fetch`, `explore`, `train`, `evaluate` and `export`; each message is one line."""

from emobeam.errors import EmobeamError


class ModelExportError(EmobeamError):
    """An error that the user can correct; the message says cause, place and cure."""


class CorpusError(ModelExportError):
    """A corpus cannot be read: its folder, a file's name, or its table of speakers."""


class DownloadError(ModelExportError):
    """A corpus or weights cannot be downloaded or unpacked."""


class RunError(ModelExportError):
    """A training run's folder or options are wrong, or a protocol's results are."""


class ExportError(ModelExportError):
    """A network cannot be exported, or the exported graph does not answer as the network does."""


class PageError(ModelExportError):
    """A page of figures cannot be written."""
