"""The line of progress."""

from emobeam.pipelines.progress import Board, line


def test_the_progress_line_shows_files_rate_and_failures():
    board = Board()
    board.expect(2000)
    for index in range(500):
        board.count(failed=index < 3)
    board.watch(lambda: 7200.0)
    assert line(board, 10.0) == "500 of 2,000 files (25 %)  50.0 files/s  720 times real time  3 failed"
