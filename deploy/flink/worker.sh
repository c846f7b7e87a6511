#!/usr/bin/env bash
# A TaskManager starts and stops this: Beam's boot program, which starts Python. After a TaskManager was killed, boot
# would start workers for minutes that no process serves. The loop below ends boot when its TaskManager is gone.
boot=$$
manager=$PPID
(
    while kill -0 $manager; do
        kill -0 $boot || exit
        sleep 1
    done
    kill $boot # it ends Python too, by force after five seconds
) >/dev/null 2>&1 &

export RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 # use this environment, which has emobeam, for all workers
exec beam-boot "$@" --semi_persist_dir="$(mktemp -d)" # a separate folder: two workers would share /tmp/staged
