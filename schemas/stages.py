"""The stages of scoring whose time is measured: in the runs table, in Beam's metrics, and for Prometheus."""

#: What each stage of scoring one recording does, by name.
STAGES = {
    "decode": "opening, reading and decoding",
    "resample": "mixing channels and resampling",
    "mel": "log-mel",
    "vad": "the voice detector",
    "network": "the model",
    "other": "all else of scoring",
}

#: And the one that is a part's, of many recordings.
WRITE = "write"
