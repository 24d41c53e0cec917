#!/usr/bin/env bash
# Whatever ends the launcher, and however: nothing is left at work, nothing is lost, and what it says is true.
source "$(dirname "$0")/lib.sh"
small+=(--set data.limit=512 --set run.steps=1000000 --set run.checkpoint_every=20)
endless=("$decant" train --run e2e --no-eval --workers 1 "${small[@]}")
says() { grep -qF -- "$1" "$work/err"; }
prints() { grep -qF -- "$1" "$work/out"; }
logged() { grep -qF -- "$2" "$work/$1/logs/launcher.log"; }
dead() { for _ in $(seq 400); do [ -e "/proc/$1" ] || return 0; sleep 0.1; done; echo "$1 is alive: $(tr '\0' ' ' <"/proc/$1/cmdline")"; return 1; }
gone() { for p in "$@"; do dead "$p" || return 1; done; }
children() { awk '$1 != "launcher" {print $2}' "$work/$1/pids"; }
launcher_of() { awk '$1 == "launcher" {print $2}' "$work/$1/pids"; }
checkpointed() { [ -s "$work/$1/checkpoints/latest" ]; }
until_says() { for _ in $(seq 300); do grep -qsF -- "$2" "$1" && return || sleep 0.1; done; return 1; }

# begin DIR OPTION...: a run that works, as $launcher, with its children as ${kids[@]}.
begin() {
    local dir=$1
    shift
    "${endless[@]}" --out "$work/$dir" "$@" >"$work/$dir.log" 2>&1 &
    launcher=$!
    check "$dir: it trains" wait_step "$dir" 25
    mapfile -t kids < <(children "$dir")
}
ends_with() { # ends_with CODE: the launcher does, and nothing outlives it
    ended "$launcher"
    local code=$?
    [ "$code" -eq "$1" ] || { echo "exit $code, expected $1" && return 1; }
    for p in "${kids[@]}"; do [ ! -e "/proc/$p" ] || { echo "$p is alive" && return 1; }; done
}

begin killed # with a private Redis, if there is one
redis=$(awk '$1 == "redis" {print $2}' "$work/killed/pids")
unlisted() { for _ in $(seq 100); do grep -q '^redis ' "$work/killed/pids" || return 0; sleep 0.1; done; return 1; }
[ -z "$redis" ] || { kill -KILL "$redis" && check "a Redis that died is not listed any more" unlisted; }
kill -KILL "$launcher"
ended "$launcher"
check "killed outright: its processes end by themselves" gone "${kids[@]}"
check "killed outright: the run goes on from its checkpoints" exits 130 timeout --preserve-status -s INT 6 "$decant" resume "$work/killed" --no-eval
check "from a step that it had reached" grep -q "event=resumed step=[1-9]" "$work/killed/logs/parameter.log"

begin aborted --no-redis
kill -ABRT "$launcher"
ended "$launcher"
check "aborted: its processes end by themselves" gone "${kids[@]}"

for signal in USR1 HUP; do
    begin "stopped-$signal" --no-redis
    kill "-$signal" "$launcher"
    check "SIG$signal: stops in order" ends_with 130
    check "SIG$signal: with a checkpoint" checkpointed "stopped-$signal"
    check "SIG$signal: the step in progress was waited for" bash -c "! grep -q 'at once:' '$work/stopped-$signal.log'"
done

early() { # Ctrl-C in the first moments, when nobody listens yet
    "${endless[@]}" --out "$work/early$1" --no-redis >"$work/early.log" 2>&1 &
    launcher=$!
    for _ in $(seq 1000); do [ -s "$work/early$1/pids" ] && break || sleep 0.01; done
    mapfile -t kids < <(children "early$1")
    kill -INT "$launcher"
    ends_with 130
}
for i in 1 2 3; do check "Ctrl-C in the first moments" early "$i"; done

begin quit --no-redis
kill -QUIT "$launcher"
check "SIGQUIT: stops at once" ends_with 130
check "SIGQUIT: and says what that costs" grep -q 'stopping at once: every process is killed; the newest checkpoint is of step .* computed again by: decant resume' "$work/quit.log"

begin twice --no-redis
kill -STOP "$(awk '$1 == "worker-1" {print $2}' "$work/twice/pids")" # so that the step in progress takes its time
kill -INT "$launcher"
check "the first Ctrl-C waits" until_says "$work/twice.log" "(Ctrl-C once more: at once, without)"
kill -INT "$launcher"
check "the second does not" ends_with 130
check "and says so" grep -q 'stopping at once' "$work/twice.log"
check "nothing is said to be late" bash -c "! grep -q 'did not stop' '$work/twice.log'"

# nohup, and a terminal that is closed
nohup "${endless[@]}" --out "$work/nohup" --no-redis >"$work/nohup.log" 2>&1 &
launcher=$!
check "nohup: it trains" wait_step nohup 5
kill -HUP "$launcher"
check "nohup: it trains on after SIGHUP" wait_step nohup 40
kill -TERM "$launcher"
kids=()
check "nohup: SIGTERM still stops it" ends_with 130

# a reader that goes away
reader() { # reader DIR COMMAND...: the exit code of a run whose messages that command reads
    local dir=$1
    shift
    { "${endless[@]}" --out "$work/$dir" --no-redis 2>&1; echo $? >"$work/$dir.code"; } | "$@"
    [ "$(cat "$work/$dir.code")" -eq 130 ] && [ ! -e "$work/$dir/pids" ]
}
check "| head: stops in order" reader head head -n 1
check "| head: the log says why" logged head "nobody reads this any more: stopping"
(trap '' HUP; "${endless[@]}" --out "$work/unread" --no-redis 2>&1 | head -n 1 >"$work/out") &
check "nohup | head: it trains on" wait_step unread 60
check "nohup | head: the log says so" logged unread "so the run goes on"
kill -TERM "$(launcher_of unread)"
ended $!

tee() { # Ctrl-C goes to the whole pipeline, and tee is the first to end
    "$PYTHON" - "$work" "${endless[@]}" --out "$work/tee" --no-redis <<'END'
import os, shlex, signal, subprocess, sys, time
work, command = sys.argv[1], " ".join(map(shlex.quote, sys.argv[2:]))
script = f"{command} 2>&1 | tee {shlex.quote(work)}/tee.log; echo ${{PIPESTATUS[0]}} > {shlex.quote(work)}/tee.code"
p = subprocess.Popen(["bash", "-c", f"trap : INT; {script}"], start_new_session=True,
                     preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
until = time.time() + 60
while time.time() < until and not os.path.exists(f"{work}/tee/checkpoints/latest"):
    time.sleep(0.1)
pids = [int(line.split()[1]) for line in open(f"{work}/tee/pids")]
os.killpg(p.pid, signal.SIGINT)
p.wait(60)
assert open(f"{work}/tee.code").read().strip() == "130"
assert not any(os.path.exists(f"/proc/{pid}") for pid in pids), pids
END
}
check "| tee and Ctrl-C: stops in order" tee

# a caller that has closed what others print to
check "without stdin, stdout and stderr" bash -c "'$decant' train --run e2e --out '$work/mute' --no-redis --no-eval ${small[*]} --set run.steps=10 <&- >&- 2>&-"
check "without them: sound" exits 0 "$decant" verify "$work/mute"
check "without them: the log has it" test -s "$work/mute/logs/parameter.log"

# one process told to end: that is not the end of the run
begin server --no-redis
kill -TERM "$(awk '$1 == "worker-1" {print $2}' "$work/server/pids")"
check "SIGTERM to a worker alone: it is started again" until_says "$work/server.log" "decant-worker-1 ended in order (see $work/server/logs/worker-1.log), but the run is not over: starting it again"
kill -TERM "$(awk '$1 == "parameter" {print $2}' "$work/server/pids")"
check "SIGTERM to the parameter server alone is no success" ends_with 1
check "it says so" grep -q 'decant-parameter was stopped from outside, before the run was over' "$work/server.log"
check "and what to do" grep -qF "Go on with: decant resume $work/server" "$work/server.log"
check "nothing was evaluated" bash -c "! grep -q 'trained in' '$work/server.log'"

# in the background
check "detach" exits 0 "${endless[@]}" --out "$work/back ground" --no-redis --detach
check "it says how to watch" prints "decant top --out '$work/back ground'"
check "and how to stop" prints "decant stop --out '$work/back ground'"
check "it trains" wait_step "back ground" 5
mapfile -t kids < <(children "back ground")
cp -r "$work/back ground" "$work/copy"
check "stop: a copy has nobody at work" exits 0 "$decant" stop --out "$work/copy"
check "it says so" prints "nothing is at work in $work/copy"
check "stop: no time to wait" exits 1 "$decant" stop --out "$work/back ground" --timeout 0
check "stop again" exits 0 "$decant" stop --out "$work/back ground"
check "twice is no hurry" bash -c "! grep -q 'at once:' '$work/back ground/logs/launcher.log'"
check "it names the checkpoint" grep -qE "with a checkpoint of step [0-9]+; go on with: decant resume '$work/back ground'|nothing is at work" "$work/out"
check "nothing is left" gone "${kids[@]}"
check "its messages are in the log" logged "back ground" "stopping: the step in progress"
check "stop: again, by name" bash -c "mkdir '$work/here' && cd '$work/here' && mkdir runs && mv '$work/back ground' runs/named && '$decant' stop named"
check "stop --now" bash -c "'$decant' train --run e2e --out '$work/now' --no-redis --detach ${small[*]} && '$decant' stop --now --out '$work/now'"
check "stop: no run there" exits 1 "$decant" stop --out "$work/absent"
check "stop: nothing named" exits 2 "$decant" stop
check "detach: what cannot start is said" exits 2 "${endless[@]}" --out "$work/never" --detach --set run.slots=0
check "and the terminal hears why" says run.slots
check "detach: what only a worker would find, too" exits 2 "${endless[@]}" --out "$work/never" --detach --set encoder.groups=7
check "and it names the key" says "encoder.groups = 7"
check "detach: no such configuration" exits 2 "${endless[@]}" --out "$work/never" --detach --config "$work/absent.ini"
check "detach: a limit that is too low" exits 2 bash -c 'ulimit -n 100; "$@"' - "${endless[@]}" --out "$work/never" --detach
check "and it is named" says "the limit of open files (ulimit -n) is 100"
check "nothing was started for any" test ! -e "$work/never/logs"
check "a worker that cannot connect says so" bash -c "'$BUILD/bin/decant-worker' --set net.parameter=tcp://lo:5701 2>'$work/err'; [ \$? -eq 2 ]"
check "with the key" says "net.parameter = tcp://lo:5701: an interface"
check "and for all addresses" bash -c "'$BUILD/bin/decant-worker' --set net.prototype=tcp://*:5701 2>'$work/err'; [ \$? -eq 2 ]"
check "with the key, too" says "net.prototype = tcp://*:5701: all addresses of a server"
check "detach: beside a run" bash -c "'$decant' train --run e2e --out '$work/two' --no-redis --detach ${small[*]} && ! '$decant' train --run e2e --out '$work/two' --resume --no-redis --detach 2>'$work/err'; '$decant' stop --out '$work/two'"
check "it says how to stop that one" says "decant stop --out $work/two"
finish
