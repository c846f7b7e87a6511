"""The front ends of networks. Without Keras, whose import takes seconds and must follow the limits on its threads."""

from emobeam.schemas.contract import WHISPER, FrontEnd

#: Whisper's frames of 25 ms, one in 10 ms; windows of 3 s, one a second; stretches of 12 s.
WHISPER_FRONT_END = FrontEnd(
    n_fft=400,
    hop_length=160,
    n_mels=80,
    fmin=0.0,
    fmax=8_000.0,
    window_frames=300,
    window_hop_frames=100,
    scale=WHISPER,
    stretch_frames=1_200,
)
