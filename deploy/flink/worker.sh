#!/usr/bin/env bash
# What a TaskManager starts and stops: Beam's boot program, which starts Python. Left alone by a TaskManager that was
# killed, boot would go on for minutes to start workers that nobody answers: somebody has to look.
boot=$$
manager=$PPID
(
    while kill -0 $manager; do
        kill -0 $boot || exit
        sleep 1
    done
    kill $boot # it ends Python too, by force after five seconds
) >/dev/null 2>&1 &

export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 # no environment of its own for each worker: emobeam is in this one
exec beam-boot "$@" --semi_persist_dir="$(mktemp -d)" # of its own: two that start at once would share /tmp/staged
