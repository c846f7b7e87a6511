"""A server to download from, tiny corpora, and a run trained on one of them."""

import itertools
import threading

import pytest

from emobeam.model_export.training.options import TrainOptions
from emobeam.schemas.contract import FrontEnd
from emobeam.schemas.labels import CREMA_D_EMOTIONS, RAVDESS_EMOTIONS
from tests.support import tiny_corpora
from tests.support.downloads import Handler, Server


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def tiny_front_end():
    return FrontEnd(window_frames=64, window_hop_frames=32, n_mels=32)


@pytest.fixture(scope="session")
def tiny_ravdess(tmp_path_factory):
    """Return a folder of clips with RAVDESS's names: an emotion is a pitch, a gender an octave."""
    folder = tmp_path_factory.mktemp("ravdess")
    for actor, (number, code) in itertools.product(tiny_corpora.ACTORS, enumerate(RAVDESS_EMOTIONS)):
        hz = (100 if actor % 2 else 200) * 1.1**number
        path = folder / f"Actor_{actor:02d}" / f"03-01-{code}-01-01-01-{actor:02d}.wav"
        tiny_corpora.write_clip(path, hz=hz, seed=actor * 8 + number)
    return folder


@pytest.fixture(scope="session")
def tiny_crema_d(tmp_path_factory):
    """Return a folder of clips with CREMA-D's names: an emotion is a pitch."""
    folder = tmp_path_factory.mktemp("crema_d")
    for actor, (number, code) in itertools.product((1001, 1002, 1003, 1004), enumerate(CREMA_D_EMOTIONS)):
        tiny_corpora.write_clip(folder / f"{actor}_DFA_{code}_XX.wav", hz=150 * 1.1**number, seed=actor + number)
    speakers = "1001,51,Male\n1002,21,Female\n1003,30,Male\n1004,40,Female\n"
    (folder / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n" + speakers)
    return folder


@pytest.fixture(scope="session")
def tiny_options(tiny_ravdess, tiny_front_end, tmp_path_factory):
    return TrainOptions(
        corpora=(("ravdess", tiny_ravdess),),
        out=tmp_path_factory.mktemp("runs") / "tiny",
        epochs=2,
        network="mlp",  # a CNN takes seconds to compile
        network_options={"width": 0.0625},
        front_end=tiny_front_end,
        speeds=(1.0,),
        batch_size=8,
        validation_actors=2,
        cache=tmp_path_factory.mktemp("cache"),
    )


@pytest.fixture(scope="session")
def tiny_run(tiny_options):
    """Return a trained run's folder and the lines that training printed."""
    from emobeam.model_export.training.train import train

    lines = []
    train(tiny_options, report=lines.append, command=["emobeam", "train"])
    return tiny_options.out, lines
