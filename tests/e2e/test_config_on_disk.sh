#!/usr/bin/env bash
# What a run leaves on disk is enough to go on with it from anywhere, however long its paths are; and no password is in it.
source "$(dirname "$0")/lib.sh"
"$PYTHON" - "$work/set.npz" <<'P'
import sys, numpy
r = numpy.random.default_rng(1)
numpy.savez(sys.argv[1], x_train=r.integers(0, 256, (400, 16, 16), dtype=numpy.uint8), y_train=(numpy.arange(400) % 4).astype(numpy.uint8),
            x_test=r.integers(0, 256, (80, 16, 16), dtype=numpy.uint8), y_test=(numpy.arange(80) % 4).astype(numpy.uint8))
P
tiny=(--set mixture.components=32 --set mixture.dimensions=8 --set head.hidden=16 --set run.slots=2 --set run.slot_size=8 --set loss.block=16
    --set encoder.widths=8,16 --set run.log_every=1 --set eval.bank=200 --set eval.queries=50)
in_directory() { (cd "$1" && shift && exec "$@"); }

# ---- relative paths: stopped here, gone on with and evaluated elsewhere ----
mkdir -p "$work/a/data" "$work/b"
cp "$work/set.npz" "$work/a/data/"
(cd "$work/a" && exec "$decant" train "${tiny[@]}" --no-redis --no-eval --set data.path=data/set.npz --set worker.heartbeat=alive --set run.steps=2000 --run rel --workers 1) >"$work/rel.log" 2>&1 &
launcher=$!
check "it trains" wait_step a/runs/rel 20
interrupt $launcher
for line in "path = $work/a/data/set.npz" "out = $work/a/runs/rel" "heartbeat = $work/a/alive"; do
    check "config.ini: ${line%% *} is absolute" grep -qxF "$line" "$work/a/runs/rel/config.ini"
done
check "gone on with from another directory" exits 0 in_directory "$work/b" timeout 90 "$decant" resume ../a/runs/rel --no-redis --no-eval
check "evaluated from there" exits 0 in_directory "$work/b" "$decant" eval --checkpoint ../a/runs/rel
check "nothing was made there" test -z "$(ls -A "$work/b")"
mv "$work/a/runs/rel" "$work/b/moved"
check "a run that was moved is gone on with where it is" exits 0 timeout 60 "$decant" resume "$work/b/moved" --no-redis --no-eval
check "and its new place noted" grep -qxF "out = $work/b/moved" "$work/b/moved/config.ini"

# ---- long paths ----
deep=$work/$(printf 'b%.0s' $(seq 200))/$(printf 'c%.0s' $(seq 200))/$(printf 'd%.0s' $(seq 200))
mkdir -p "$deep"
cp "$work/set.npz" "$deep/"
long() { TMPDIR=$deep exits 0 timeout 60 "$decant" train "${tiny[@]}" --no-redis --no-eval --set data.path="$deep/set.npz" --set run.steps=4 --run x --out "$deep/r" --workers 1; }
check "--out, data.path and TMPDIR of more than 600 bytes" long
check "resumed" exits 0 timeout 60 "$decant" resume "$deep/r" --no-redis --no-eval
check "beyond the limit it is said" exits 2 "$decant" train "${tiny[@]}" --no-redis --out "$deep/$(printf 'e%.0s' $(seq 250))/$(printf 'f%.0s' $(seq 250))"
check "with the limit" grep -q 'run.out has [0-9]* bytes, at most 1023 are allowed' "$work/err"

# ---- secrets ----
secret=S3CRET-that-nobody-writes
port=$("$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir "$work/redis"
redis-server --port "$port" --bind 127.0.0.1 --dir "$work/redis" --save '' --appendonly no --requirepass $secret >"$work/redis/log" 2>&1 &
redis=$!
for _ in $(seq 50); do redis-cli -p "$port" ping 2>&1 | grep -q NOAUTH && break; sleep 0.1; done
printf '%s' $secret >"$work/redis/password"
printf '[redis]\npassword = %s\n' $secret >"$work/secret.ini"
secretive() { # NAME ARGUMENT...
    local out=$work/secret-$1
    shift
    exits 0 timeout 60 "$decant" train "${tiny[@]}" --no-eval --set data.path="$work/set.npz" --set run.steps=300 --set redis.interval=0.05 --redis "127.0.0.1:$port" --run s --out "$out" --workers 1 "$@"
}
for way in flag file environment path; do
    case $way in
    flag) check "password by --set" secretive $way --set redis.password=$secret ;;
    file) check "password in the configuration file" secretive $way --config "$work/secret.ini" ;;
    environment) DECANT_REDIS_PASSWORD=$secret check "password in the environment" secretive $way ;;
    path) check "password in a file of its own" secretive $way --set redis.password_file="$work/redis/password" ;;
    esac
    check "$way: it got in" test "$(redis-cli -p "$port" --no-auth-warning -a $secret hget decant:s step)" = 300
    check "$way: no file of the run has it" bash -c "! grep -rlF $secret '$work/secret-$way'"
    check "$way: and nothing that was printed" bash -c "! grep -lF $secret '$work/out' '$work/err'"
    redis-cli -p "$port" --no-auth-warning -a $secret flushall >/dev/null
done
for key in redis.host net.parameter data.path metrics.parameter run.out; do
    check "a URL with a password as $key is refused" bash -c "! '$decant' train --no-eval --no-redis --set $key=redis://user:$secret@127.0.0.1:1/0 --run s >'$work/out' 2>'$work/err' </dev/null"
    check "$key: it was not started, nor the password shown" bash -c "! grep -rlF $secret '$work/out' '$work/err' && [ ! -e runs/s ]"
done
kill $redis
ended $redis
finish
