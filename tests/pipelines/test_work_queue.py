"""The queue that a local run's workers share: each recording is taken once, by the first worker that is free."""

import pickle
import threading

from hypothesis import given, settings
from hypothesis import strategies as st

from emobeam.pipelines.local_run import DEALT_AT_ONCE, LocalRun, local_run
from emobeam.pipelines.work_queue import BATCH_BYTES, BATCH_SIZE, SHARED_RESERVE, WorkQueue
from emobeam.storage import ListedFile

#: No worker of these tests waits so long for another.
_NEVER_S = 60.0


def recordings(count, first=0, size_bytes=None):
    return [ListedFile(f"memory://{number}", "recording", size_bytes) for number in range(first, first + count)]


def drain(queue):
    taken = []
    while batch := queue.take(_NEVER_S):
        taken.extend(batch)
    return taken


@given(recordings=st.integers(0, 100_000))
def test_batches_spare_elements_and_leave_every_worker_some(recordings):
    size = LocalRun("run", is_local=True).batch_size(recordings)
    assert 1 <= size <= DEALT_AT_ONCE
    assert size * 64 <= max(recordings, 64)
    assert size == DEALT_AT_ONCE or (size + 1) * 64 > recordings


@settings(max_examples=25)
@given(dealt=st.lists(st.integers(0, 200), min_size=1, max_size=4), kept=st.integers(0, 64))
def test_each_recording_is_taken_once(dealt, kept):
    queue = WorkQueue(kept)
    taken, lock = [], threading.Lock()

    def work(file):
        queue.begin()
        mine = []
        for one in file:
            queue.put(one)
            mine += queue.take_surplus()
        queue.end()
        mine += drain(queue)
        with lock:
            taken.extend(mine)

    threads = [threading.Thread(target=work, args=(recordings(n, 1000 * i),)) for i, n in enumerate(dealt)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = [file.uri for i, n in enumerate(dealt) for file in recordings(n, 1000 * i)]
    assert sorted(file.uri for file in taken) == sorted(expected)


def test_a_free_worker_takes_what_a_slow_one_was_dealt():
    queue = WorkQueue(SHARED_RESERVE)
    for file in recordings(100):
        queue.put(file)
    queue.begin()
    queue.begin()
    queue.end()
    queue.end()
    slow = queue.take(_NEVER_S)
    assert 0 < len(slow) < BATCH_SIZE
    assert len(drain(queue)) == 100 - len(slow)  # while the slow one is still at its first batch


def test_batches_grow_small_towards_the_end():
    queue = WorkQueue(SHARED_RESERVE)
    queue.begin()
    queue.begin()
    for file in recordings(1_000):
        queue.put(file)
    queue.end()
    queue.end()
    sizes = []
    while batch := queue.take(_NEVER_S):
        sizes.append(len(batch))
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[-1]) == (BATCH_SIZE, 1)


def test_a_worker_waits_only_as_long_as_another_is_dealt_recordings():
    queue = WorkQueue(SHARED_RESERVE)
    queue.begin()
    assert queue.take(0.01) is None
    queue.end()
    assert queue.take(_NEVER_S) == []


def test_alone_a_worker_keeps_nothing_back():
    run = LocalRun("a run on a cluster", is_local=False)
    queue = run.queue()
    assert queue is not run.queue()
    queue.begin()
    taken = []
    for file in recordings(100):
        queue.put(file)
        taken += queue.take_surplus()
    assert len(taken) == BATCH_SIZE
    queue.end()
    assert len(drain(queue)) == 100 - BATCH_SIZE


def test_long_recordings_go_a_few_at_a_time():
    long = recordings(30, size_bytes=BATCH_BYTES // 3)
    alone, shared = WorkQueue(), WorkQueue(SHARED_RESERVE)
    for queue in (alone, shared):
        queue.begin()
    sizes = []
    for file in long:
        alone.put(file)
        sizes.append(len(alone.take_surplus()))
        shared.put(file)
        assert shared.take_surplus() == []
    assert sizes == [0, 0, 0, 4] * 7 + [0, 0]
    shared.end()
    # A fourth of what waits, or as many as are heavy enough, whichever is less.
    assert [len(shared.take(_NEVER_S)) for _ in range(7)] == [4, 4, 4, 4, 3, 2, 2]


def test_workers_of_one_run_share_one_queue_as_long_as_it_lasts():
    with local_run("run", is_local=True) as run:
        there = pickle.loads(pickle.dumps(run))
        assert there is run
        assert there.queue() is run.queue()
        assert pickle.loads(pickle.dumps(LocalRun("another", is_local=True))).queue() is not run.queue()
    after = pickle.loads(pickle.dumps(run))
    assert after.queue() is not after.queue()


def test_a_closed_queue_gives_nothing_more_and_lets_nobody_wait():
    queue = WorkQueue()
    queue.begin()
    for file in recordings(200):
        queue.put(file)
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(WorkQueue.take(queue, _NEVER_S)))
    queue.close()
    waiting.start()
    waiting.join()
    queue.put(recordings(1)[0])
    assert taken == [[]]
    assert queue.take_surplus() == queue.take(_NEVER_S) == []


@given(sizes=st.lists(st.integers(0, 10**9), max_size=50))
def test_the_largest_are_taken_first_whatever_the_order_of_dealing(sizes):
    queue = WorkQueue()
    queue.begin()
    for number, size in enumerate(sizes):
        queue.put(ListedFile(f"memory://{number}", "recording", size))
    queue.end()
    assert [file.size_bytes for file in drain(queue)] == sorted(sizes, reverse=True)
