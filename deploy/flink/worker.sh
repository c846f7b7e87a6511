#!/usr/bin/env bash
# What a TaskManager starts: Beam's boot program, which starts Python. Ended with the TaskManager, however that ends:
# left alone, boot would go on for minutes to start workers that nobody answers.
export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 # no environment of its own for each worker: emobeam is in this one
manager=$PPID
beam-boot "$@" &
boot=$!
trap 'kill $boot' TERM
while kill -0 $manager 2>/dev/null && kill -0 $boot 2>/dev/null; do
    sleep 1
done
kill $boot 2>/dev/null # it ends Python, by force after five seconds
wait $boot
