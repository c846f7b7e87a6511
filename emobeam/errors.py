"""The errors that emobeam raises for its callers.

Each message is one line: what is wrong, where, and what to do.

::

    EmobeamError
      ContractError           a model's contract is missing, malformed or does not fit its graph (also a ValueError)
      DecodeError             a recording cannot be decoded
      UriError                a uri has an unknown scheme (also a ValueError)
      StorageError            a folder or bucket does not do what it was asked
      ModelError              a model cannot be found or loaded
      ScoringProcessError     the process that scores cannot do its work; no recording is the cause
        ScoringAbandonedError results are waited for no longer, since the caller is to end
      DatasetError            an output cannot be changed or read
        CommitError           what was scored does not add up to what was listed
        OutsideRootError      an input names a recording that is not below --root
        RunCancelledError     the run was cancelled while it was under way
      ScoreError              a run cannot be done
        UsageError            the command line is wrong
      ModelExportError        training, evaluation or export cannot be done
        CorpusError           a corpus cannot be read
        DownloadError         a corpus cannot be downloaded
        RunError              a training run's folder is not what it should be
        ExportError           an exported graph does not answer as the trained network does
        PageError             a page of figures cannot be written

Every class lives in the module that raises it; `EmobeamError` alone lives here.
"""


class EmobeamError(Exception):
    """Base of every error that emobeam raises for its callers."""
