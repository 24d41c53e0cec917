#!/usr/bin/env bash
# Ctrl-C loses nothing: an interrupted run exits with 130, and resumed it ends with the bytes of one that was never interrupted.
# A process that is killed outright is started again; it costs the steps since the last checkpoint, and nothing else.
source "$(dirname "$0")/lib.sh"
both=(encoder.safetensors mixture.safetensors)
# k-means++ gathers until step 200, so that most of what is stopped and killed here is in the middle of it.
steps=(--no-redis --set run.steps=400 --set mixture.init=kmeans++ --set mixture.init_embeddings=12800)

check "uninterrupted" train whole "${steps[@]}"
check "prototypes began at embeddings" grep -q "event=seeded step=200 components=256 of=256 embeddings=12800" "$work/whole/logs/prototype.log"

"${train_command[@]}" --out "$work/halves" "${steps[@]}" >"$work/halves.log" 2>&1 &
launcher=$!
check "it trains" wait_step halves 12
check "a second start in that directory is refused" exits 1 "${train_command[@]}" --out "$work/halves" "${steps[@]}" --resume
check "it names the process" grep -q "held by .*:$launcher; only one" "$work/err"
interrupt $launcher
code=$?
check "Ctrl-C exits with 130" test $code -eq 130
stopped=$(cat "$work/halves/checkpoints/latest")
check "it stopped in between, with a checkpoint: $stopped" test "$stopped" \< step-000400
for file in "${both[@]}"; do check "both servers wrote that step: $file" test -s "$work/halves/checkpoints/$stopped/$file"; done
check "no process list is left" test ! -e "$work/halves/pids"
check "without --resume it refuses" exits 1 "${train_command[@]}" --out "$work/halves" "${steps[@]}"
check "and says what to do" grep -q -- --resume "$work/err"
check "another name is refused" exits 1 "$decant" train --run other --out "$work/halves" --resume
check "and the configuration was left alone" grep -q "name = e2e" "$work/halves/config.ini"
check "another configuration is refused" exits 1 "${train_command[@]}" --out "$work/halves" "${steps[@]}" --resume --set run.seed=9
check "and the key named" grep -q run.seed "$work/err"
check "resumed with its own configuration" exits 0 "$decant" train --out "$work/halves" --resume --no-eval --no-redis
check "same bytes as uninterrupted" same whole halves 000400 "${both[@]}"

# The parameter server of a run that is over stays until a worker that does not know yet has come and heard it.
endpoints=(--set "net.parameter=ipc://$work/p" --set "net.parameter_publish=ipc://$work/pp" --set "net.prototype=ipc://$work/q" --set "net.prototype_publish=ipc://$work/qp")
"$BUILD/bin/decant-parameter" --config "$work/whole/config.ini" --resume "${endpoints[@]}" >"$work/over.log" 2>&1 &
over=$!
sleep 4 # longer than it waits for workers after the last step of a run (PARAMETER_FAREWELL_MS)
check "over: the server waits for somebody to tell" kill -0 $over
check "over: a late worker is told, and leaves" exits 0 timeout 30 "$BUILD/bin/decant-worker" --config "$work/whole/config.ini" "${endpoints[@]}"
check "over: it computed nothing" grep -q 'event=end slots_done=0' "$work/err"
gone() { for _ in $(seq 200); do kill -0 "$1" 2>/dev/null || return 0; sleep 0.1; done; return 1; }
check "over: then the server leaves too" gone $over
ended $over
check "over: with success" test $? -eq 0
check "over: decant train --resume does not wait that long" exits 0 timeout 25 "$decant" train --out "$work/whole" --resume --no-eval --no-redis
check "over: it does not claim to have trained" bash -c "grep -q 'there was nothing left to train' '$work/out' && ! grep -q 'trained in' '$work/out'"

for victim in parameter prototype; do
    "${train_command[@]}" --out "$work/$victim" "${steps[@]}" --set run.checkpoint_every=10 >"$work/$victim.log" 2>&1 &
    launcher=$!
    check "$victim: it trains" wait_step $victim 25
    kill -KILL "$(awk -v name=$victim '$1 == name {print $2}' "$work/$victim/pids")"
    ended $launcher
    code=$?
    check "killed $victim server: the run goes on to its end" test $code -eq 0
    check "it was reported, with the log" grep -q "decant-$victim ended (signal 9.*logs/$victim.log" "$work/$victim.log"
    check "same bytes as uninterrupted" same whole $victim 000400 "${both[@]}"
    check "old checkpoints are gone, three are left" test "$(ls -d "$work/$victim"/checkpoints/step-* | wc -l)" -eq 3
done

"${train_command[@]}" --out "$work/worker" "${steps[@]}" >"$work/worker.log" 2>&1 &
launcher=$!
check "worker: it trains" wait_step worker 12
kill -KILL "$(awk '$1 == "worker-1" {print $2}' "$work/worker/pids")"
ended $launcher
code=$?
check "killed worker: the run goes on to its end" test $code -eq 0
check "it was reported" grep -q "worker-1 ended (signal 9" "$work/worker.log"
check "same bytes" same whole worker 000400 "${both[@]}"

# A launcher that is killed outright takes its processes with it, and the next one waits until they are gone.
"${train_command[@]}" --out "$work/orphans" "${steps[@]}" --set run.checkpoint_every=10 >"$work/orphans.log" 2>&1 &
launcher=$!
check "orphans: it trains" wait_step orphans 12
mapfile -t orphans < <(awk '$1 != "launcher" {print $2}' "$work/orphans/pids")
kill -KILL $launcher
ended $launcher
check "resumed at once" exits 0 "$decant" train --out "$work/orphans" --resume --no-eval --no-redis
none_left() { for p in "${orphans[@]}"; do [ ! -e "/proc/$p" ] || return 1; done; }
check "nothing was left" none_left
check "it went on, and did not begin again" grep -qE 'resuming from step [1-9]' "$work/err"
check "same bytes" same whole orphans 000400 "${both[@]}"
finish
