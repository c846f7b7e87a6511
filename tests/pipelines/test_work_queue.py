"""The pile on which a local run's workers lay what they are dealt: each recording is taken once, by whoever is free."""

import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.pipelines import work_queue
from emobeam.pipelines.work_queue import BATCH_BYTES, BATCH_SIZE, DEALT_AT_ONCE, WorkQueue
from emobeam.storage import ListedFile

#: No worker of these tests waits so long for another.
_NEVER_S = 600.0


def recordings(count, first=0, size_bytes=None):
    return [ListedFile(f"memory://{number}", "recording", size_bytes) for number in range(first, first + count)]


def drain(pile):
    taken = []
    while batch := pile.take(_NEVER_S):
        taken.extend(batch)
    return taken


@given(recordings=st.integers(0, 100_000))
def test_handfuls_spare_elements_and_leave_every_worker_some(recordings):
    assert work_queue.batch_size("a run that shares nothing", recordings) == 1
    with work_queue.shared("run"):
        size = work_queue.batch_size("run", recordings)
    assert 1 <= size <= DEALT_AT_ONCE
    assert size * 64 <= max(recordings, 64)
    assert size == DEALT_AT_ONCE or (size + 1) * 64 > recordings


@settings(max_examples=25)
@given(dealt=st.lists(st.integers(0, 200), min_size=1, max_size=4), kept=st.integers(0, 64))
def test_each_recording_is_taken_once(dealt, kept):
    pile = WorkQueue(kept)
    taken, lock = [], threading.Lock()

    def work(found):
        pile.begin()
        mine = []
        for one in found:
            pile.put(one)
            mine += pile.surplus()
        pile.end()
        mine += drain(pile)
        with lock:
            taken.extend(mine)

    threads = [threading.Thread(target=work, args=(recordings(n, 1000 * i),)) for i, n in enumerate(dealt)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [found.uri for i, n in enumerate(dealt) for found in recordings(n, 1000 * i)]
    assert sorted(found.uri for found in taken) == sorted(expected)


def test_who_is_free_takes_what_a_slow_worker_was_dealt():
    pile = WorkQueue(kept=1024)
    for found in recordings(100):
        pile.put(found)
    pile.begin()
    pile.begin()
    pile.end()
    pile.end()
    slow = pile.take(_NEVER_S)
    assert 0 < len(slow) < BATCH_SIZE
    assert len(drain(pile)) == 100 - len(slow)  # while the slow one is still at its first batch


def test_batches_grow_small_towards_the_end():
    pile = WorkQueue(kept=1024)
    pile.begin()
    pile.begin()
    for found in recordings(1_000):
        pile.put(found)
    pile.end()
    pile.end()
    sizes = []
    while batch := pile.take(_NEVER_S):
        sizes.append(len(batch))
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (BATCH_SIZE, 1)


def test_a_worker_waits_only_as_long_as_another_is_dealt_recordings():
    pile = WorkQueue(kept=1024)
    pile.begin()
    assert pile.take(0.01) is None
    pile.end()
    assert pile.take(_NEVER_S) == []


def test_alone_a_worker_keeps_nothing_back():
    pile = work_queue.of("a run that shares nothing")
    assert pile is not work_queue.of("a run that shares nothing")
    pile.begin()
    taken = []
    for found in recordings(100):
        pile.put(found)
        taken += pile.surplus()
    assert len(taken) == BATCH_SIZE
    pile.end()
    assert len(drain(pile)) == 100 - BATCH_SIZE


def test_long_recordings_go_a_few_at_a_time():
    long = recordings(30, size_bytes=BATCH_BYTES // 3)
    alone, shared = WorkQueue(), WorkQueue(kept=1024)
    for pile in (alone, shared):
        pile.begin()
    sizes = []
    for found in long:
        alone.put(found)
        sizes.append(len(alone.surplus()))
        shared.put(found)
        assert shared.surplus() == []
    assert sizes == [0, 0, 0, 4] * 7 + [0, 0]
    shared.end()
    # A fourth of what waits, or as many as are heavy enough, whichever is less.
    assert [len(shared.take(_NEVER_S)) for _ in range(7)] == [4, 4, 4, 4, 3, 2, 2]


def test_workers_of_one_run_share_one_pile_as_long_as_it_lasts():
    with work_queue.shared("run"):
        assert work_queue.of("run") is work_queue.of("run")
        assert work_queue.of("run") is not work_queue.of("another")
    assert work_queue.of("run") is not work_queue.of("run")
