#!/usr/bin/env bash
# A run's directory in other hands: not to be read, copied, with blanks in its name, without its checkpoints, with another
# run's files in it, and with another run at its addresses. What is said is the cause, and what is advised works.
source "$(dirname "$0")/lib.sh"
small+=(--set data.limit=512 --no-redis --workers 1)
says() { grep -qF -- "$1" "$work/err"; }
prints() { grep -qF -- "$1" "$work/out"; }

# names that are places or options
cd "$work" || exit 1
for name in . .. -x 'a/b' 'a b' "it's" '%s'; do
    check "--run '$name' is refused" exits 2 "$decant" train --run "$name" "${small[@]}" --set run.steps=3
    check "run.name = '$name' is refused" exits 2 "$decant" train --set "run.name=$name" "${small[@]}" --set run.steps=3
done
for command in "train --run --no-redis" "train --out --resume" "eval --checkpoint --json" "status --run -n" "export --out=--force" \
    "verify --step --json" "top --out --once" "prototypes --sort --json" "doctor --config --json" "health --timeout --json" \
    "keygen --out --list" "stop --out --now" "dataset check . --config --json"; do
    # shellcheck disable=SC2086
    check "$command: the value is missing" exits 2 "$decant" $command
    check "$command: and that is said" says "lacks its value"
done
check "nothing was made" test "$(ls "$work")" = "$(printf '%s\n' check.log err out)"

# blanks
check "a run" exits 0 "$decant" train --run e2e --out "$work/a run" --no-eval "${small[@]}" --set run.steps=40 --set run.checkpoint_every=20
"$decant" train --run e2e --out "$work/it's mine" --no-eval "${small[@]}" --set run.steps=1000000 >"$work/hint" 2>&1 &
launcher=$!
check "another trains" wait_step "it's mine" 5
interrupt $launcher
pasted() { # the printed command goes on where the run stopped
    local command
    command=$(sed -n 's/^stopped; go on with: decant //p' "$work/hint")
    bash -c "exec '$decant' $command --no-redis --no-eval --set run.log_every=1" >"$work/hint2" 2>&1 &
    local pid=$!
    for _ in $(seq 900); do grep -q 'resuming from step' "$work/hint2" && break || sleep 0.1; done
    interrupt $pid
    [ $? -eq 130 ] && grep -q 'resuming from step [1-9]' "$work/hint2"
}
check "the command that it prints can be pasted" pasted

# another user's eyes
if [ "$(id -u)" = 0 ]; then
    cp -r "$work/a run" "$work/closed"
    chmod 755 "$work"
    chmod 700 "$work/closed"
    other() { exits "$1" setpriv --reuid 65534 --regid 65534 --clear-groups "$decant" "${@:2}"; }
    for command in "status --out $work/closed" "eval --checkpoint $work/closed" "export --checkpoint $work/closed --out $work/x.npz" \
        "top --once --out $work/closed" "verify $work/closed" "prototypes --out $work/closed" "resume $work/closed" \
        "train --out $work/closed --resume" "train --out $work/closed" "stop --out $work/closed"; do
        # shellcheck disable=SC2086
        check "${command%% *}: of a directory that may not be read" other 1 $command
        check "${command%% *}: says so" grep -q 'Permission denied' "$work/err"
    done
    check "doctor: of a directory that may not be read" other 1 doctor --set "run.out=$work/closed" --set data.limit=512
    check "doctor: says so" grep -q 'Permission denied' "$work/out"
fi

# copies
"$decant" train --run e2e --out "$work/original" --no-eval "${small[@]}" --set run.steps=1000000 --set run.checkpoint_every=10 >"$work/log" 2>&1 &
launcher=$!
check "the original trains" wait_step original 12
cp -r "$work/original" "$work/copy"
copied=$(last_step copy)
"$decant" resume "$work/copy" --no-redis --no-eval >"$work/copy.log" 2>&1 &
copy=$!
check "its copy trains beside it" wait_step copy $((copied + 20))
check "and speaks of nobody's processes" bash -c "! grep -qE 'still at work|kill [0-9]' '$work/copy.log'"
interrupt $launcher
interrupt $copy

if command -v redis-server >/dev/null; then
    small=("${small[@]/--no-redis/--set=run.log_every=1}")
    "$decant" train --run e2e --out "$work/live" --no-eval "${small[@]}" --set run.steps=1000000 --set run.checkpoint_every=10 >"$work/log" 2>&1 &
    launcher=$!
    check "a run with a mirror trains" wait_step live 12
    live() { for _ in $(seq 100); do "$decant" status --out "$work/live" 2>/dev/null | grep -q 'Redis at' && return || sleep 0.1; done; return 1; }
    check "its status is live" live
    cp -r "$work/live" "$work/frozen"
    check "status of a copy" exits 0 "$decant" status --out "$work/frozen"
    check "is from the copy's checkpoint" prints "$work/frozen/checkpoints/step-"
    interrupt $launcher
    small+=(--no-redis)
fi

# checkpoints that are gone
lost() { # lost COMMAND...: after it, neither resume nor train --resume begins again without a word
    rm -rf "$work/lost" && cp -r "$work/a run" "$work/lost" && "$@" || return 1
    exits 1 timeout 60 "$decant" resume "$work/lost" --no-redis --no-eval && exits 1 timeout 60 "$decant" train --out "$work/lost" --resume --no-redis --no-eval
}
check "without checkpoints/ a resume is refused" lost rm -r "$work/lost/checkpoints"
check "it says what to do" says "--from-start"
check "--from-start begins again" exits 0 timeout 120 "$decant" resume "$work/lost" --no-redis --no-eval --from-start
check "to the same bytes" exits 0 "$decant" verify "$work/lost" "$work/a run"
check "with empty steps a resume is refused" lost bash -c "rm '$work/lost'/checkpoints/step-*/*"
replaced() { rm -r "$work/lost/checkpoints" && echo x >"$work/lost/checkpoints"; }
check "with a file in place of checkpoints/ a resume is refused" lost replaced
check "it says so" says "Not a directory"
check "a run that never came to a checkpoint begins" bash -c "mkdir -p '$work/young/logs' && cp '$work/a run/config.ini' '$work/young' && timeout 120 '$decant' resume '$work/young' --no-redis --no-eval 2>'$work/err'"
check "and says that it begins" says "has no checkpoint to resume from: starting from the beginning"

# another run's files
check "a run of another name" exits 0 "$decant" train --run other --out "$work/other" --no-eval "${small[@]}" --set run.steps=40
cp -r "$work/a run" "$work/mixed"
cp "$work/other/checkpoints/step-000040/mixture.safetensors" "$work/mixed/checkpoints/step-000040/"
for command in "eval --checkpoint" "status --out" "prototypes --out" "verify" "verify $work/mixed"; do
    # shellcheck disable=SC2086
    check "$command: another run's mixture" exits 1 "$decant" $command "$work/mixed"
    check "$command: is told apart" grep -qF "run 'other', the encoder beside it to run 'e2e'" "$work/err" "$work/out"
done
rm -r "$work/mixed/checkpoints/step-000040"
cp -r "$work/other/checkpoints/step-000040" "$work/mixed/checkpoints/"
check "status: another run's step" exits 1 "$decant" status --out "$work/mixed"
check "status: is told apart" says "belongs to run 'other', its directory to run 'e2e'"
check "verify: another run's step" exits 1 "$decant" verify "$work/mixed"
check "export: another run's step" exits 1 "$decant" export --checkpoint "$work/mixed" --out "$work/y.npz"
cp -r "$work/a run" "$work/moved"
cp "$work/moved/checkpoints/step-000020/encoder.safetensors" "$work/moved/checkpoints/step-000040/"
check "eval: another step's encoder" exits 1 "$decant" eval --checkpoint "$work/moved"
check "is told apart" says "says step 20, its directory 40"

# another run's addresses
ends=(--set net.parameter=tcp://127.0.0.1:26701 --set net.parameter_publish=tcp://127.0.0.1:26702
    --set net.prototype=tcp://127.0.0.1:26711 --set net.prototype_publish=tcp://127.0.0.1:26712)
"$decant" train --run first --out "$work/first" --no-eval "${small[@]}" "${ends[@]}" --set run.steps=1000000 >"$work/first.log" 2>&1 &
launcher=$!
check "the first one trains" wait_step first 5
check "a second one at its addresses is refused" exits 1 timeout 60 "$decant" train --run first --out "$work/second" "${small[@]}" "${ends[@]}" --set run.steps=3
check "with the cause" says "net.parameter = tcp://127.0.0.1:26701: Address already in use"
check "and shows nothing of the first" bash -c "! grep -q 'step [0-9]' '$work/err'"
check "the first one trains on" wait_step first 40
interrupt $launcher
finish
