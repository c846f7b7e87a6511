"""What a Flex Template's launcher runs: ``emobeam score``, with the template's parameters as its flags."""

import sys

import emobeam
from pipelines.leave import as_process

if __name__ == "__main__":
    as_process(lambda: emobeam.main(["score", *sys.argv[1:]]))
