"""Random weights in the form of Whisper base's, for tests without a download."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

_WIDTH, _HIDDEN, _POSITIONS = 512, 2048, 1500


def layers(blocks: int) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield the encoder's layers with their arrays, float32."""
    rng = np.random.default_rng(0)

    def dense(*shape: int) -> list[np.ndarray]:
        fan_in = int(np.prod(shape[:-1]))
        return [rng.normal(0, fan_in**-0.5, shape).astype(np.float32), rng.normal(0, 0.1, shape[-1]).astype(np.float32)]

    def norm() -> list[np.ndarray]:
        return [rng.normal(1, 0.1, _WIDTH).astype(np.float32), rng.normal(0, 0.1, _WIDTH).astype(np.float32)]

    yield "conv1", dense(3, 80, _WIDTH)
    yield "conv2", dense(3, _WIDTH, _WIDTH)
    yield "positions", [rng.normal(0, 0.3, (_POSITIONS, _WIDTH)).astype(np.float32)]
    for number in range(blocks):
        yield f"block{number}_norm1", norm()
        yield f"block{number}_qkv", dense(_WIDTH, 3 * _WIDTH)
        yield f"block{number}_out", dense(_WIDTH, _WIDTH)
        yield f"block{number}_norm2", norm()
        yield f"block{number}_wide", dense(_WIDTH, _HIDDEN)
        yield f"block{number}_narrow", dense(_HIDDEN, _WIDTH)


def write(file: Path, *, blocks: int = 1) -> Path:
    """Write weights as `emobeam fetch whisper-base` does, in half precision, of the first blocks alone."""
    np.savez(
        file, **{f"{name}/{i}": a.astype(np.float16) for name, parts in layers(blocks) for i, a in enumerate(parts)}
    )
    return file
