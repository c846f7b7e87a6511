"""Errors of `emobeam fetch`, `explore`, `train`, `evaluate` and `export`; each message is one line."""

from emobeam.errors import EmobeamError


class ModelExportError(EmobeamError):
    """Something that the user can put right; the message says what is wrong, where, and what to do."""


class CorpusError(ModelExportError):
    """A corpus cannot be read: its folder, a file's name, or its table of speakers."""


class DownloadError(ModelExportError):
    """A corpus cannot be downloaded or unpacked."""


class RunError(ModelExportError):
    """A training run's folder is not what it should be."""


class ExportError(ModelExportError):
    """An exported graph does not answer as the trained network does."""


class PageError(ModelExportError):
    """A page of figures cannot be written."""
