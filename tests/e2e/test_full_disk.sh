#!/usr/bin/env bash
# A disk that is full when a checkpoint is due: it is said with figures, training goes on, nothing is computed again, and the
# checkpoint is written when there is space; one that is still full at the end holds the run until space comes or somebody
# gives up. Needs root, for a file system of its own.
source "$(dirname "$0")/lib.sh"
if [ "$(id -u)" -ne 0 ] || ! mkdir "$work/small" || ! mount -t tmpfs -o size=24m tmpfs "$work/small" 2>/dev/null; then
    echo "skip  no file system of a few megabytes can be mounted here"
    check "the scratch directory is there" test -d "$work"
    echo "$passed passed, $failed failed, 1 skipped"
    exit $((failed > 0))
fi
trap 'umount -l "$work/small"; cleanup' EXIT
steps=(--set run.steps=400 --set run.checkpoint_every=100 --set run.checkpoint_keep=1)
log() { cat "$work/small/run/logs/parameter.log" "$work/small/run/logs/prototype.log"; }
fill() { head -c 64M /dev/zero >"$work/small/filler" 2>/dev/null; true; }
until_log() { for _ in $(seq 600); do log 2>/dev/null | grep -q "$1" && return 0; sleep 0.1; done; return 1; }

check "a run with space" train whole --no-redis "${steps[@]}"

"${train_command[@]}" --out "$work/small/run" --no-redis "${steps[@]}" >"$work/on.log" 2>&1 &
launcher=$!
check "it trains" until_log 'event=checkpoint step=100'
fill
check "a full disk is said" until_log 'event=checkpoint_failed'
check "with what is needed and what is there" bash -c "grep -h event=checkpoint_failed '$work'/small/run/logs/*.log | grep -q 'needed_bytes=[1-9][0-9]* free_bytes='"
check "at the end the last checkpoint waits in memory" until_log 'event=checkpoint_failed step=400'
check "the run is not over" kill -0 $launcher
rm "$work/small/filler"
ended $launcher
code=$?
check "with space it ends well" test $code -eq 0
check "nothing was computed again" bash -c "! grep -qh 'event=rewound' '$work'/small/run/logs/*.log"
for file in encoder mixture; do
    check "same bytes: $file" cmp "$work/whole/checkpoints/step-000400/$file.safetensors" "$work/small/run/checkpoints/step-000400/$file.safetensors"
done
finish
