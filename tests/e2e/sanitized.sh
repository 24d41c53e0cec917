#!/usr/bin/env bash
# A short training run with every binary built under a sanitizer, one process of each kind killed on the way: no report, no leak.
#   BUILD=build-asan tests/e2e/sanitized.sh        (or build-tsan)
source "$(dirname "$0")/lib.sh"
export ASAN_OPTIONS=detect_leaks=1:exitcode=99 UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0
export TSAN_OPTIONS=exitcode=99:suppressions=$PWD/tests/tsan.supp
small+=(--set run.slot_size=4 --set mixture.components=64 --set loss.block=32 --set data.limit=512) # sanitizers are slow
train_command=("$decant" train --run e2e --no-eval "${small[@]}")
victim_step=0
reports() { grep -lE 'Sanitizer|runtime error' "$work"/*/logs/*.log "$work"/*.log 2>/dev/null; }
quiet() { ! reports; }

check "two workers with two threads" timeout 300 "$decant" train --run e2e --out "$work/plain" --no-eval "${small[@]}" --set run.steps=12 \
    --set worker.threads=2 --set run.checkpoint_every=10
check "one worker, lag 0, one vision transformer" timeout 300 "$decant" train --run e2e --out "$work/lag" --no-eval --no-redis "${small[@]}" \
    --set run.steps=4 --workers 1 --set mixture.prototype_lag=0 --set encoder.model=vit --set encoder.dim=32 --set encoder.depth=2
"${train_command[@]}" --out "$work/killed" --no-redis --set run.steps=80 --set run.checkpoint_every=10 >"$work/killed.log" 2>&1 &
launcher=$!
for victim in worker-1 prototype parameter; do
    check "it trains; then $victim is killed" wait_step killed $((victim_step += 8))
    kill -KILL "$(awk -v name=$victim '$1 == name {print $2}' "$work/killed/pids")"
    sleep 2
done
ended $launcher 300
code=$?
check "it goes on to its end" test $code -eq 0
check "no report: $(reports | tr '\n' ' ')" quiet
reports | xargs -r grep -hE -A 12 'Sanitizer|runtime error' | head -60
finish
