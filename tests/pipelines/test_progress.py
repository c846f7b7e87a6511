"""The line of progress."""

from emobeam.pipelines.progress import Progress, format_line


def test_the_progress_line_shows_files_rate_and_failures():
    progress = Progress()
    progress.expect(2000)
    for index in range(500):
        progress.count(failed=index < 3)
    progress.watch(lambda: 7200.0)
    assert format_line(progress, 10.0) == "500 of 2,000 files (25 %)  50.0 files/s  720 times real time  3 failed"
