# Shared by the end-to-end scripts: a scratch directory, a run that takes seconds, and counting.
#   source tests/e2e/lib.sh; check "name" COMMAND...; finish
set -u
BUILD=$(realpath "${BUILD:-build}")
decant=$BUILD/bin/decant
PYTHON=${PYTHON:-/usr/bin/python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/decant-e2e-XXXXXX")
passed=0
failed=0

# at_work PID: whether that job of ours is; bash knows, where the kernel may have given the number to another process since.
at_work() { jobs -rp | grep -qx "$1"; }

# ended PID [SECONDS]: waits until that job of ours is over, two minutes at most, and returns its exit code. One that stays is
# named with its children, killed and counted as a failure: a script that waits for ever stops everything after it.
ended() {
    local p pid=$1 tenths=$((${2:-120} * 10))
    while at_work "$pid" && [ $((tenths -= 1)) -ge 0 ]; do sleep 0.1; done
    if at_work "$pid"; then
        failed=$((failed + 1))
        echo "FAIL  $pid did not end in ${2:-120} s:"
        for p in $pid $(cat "/proc/$pid/task/$pid/children"); do
            echo "      $p waits in $(cat "/proc/$p/wchan"): $(tr '\0' ' ' <"/proc/$p/cmdline")"
        done
        kill -KILL "$pid"
    fi
    wait "$pid" 2>/dev/null
}

# interrupt PID: Ctrl-C for that job of ours, which must be listening by now: bash starts jobs with SIGINT ignored, so that an
# earlier one is lost. Returns the exit code.
interrupt() {
    kill -INT "$1"
    ended "$1"
}

# Ends what a script left running (launchers stop their children), then removes the scratch directory. What does not end fails it.
cleanup() {
    local before=$failed pid
    for pid in $(jobs -p); do kill "$pid" 2>/dev/null; done
    for pid in $(jobs -p); do ended "$pid" 30; done
    rm -rf "$work"
    [ "$failed" -eq "$before" ] || exit 1
}
trap cleanup EXIT

# Whatever the caller's shell exports must not reach the runs.
for name in $(compgen -e | grep '^DECANT_' || true); do unset "$name"; done

small=(--set mixture.components=256 --set mixture.dimensions=32 --set head.hidden=64 --set data.limit=4096
    --set run.slots=4 --set run.slot_size=16 --set encoder.widths=8,16,32,64 --set run.log_every=1)

check() {
    local name=$1
    shift
    if "$@" >"$work/check.log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name (exit $?): $*"
        sed 's/^/      /' "$work/check.log" | tail -n 30
    fi
}

# exits CODE COMMAND...: the command ends with that code; its output is left in $work/out and $work/err.
exits() {
    local wanted=$1 code
    shift
    "$@" >"$work/out" 2>"$work/err" </dev/null
    code=$?
    [ "$code" -eq "$wanted" ] || {
        echo "exit $code, expected $wanted"
        cat "$work/out" "$work/err"
        return 1
    }
}

# train DIR ARGUMENT...: a small run into $work/DIR, to its end.
train() {
    local out=$work/$1
    shift
    exits 0 timeout 120 "$decant" train --run e2e --out "$out" --no-eval "${small[@]}" "$@"
}

# train_to_file LOG DIR ARGUMENT...: the same in the background would lose the pid in a function; callers start it themselves
# with: "${train_command[@]}" --out ... &
train_command=("$decant" train --run e2e --no-eval "${small[@]}")

# same A B STEP FILE...: these files of that step are byte for byte the same in both runs.
same() {
    local a=$work/$1/checkpoints/step-$3 b=$work/$2/checkpoints/step-$3
    shift 3
    for file in "$@"; do cmp "$a/$file" "$b/$file" || return 1; done
}

# last_step DIR: the newest step that the run has reported.
last_step() { tail -n 1 "$work/$1/metrics-parameter.jsonl" 2>/dev/null | grep -oE '"step":[0-9]+' | cut -d: -f2; }

# wait_step DIR STEP: until the run has reported that many steps; at most a minute.
wait_step() {
    for _ in $(seq 600); do
        [ "$(last_step "$1")" -ge "$2" ] 2>/dev/null && return 0
        sleep 0.1
    done
    echo "no step $2 within a minute"
    return 1
}

finish() {
    echo "$passed passed, $failed failed"
    [ "$failed" -eq 0 ]
    exit
}
