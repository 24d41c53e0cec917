#!/usr/bin/env bash
# Redis is an observer: killed and started again in the middle of a run, or never there, it changes no byte of the result; and
# what it shows is the run's state. What it held at the end can be opened later.
source "$(dirname "$0")/lib.sh"
both=(encoder.safetensors mixture.safetensors)
steps=(--set run.steps=400 --set redis.interval=0.1 --set run.checkpoint_every=40 --set eval.images=200)
free_port() { "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }
port=$(free_port)
start_redis() {
    redis-server --port "$port" --bind 127.0.0.1 --dir "$work" --save '' --appendonly no >"$work/redis.log" 2>&1 &
    redis=$!
    for _ in $(seq 50); do redis-cli -p "$port" ping >/dev/null 2>&1 && return; sleep 0.1; done
    return 1
}

check "without Redis" train off --no-redis "${steps[@]}"
start_redis
redis-cli -p "$port" hset decant:odd step $'1\033[2J' K $'\302\23331m' >/dev/null
check "status of whatever Redis holds" exits 0 "$decant" status --run odd --redis "127.0.0.1:$port"
check "nothing in it steers the terminal" bash -c "grep -qF '1?[2J' '$work/out' && grep -qF '??31m' '$work/out'"
"${train_command[@]}" --out "$work/on" "${steps[@]}" --redis "127.0.0.1:$port" >"$work/on.log" 2>&1 &
launcher=$!
check "it trains" wait_step on 20
shown() { for _ in $(seq 50); do redis-cli -p "$port" hexists decant:e2e step | grep -qx 1 && return 0; sleep 0.1; done; return 1; }
check "the mirror shows the run" shown
kill -KILL $redis
ended $redis
check "training goes on without it" wait_step on 60
start_redis
ended $launcher
code=$?
check "the run ends well" test $code -eq 0
check "same bytes as without Redis" same off on 000400 "${both[@]}"
kill $redis
ended $redis

check "a Redis that is never there" train absent "${steps[@]}" --redis "127.0.0.1:$port"
check "same bytes as without Redis" same off absent 000400 "${both[@]}"

check "a private Redis" train private "${steps[@]}" --set eval.every=40
check "same bytes as without Redis" same off private 000400 "${both[@]}"
check "its dump is kept" test -s "$work/private/redis/dump.rdb"
check "its address is not" test ! -e "$work/private/redis/address"
redis-server --port "$port" --bind 127.0.0.1 --dir "$work/private/redis" --save '' >"$work/redis.log" 2>&1 &
redis=$!
later() { for _ in $(seq 50); do redis-cli -p "$port" hget decant:e2e version 2>/dev/null | grep -qx 400 && return 0; sleep 0.1; done; return 1; }
check "opened later, it holds the last version" later
noted() { [ "$(redis-cli -p "$port" xlen decant:e2e:evaluation)" -ge 1 ] && redis-cli -p "$port" xrange decant:e2e:evaluation - + count 1 | grep -qx knn_projections; }
check "and the k-NN of steps on the way" noted
check "decant status reads it" exits 0 "$decant" status --run e2e --redis "127.0.0.1:$port" --json
check "step 400" "$PYTHON" -c 'import json, sys; assert json.load(open(sys.argv[1]))["step"] == 400' "$work/out"
check "decant prototypes reads it" exits 0 "$decant" prototypes --run e2e --redis "127.0.0.1:$port" --json --limit 0 --sort index
cp "$work/out" "$work/redis.json"
check "decant prototypes reads the checkpoint" exits 0 "$decant" prototypes --out "$work/private" --json --limit 0 --sort index
check "mirror and checkpoint agree" "$PYTHON" - "$work/redis.json" "$work/out" <<'PY'
import json, sys
mirror, file = (json.load(open(p))["prototypes"] for p in sys.argv[1:])
assert len(mirror) == len(file) == 256
for a, b in zip(mirror, file):
    assert a["index"] == b["index"] and abs(a["mass"] - b["mass"]) <= 1e-4 * b["mass"], (a, b)
    assert a["nearest"] == b["nearest"] or abs(a["cosine"] - b["cosine"]) < 1e-5, (a, b)
PY
check "evaluated with a Redis that is named" train seen --set run.steps=4 --set run.checkpoint_every=2 --set eval.every=2 --set eval.images=200 --redis "127.0.0.1:$port"
last() { redis-cli -p "$port" xrevrange decant:e2e:evaluation + - count 1 | sed -n 3p; }
check "the last step is shown, too" test "$(last)" = 4
check "and nothing of the run before" bash -c "! redis-cli -p $port xrange decant:e2e:evaluation - + | grep -qx 80"
check "an unknown run is said to be unknown" exits 1 "$decant" status --run nobody --redis "127.0.0.1:$port"
finish
