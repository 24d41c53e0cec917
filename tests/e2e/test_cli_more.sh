#!/usr/bin/env bash
# The commands around a run: verify, export, resume, doctor, health, top, completion, manual pages.
source "$(dirname "$0")/lib.sh"
json() { "$PYTHON" -c "import json, sys; o = json.load(open(sys.argv[1])); assert $1, o" "$work/out"; }
out_says() { grep -qF -- "$1" "$work/out"; }
err_says() { grep -qF -- "$1" "$work/err"; }

for command in verify top export health doctor; do
    check "$command --help" exits 0 "$decant" $command --help
    check "$command --help opens with an example" bash -c "head -n 1 '$work/out' | grep -q '^example: decant $command'"
    check "$command: unknown option" exits 2 "$decant" $command --hepl
    check "$command suggests the nearest" err_says "did you mean --help?"
done

full() { "$decant" "$@" >/dev/full 2>"$work/err"; [ $? -eq 1 ] && err_says "the output is not complete"; }
check "a full disk under a long output" full config
check "a full disk under a short output" full version
check "a reader that has enough" bash -c "'$decant' config 2>'$work/err' | head -n 1; [ ! -s '$work/err' ]"
check "a run" train a --set run.steps=8 --set run.checkpoint_every=4 --no-redis
check "the same with one worker" train b --set run.steps=8 --set run.checkpoint_every=4 --no-redis --workers 1
check "another seed" train c --set run.steps=8 --set run.seed=2 --no-redis

check "verify: identical" exits 0 "$decant" verify "$work/a" "$work/b" --json
check "the newest step" json 'o["identical"] and o["step"] == [8, 8]'
check "verify: an older step" exits 0 "$decant" verify "$work/a" "$work/b" --step 4
check "verify: different" exits 1 "$decant" verify "$work/a" "$work/c"
check "the key that differs" out_says "run.seed: A 1, B 2"
check "the first tensor that differs" grep -qE 'student\..*\(flat [0-9]+\): A .* ULP' "$work/out"
check "verify: no such step" exits 1 "$decant" verify "$work/a" "$work/b" --step 5
check "verify: nothing to verify" exits 2 "$decant" verify
check "verify one run" exits 0 "$decant" verify "$work/a" --json
check "both checkpoints" json 'o["sound"] and [s["step"] for s in o["steps"]] == [4, 8]'
cp -r "$work/a" "$work/damaged"
printf x | dd of="$work/damaged/checkpoints/step-000008/mixture.safetensors" bs=1 seek=5000 conv=notrunc 2>/dev/null
check "verify: damage in one run" exits 1 "$decant" verify "$work/damaged"
check "it says so" out_says "the file is damaged"
check "verify: damage beside a sound run" exits 1 "$decant" verify "$work/a" "$work/damaged"
check "which side" out_says "damaged in B"

numpy() { "$PYTHON" -c "import numpy as np; o = np.load('$work/$1'); assert $2, {k: o[k].shape for k in o}"; }
check "export: the teacher for numpy" exits 0 "$decant" export --checkpoint "$work/a" --out "$work/teacher.npz"
check "its arrays" numpy teacher.npz "o['conv1.weight'].shape == (8, 9) and o['conv1.weight'].dtype == '<f4' and not any('.weight' in k and k.startswith('m.') for k in o)"
stored() { # the same bits as in the checkpoint
    "$PYTHON" - "$work/a/checkpoints/step-000008/encoder.safetensors" "$work/teacher.npz" <<'END'
import json, sys
import numpy as np
raw = open(sys.argv[1], "rb").read()
n = int.from_bytes(raw[:8], "little")
header = json.loads(raw[8:8 + n])
arrays = np.load(sys.argv[2])
taken = [k for k in header if k.split(".")[0] in ("teacher", "buffer")]
assert len(taken) == len(arrays.files) > 20, (len(taken), arrays.files)
for name in taken:
    begin, end = header[name]["data_offsets"]
    array = arrays[name.split(".", 1)[1]]
    assert list(array.shape) == header[name]["shape"] and array.tobytes() == raw[8 + n + begin:8 + n + end], name
END
}
check "the bits of the checkpoint" stored
check "export: prototypes" exits 0 "$decant" export --checkpoint "$work/a" --what prototypes --out "$work/prototypes.npz"
check "(K, D), unit rows" numpy prototypes.npz "o['prototypes'].shape == (256, 32) and abs(np.linalg.norm(o['prototypes'], axis=1) - 1).max() < 1e-5"
check "export: mixture" exits 0 "$decant" export --checkpoint "$work/a" --what mixture --format npz --out "$work/mixture"
check "its arrays" numpy mixture "set(o) == {'mean', 'variance', 'weight', 'mass', 'usage', 'price'} and abs(o['weight'].sum() - 1) < 1e-4"
check "export: safetensors" exits 0 "$decant" export --checkpoint "$work/a" --what student --out "$work/student.safetensors"
check "export does not overwrite" exits 2 "$decant" export --checkpoint "$work/a" --out "$work/teacher.npz"
check "unless told to" exits 0 "$decant" export --checkpoint "$work/a" --out "$work/teacher.npz" --force
mkfifo "$work/fifo.npz"
check "export replaces regular files only" exits 2 "$decant" export --checkpoint "$work/a" --out "$work/fifo.npz" --force
check "the pipe is still there" test -p "$work/fifo.npz"
check "export: no format" exits 2 "$decant" export --checkpoint "$work/a" --out "$work/teacher"
check "export: nothing of the kind" exits 2 "$decant" export --checkpoint "$work/a" --out "$work/x.npz" --what optimiser

halves=(--set run.steps=40 --set run.checkpoint_every=20)
check "a run to resume" train half "${halves[@]}" --no-redis
check "the same again" train whole "${halves[@]}" --no-redis
rm -r "$work/half/checkpoints/step-000040"
echo step-000020 >"$work/half/checkpoints/latest"
check "resume" exits 0 timeout 120 "$decant" resume "$work/half" --no-redis --no-eval --workers 1
check "the bytes of a run that was not interrupted" exits 0 "$decant" verify "$work/half" "$work/whole" --step 40
truncate -s 100 "$work/half/checkpoints/step-000040/mixture.safetensors"
check "resume past a damaged step" exits 0 timeout 120 "$decant" resume "$work/half" --no-redis --no-eval --workers 1
check "says from where" err_says "resuming from step 20, the newest sound checkpoint in $work/half: that of step 40 is damaged"
mkdir -p "$work/place/runs" && ln -s "$work/half" "$work/place/runs/mine"
for line in "status mine" "top mine --once" "prototypes mine" "verify mine" "verify mine $work/half" "stop mine" "status $work/half" "eval mine --quick --bank 64 --queries 64" \
    "export mine --out $work/named.npz" "plot mine --out $work/named"; do
    check "a run by its name or directory: $line" bash -c "cd '$work/place' && '$decant' $line"
done
check "a run that is named twice" exits 2 "$decant" status "$work/half" --out "$work/half"
check "no run is named" exits 2 "$decant" eval
check "resume of nothing starts nothing" exits 1 "$decant" resume "$work/absent"
check "no directory was made" test ! -e "$work/absent"
check "resume without a directory" exits 2 "$decant" resume
check "resume --help" exits 0 "$decant" resume --help
check "resume passes options on" exits 2 "$decant" resume "$work/half" --workers none
check "and speaks in its own name" err_says "decant resume: --workers none"
check "accept-data without resume" exits 2 "$decant" train --out "$work/never" --accept-data
check "says what it goes with" err_says "--accept-data goes with --resume"
mkdir "$work/young" && cp "$work/half/config.ini" "$work/young"
check "status of a run without a checkpoint" exits 1 "$decant" status --out "$work/young"
check "does not take it for a wrong name" err_says "has no checkpoint yet"

for text in step-000099 $'\033[2Jstep-0'; do
    echo "$text" >"$work/whole/checkpoints/latest"
    check "latest names no step: status" exits 0 "$decant" status --out "$work/whole"
    check "of the newest complete one" out_says "40 of 40"
    check "with a warning" err_says "latest_unusable"
    check "and nothing that steers the terminal" bash -c "! grep -q $'\033' '$work/err'"
    check "resume of a run that is over" exits 0 timeout 120 "$decant" resume "$work/whole" --no-redis --no-eval --workers 1
    check "repairs it" grep -qx step-000040 "$work/whole/checkpoints/latest"
done
: >"$work/whole/generation-parameter"
check "an empty generation ends the run" exits 1 timeout 120 "$decant" resume "$work/whole" --no-redis --no-eval --workers 1
check "at once: no second start heals it" bash -c "! grep -q 'decant-parameter ended .*starting it again' '$work/err'"
check "the file is named" grep -q "generation-parameter: .* is not a generation" "$work/err"

# The lock of one server goes: it ends, and is restarted. The whole directory goes: the run ends and leaves nothing.
until_says() { # until_says FILE TEXT
    for _ in $(seq 300); do grep -qsF -- "$2" "$1" && return || sleep 0.1; done
    return 1
}
evicted() {
    "${train_command[@]}" --out "$work/evicted" --set run.steps=1000000 --set run.checkpoint_every=20 --no-redis \
        --workers 1 >"$work/out" 2>"$work/err" &
    local pid=$!
    for server in parameter prototype; do
        until_says "$work/evicted/checkpoints/latest" step- && rm "$work/evicted/lock-$server" &&
            until_says "$work/evicted/logs/$server.log" "lock-$server was removed or replaced" || return 1
        for _ in $(seq 100); do [ -e "$work/evicted/lock-$server" ] && break || sleep 0.1; done
    done
    mv "$work/evicted" "$work/moved"
    ended $pid
    [ $? -eq 1 ] && err_says "lock-launcher was removed or replaced" && [ ! -e "$work/evicted" ]
}
check "a run without its directory ends" evicted

# A prototype server on its own, on sockets in the scratch directory.
ends=(--set "net.prototype=ipc://$work/prototype" --set "net.prototype_publish=ipc://$work/prototype-publish"
    --set "net.parameter=ipc://$work/parameter" --set "net.parameter_publish=ipc://$work/parameter-publish")
check "health: nobody there" exits 1 "$decant" health "ipc://$work/prototype" --timeout 0.2
check "it says how long it waited" err_says "no answer within 0.2 s"
"$BUILD/bin/decant-prototype" "${small[@]}" "${ends[@]}" --set run.name=alone --set "run.out=$work/alone" 2>"$work/alone.log" &
server=$!
check "health of a server" exits 0 "$decant" health "ipc://$work/prototype" --timeout 20
check "run, generation, step" out_says "ok run=alone generation=1 step=0"
check "health: its kind" exits 0 "$decant" health --server prototype "ipc://$work/prototype" --timeout 20 --json
check "JSON" json 'o["ok"] and o["servers"][0]["server"] == "prototype" and o["servers"][0]["run"] == "alone"'
check "health: the wrong kind" exits 1 "$decant" health --server parameter "ipc://$work/prototype" --timeout 20
check "health by configuration" exits 0 "$decant" health --server prototype "${ends[@]}" --timeout 20
check "health of both: one is missing" exits 1 "$decant" health "${ends[@]}" --timeout 0.5
check "doctor" exits 0 "$decant" doctor "${small[@]}" "${ends[@]}" --set run.name=alone --set "run.out=$work/new" --json
check "who answers, and what is free" json 'o["ok"] and {"net.prototype", "net.parameter"} <= {f["check"] for f in o["findings"] if "run=alone" in f["text"] or ": free" in f["text"]}'
check "the size of a checkpoint is well estimated" json "abs(float(next(f['text'].split('about ')[1].split(' kB')[0] for f in o['findings'] if f['check'] == 'disk')) - $(cat "$work"/a/checkpoints/step-000008/* | wc -c) / 1e3) < 40"
check "nothing was made" test ! -e "$work/new"
# OpenBLAS may not know the processor: then programs start themselves anew, with kernels that use it, under their names.
check "doctor, left to itself" exits 0 env -u OPENBLAS_CORETYPE "$decant" doctor "${small[@]}" "${ends[@]}" --set run.name=alone --json
check "OpenBLAS uses the processor" json 'all(f["state"] == "ok" for f in o["findings"] if f["check"] == "blas")'
check "a server keeps its name" grep -qx decant-prototyp "/proc/$server/comm"
check "doctor, told to be slow" exits 0 env OPENBLAS_CORETYPE=Prescott DECANT_KERNELS= "$decant" doctor "${small[@]}" "${ends[@]}" --set run.name=alone --json
check "a choice stands, with a warning" json '[f for f in o["findings"] if f["check"] == "blas" and "Prescott" in f["text"] and (f["state"] == "warn" or any("AVX2 no" in g["text"] for g in o["findings"]))]'
check "doctor: another run at the endpoint" exits 0 "$decant" doctor "${small[@]}" "${ends[@]}" --set run.name=other
check "a warning, and what to do" out_says "choose other endpoints for a second run"
check "doctor: swapped endpoints" exits 1 "$decant" doctor "${small[@]}" "${ends[@]}" --set "net.parameter=ipc://$work/prototype"
check "it says who answers" out_says "a prototype server answers there"
check "doctor: a bad configuration" exits 1 "$decant" doctor --set run.sead=1 --json
check "the rest is looked at" json '[f["advice"] for f in o["findings"] if f["state"] == "fail"] and any(f["check"] == "cpu" for f in o["findings"])'
check "doctor: no images" exits 1 "$decant" doctor --set "data.path=$work/absent"
kill $server
ended $server

complete() { # COMMAND-LINE-WORD...: what bash would offer for the last of them
    PATH=$BUILD/bin:$PATH bash -c 'eval "$(decant completion bash)" || exit 1
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)); _decant; echo "${COMPREPLY[@]}"' complete "$@"
}
offers() { # WANTED COMMAND-LINE-WORD...
    local wanted=$1 got
    shift
    got=$(complete "$@")
    [ "$got" = "$wanted" ] || { echo "offered: $got" && return 1; }
}
check "completion of a command" offers "verify" decant verif
check "completion of an option" offers "--interval" decant top --int
check "completion of a choice" offers "safetensors" decant export --format s
check "completion of a key" offers "run.seed=" decant train --set run.se
check "completion of another shell" exits 2 "$decant" completion fish
check "completion --help" exits 0 "$decant" completion --help

same_pages() { # what is committed is what the programs say
    docs/man/generate "$BUILD/bin" "$work/man" && for page in "$work"/man/*.1; do
        diff "docs/man/$(basename "$page")" "$page" || { echo "run: make man" && return 1; }
    done
}
check "manual pages are those of the programs" same_pages
check "every command has its section" bash -c "[ \$(grep -c '^\.SS ' docs/man/decant.1) -eq \$('$decant' help | grep -cE '^  [a-z-]+ ' | awk '{print \$1 - 2}') ]"

check "top of a finished run" exits 0 "$decant" top --out "$work/a" --once
check "its last step" out_says "step 8/8"
check "its checkpoint" out_says "step-000008"
check "plain text, no escape sequences" bash -c "! grep -q $'\\033' '$work/out'"
check "top of no run" exits 1 "$decant" top --out "$work/absent" --once
check "top: a bad interval" exits 2 "$decant" top --out "$work/a" --interval 0
snapshots() { # two at least, and an end at SIGINT
    "$decant" top --out "$work/a" --interval 0.1 >"$work/out" &
    local pid=$!
    for _ in $(seq 100); do [ "$(grep -c '^decant top' "$work/out")" -ge 2 ] && break || sleep 0.1; done
    interrupt $pid && [ "$(grep -c '^decant top' "$work/out")" -ge 2 ]
}
check "top into a pipe prints snapshots until it is interrupted" snapshots
terminal() { # a terminal of 14 rows and 60 columns, ended with q; in what it shows no line is wider
    "$PYTHON" - "$decant" "$work/a" <<'END'
import fcntl, os, pty, re, select, struct, sys, termios, time
pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.3)  # until the size is set
    os.environ.pop("NO_COLOR", None)
    os.environ["TERM"] = "xterm"
    if os.environ.get("PLAIN"):
        os.environ["NO_COLOR"] = "1"
    os.execv(sys.argv[1], [sys.argv[1], "top", "--out", sys.argv[2], "--interval", "0.1"])
fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 14, 60, 0, 0))
shown, until, asked = "", time.time() + 20, False
try:
    while time.time() < until:
        if select.select([fd], [], [], 0.2)[0]:
            shown += os.read(fd, 65536).decode()
        if shown.count("\x1b[H") >= 3 and not asked:
            asked = os.write(fd, b"q")
except OSError:
    pass
code = os.waitpid(pid, 0)[1]
frame = shown.split("\x1b[H")[2].split("\x1b[J")[0]
lines = [re.sub("\x1b\\[[0-9;]*[a-zA-Z]", "", l).rstrip("\r") for l in frame.split("\n")]
assert code == 0, code
assert shown.startswith("\x1b[?1049h") and shown.endswith("\x1b[?25h\x1b[?1049l"), shown[-40:]
assert len(lines) <= 14 and max(map(len, lines)) <= 60, lines
assert ("\x1b[1m" in frame) == (not os.environ.get("PLAIN")), frame
END
}
check "top on a terminal: fits it, colours, q ends and restores" terminal
plain() { PLAIN=1 terminal; }
check "top with NO_COLOR" plain

finish
