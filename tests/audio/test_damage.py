"""Recordings with holes and damaged bytes: what is left is decoded, at its time, and what is lost is counted."""

import io
import random

import av
import numpy as np
import pytest
import soundfile

from emobeam.audio.decode import open_audio
from emobeam.audio.files import ErrorKeepingFile, Region
from emobeam.audio.ogg import OggFile
from tests.support import factory

RATE = 16_000
SOUND = factory.voice(40.0)  # more than a block


def written(container, subtype, rate=RATE):
    file = io.BytesIO()
    soundfile.write(file, SOUND, rate, subtype=subtype, format=container)
    return file.getvalue()


def decode(data):
    with open_audio(io.BytesIO(data)) as decoder:
        return decoder, np.concatenate(list(decoder.blocks()))[:, 0]


def pages(data):
    starts = [at for at in range(len(data)) if data.startswith(b"OggS", at)]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def page_damaged(data, index):
    """Damage 24 bytes of a page."""
    own = pages(data)
    own[index] = own[index][:-40] + random.Random(0).randbytes(24) + own[index][-16:]
    return b"".join(own)


def pages_gone(data, first, count):
    own = pages(data)
    return b"".join(own[:first] + own[first + count :])


def assert_hole(sound, whole, rate, lost_s):
    """Check that a sound is another one with a hole of that length in it, and return when the hole begins."""
    assert len(sound) == pytest.approx(len(whole), abs=0.01 * rate)
    silent = np.abs(sound[: len(sound) // rate * rate].reshape(-1, rate // 20)).max(axis=1) == 0
    assert silent.sum() / 20 == pytest.approx(lost_s, abs=0.15)
    first = int(silent.argmax())
    assert silent[first : first + silent.sum()].all()
    edge = rate // 5  # where coders fade in
    before, behind = slice(edge, first * rate // 20 - edge), slice((first + silent.sum()) * rate // 20 + edge, -edge)
    for part in (before, behind):
        ours, right = sound[part], whole[: len(sound)][part]
        assert np.corrcoef(ours, right[: len(ours)])[0, 1] > 0.99
    return first / 20


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("at", [0.3, 0.8])
def test_a_hole_in_an_ogg_file_is_silent_and_counted(subtype, at):
    data = written("OGG", subtype)
    _, whole = decode(data)
    index = int(len(pages(data)) * at)
    for damaged in (page_damaged(data, index), pages_gone(data, index, 1), pages_gone(data, index, 2)):
        decoder, sound = decode(damaged)
        assert decoder.broken is None
        assert decoder.losses.decode_errors == 1
        assert 0.5 < decoder.losses.lost_s < 10
        begin_s = assert_hole(sound, whole, decoder.info.sample_rate, decoder.losses.lost_s)
        assert begin_s == pytest.approx(40 * at, abs=4)


def test_a_hole_before_the_last_page_is_silent_as_well():
    data = written("OGG", "VORBIS")
    decoder, sound = decode(pages_gone(data, -2, 1))
    assert decoder.losses.decode_errors == 1
    assert len(sound) == pytest.approx(len(SOUND), abs=0.01 * RATE)
    hole = np.abs(sound).reshape(-1, RATE // 20).max(axis=1) == 0
    assert hole.sum() / 20 == pytest.approx(decoder.losses.lost_s, abs=0.15)
    assert np.abs(sound[-RATE // 4 :]).max() > 0


def test_an_ogg_file_that_lacks_its_first_sound_begins_with_what_is_there():
    data = written("OGG", "VORBIS")
    decoder, sound = decode(pages_gone(data, 2, 1))
    assert decoder.losses.decode_errors == 1
    assert len(sound) < len(SOUND)
    assert np.abs(sound[:RATE]).max() > 0


def test_a_hole_in_a_flac_file_is_silent_and_counted():
    data = written("FLAC", "PCM_16")
    at = len(data) * 3 // 10
    decoder, sound = decode(data[:at] + bytes(20_000) + data[at + 20_000 :])
    assert decoder.losses.decode_errors >= 1
    assert decoder.losses.lost_s > 0.2
    assert len(sound) == len(SOUND)
    assert np.abs(sound[-20 * RATE :] - SOUND[-20 * RATE :]).max() < 1e-3
    assert np.abs(sound[: 5 * RATE] - SOUND[: 5 * RATE]).max() < 1e-3


@pytest.mark.parametrize("size", [200, 400, 800, 1000, 1400, 3000])
def test_an_mp3_file_is_decoded_behind_its_damage_and_the_loss_is_counted(size):
    data = bytearray(written("MP3", "MPEG_LAYER_III"))
    for at in (0.2, 0.3, 0.5):
        damaged = bytearray(data)
        start = int(len(data) * at)
        damaged[start : start + size] = bytes(size)
        decoder, sound = decode(bytes(damaged))
        assert 40 - len(sound) / RATE < 2
        assert decoder.losses.lost_s + len(sound) / RATE == pytest.approx(40, abs=0.1)
        assert (decoder.losses.decode_errors > 0) == (decoder.losses.lost_s > 0)
        assert size < 600 or decoder.losses.lost_s > 0


def by_ffmpeg(container, codec):
    out = io.BytesIO()
    with av.open(out, "w", format=container) as file:
        stream = file.add_stream(codec, rate=RATE, layout="mono", bit_rate=48_000)
        frame = av.AudioFrame.from_ndarray(SOUND[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = RATE, 0
        stream.codec_context.open()
        context = stream.codec_context
        resampler = av.AudioResampler(context.format, "mono", RATE, frame_size=context.frame_size)
        for part in (*resampler.resample(frame), *resampler.resample(None), None):
            file.mux(stream.encode(part))
    return out.getvalue()


def test_mp3_in_wav_is_decoded_behind_its_damage():
    data = bytearray(by_ffmpeg("wav", "libmp3lame"))
    at = len(data) * 3 // 10
    data[at : at + 1500] = bytes(1500)
    decoder, sound = decode(bytes(data))
    assert decoder.info.format == "wav/mpeg_layer_iii"
    assert decoder.broken is None
    assert 0 < decoder.losses.lost_s < 2
    assert 38 < len(sound) / RATE < 40.2


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM", "GSM610"])
def test_coded_wav_files_keep_their_length_whatever_is_damaged(subtype):
    data = bytearray(written("WAV", subtype))
    at = len(data) * 3 // 10
    data[at : at + 1500] = random.Random(0).randbytes(1500)
    decoder, sound = decode(bytes(data))
    assert decoder.broken is None
    assert len(sound) / RATE == pytest.approx(40, abs=0.1)


def shifted(at_s, by_s):
    """Return Matroska with FLAC whose packets from a time on are later."""
    source, out = io.BytesIO(written("FLAC", "PCM_16")), io.BytesIO()
    with av.open(source) as flac, av.open(out, "w", format="matroska") as matroska:
        stream = matroska.add_stream_from_template(flac.streams.audio[0])
        for packet in flac.demux(audio=0):
            if packet.pts is None:
                continue
            if packet.pts * packet.time_base >= at_s:
                packet.pts = packet.dts = packet.pts + round(by_s / packet.time_base)
            packet.stream = stream
            matroska.mux(packet)
    return out.getvalue()


def test_a_pause_of_a_recorder_is_silent_and_no_loss():
    decoder, sound = decode(shifted(10, 3))
    assert len(sound) / RATE == pytest.approx(43, abs=0.2)
    assert np.abs(sound[int(10.5 * RATE) : 13 * RATE]).max() == 0
    assert (decoder.losses.decode_errors, decoder.losses.lost_s) == (0, 0)


def test_a_single_packet_with_a_wrong_time_is_no_pause():
    data = bytearray(by_ffmpeg("flv", "aac"))
    _, whole = decode(bytes(data))
    at, tags = 13, 0
    while tags < 100:
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
        tags += 1
    data[at + 4] ^= 0x10  # of three bytes of milliseconds
    _, sound = decode(bytes(data))
    assert len(sound) == pytest.approx(len(whole), abs=RATE // 10)


def test_a_pause_far_longer_than_the_sound_before_it_is_closed():
    _, sound = decode(shifted(10, 2 * 3_600))
    assert len(sound) == len(SOUND)


@pytest.mark.parametrize("step", [1, 7, 300, 70_000])
def test_an_ogg_file_checks_its_pages_however_it_is_read(step):
    def read(data):
        file = OggFile(ErrorKeepingFile(io.BytesIO(data)), Region(0, len(data)))
        if step > 1:  # as decoders do that look for the end first
            file.seek(len(data) - 100)
            file.read()
        file.seek(0)
        while file.read(step):
            pass
        return file

    data = written("OGG", "VORBIS")
    if step == 1:
        data = b"".join(pages(data)[:6])
    assert (read(data).is_damaged, read(data).last_link) == (False, -1)
    assert not read(data + b"TAG" + bytes(125)).is_damaged
    assert read(data + data).last_link == len(data)
    assert not read(data + data).is_damaged
    assert read(page_damaged(data, 4)).is_damaged
    assert read(pages_gone(data, 4, 1)).is_damaged
    middle = pages(data)
    assert read(b"".join([*middle[:4], bytes(50), *middle[4:]])).is_damaged
