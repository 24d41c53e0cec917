#!/usr/bin/env bash
# A run over TCP with keys ends with the same bytes as one without, and Redis behind a password shows it while the password is in no
# file that Decant writes.
source "$(dirname "$0")/lib.sh"
both=(encoder.safetensors mixture.safetensors)
steps=(--set run.steps=60 --set redis.interval=0.1)
read -r p1 p2 p3 p4 p5 <<<"$("$PYTHON" -c '
import socket
sockets = [socket.socket() for _ in range(5)]
for s in sockets: s.bind(("127.0.0.1", 0))
print(*(s.getsockname()[1] for s in sockets))')"
tcp=(--set "net.parameter=tcp://127.0.0.1:$p1" --set "net.parameter_publish=tcp://127.0.0.1:$p2"
    --set "net.prototype=tcp://127.0.0.1:$p3" --set "net.prototype_publish=tcp://127.0.0.1:$p4")
keyed=("${tcp[@]}" --set "keys.directory=$work/keys")

check "keys are made" exits 0 "$decant" keygen --out "$work/keys"
check "a key made elsewhere" exits 0 "$decant" keygen --out "$work/other" worker:b
check "is listed" exits 0 "$decant" keygen --out "$work/keys" --add "$work/other/worker-b.pub" worker:b
check "and that is said" grep -q 'as worker-b: servers that read' "$work/out"
check "it is revoked" exits 0 "$decant" keygen --out "$work/keys" --revoke worker-b
check "and that is said" grep -q '^revoked worker-b' "$work/out"
check "a secret is not listed" exits 2 "$decant" keygen --out "$work/keys" --add "$work/keys/worker.key" worker:second
check "by no file that is copied" bash -c "! grep -qF \"\$(tail -1 '$work/keys/worker.key')\" '$work/keys/allowed'"
check "a run without keys" train plain --no-redis "${steps[@]}"
check "a run over TCP with keys" train keyed --no-redis "${steps[@]}" "${keyed[@]}"
check "same bytes" same plain keyed 000060 "${both[@]}"
check "the servers had keys" grep -q 'event=keys public_key=' "$work/keyed/logs/parameter.log" "$work/keyed/logs/prototype.log"
check "the launcher saw progress" grep -q 'step 60/60' "$work/err"
check "keys are not part of a checkpoint" bash -c "! grep -q -a '$work/keys' '$work/keyed/checkpoints/step-000060/'*.safetensors"

open_to_all() { "$decant" train --run e2e --no-eval --no-redis --out "$work/open" "${small[@]}" "${steps[@]}" --set "net.parameter=tcp://0.0.0.0:$p1"; }
refused() { ! open_to_all >"$work/out" 2>&1 && grep -q 'net.parameter = .*decant keygen.*net.insecure = true' "$work/out"; }
check "open to other machines without keys: refused" refused

user=mirror password='pa ss"word%s' # what a format string, a shell or a parser could trip over
documented=$(grep '^user mirror on >PASSWORD ' "$(dirname "$0")/../../docs/REDIS.md")
quoted='">pa ss\"word%s"'
acl=${documented/>PASSWORD/$quoted}
cat >"$work/redis.conf" <<CONF
port $p5
bind 127.0.0.1
dir $work
save ""
requirepass "admin secret"
$acl
CONF
redis-server "$work/redis.conf" >"$work/redis.log" 2>&1 &
admin() { redis-cli -p "$p5" --no-auth-warning -a 'admin secret' "$@"; }
up() { for _ in $(seq 50); do admin ping 2>/dev/null | grep -q PONG && return 0; sleep 0.1; done; cat "$work/redis.log"; return 1; }
check "a Redis with passwords" up
printf '%s\n' "$password" >"$work/password"
mirror=(--redis "127.0.0.1:$p5" --set "redis.user=$user")
check "a user without a password is a usage error" exits 2 "$decant" train --run e2e --no-eval --out "$work/none" "${small[@]}" "${mirror[@]}"

export DECANT_REDIS_PASSWORD=$password
check "a run that logs in" train mirrored "${steps[@]}" "${mirror[@]}"
shows_last() { [ "$(admin hget decant:e2e version)" = 60 ] || { admin hgetall decant:e2e; grep redis "$work/$1/logs/prototype.log"; return 1; }; }
check "the mirror holds its last version" shows_last mirrored
check "decant status logs in" exits 0 env DECANT_REDIS_USER=$user "$decant" status --run e2e --redis "127.0.0.1:$p5"
check "decant doctor logs in" bash -c "'$decant' doctor --set redis.enabled=true --set redis.port=$p5 --set redis.user=$user | grep -q 'Redis at 127.0.0.1:$p5, 7'"
check "decant status knows the user from the run's configuration" exits 0 "$decant" status --out "$work/mirrored" --redis "127.0.0.1:$p5"
unset DECANT_REDIS_PASSWORD
check "without a password it does not" exits 1 "$decant" status --run e2e --redis "127.0.0.1:$p5"
check "the password is in no file" bash -c "! grep -r -q -a -F 'pa ss' '$work/mirrored'"
check "same bytes" same plain mirrored 000060 "${both[@]}"

admin flushall >/dev/null
check "a run with a password file" train file "${steps[@]}" "${mirror[@]}" --set "redis.password_file=$work/password"
check "the mirror holds its last version" shows_last file
check "decant status finds the file by the run's configuration" exits 0 "$decant" status --out "$work/file" --redis "127.0.0.1:$p5"
admin flushall >/dev/null
export DECANT_REDIS_PASSWORD=wrong
check "a wrong password does not stop a run" train wrong "${steps[@]}" "${mirror[@]}"
unset DECANT_REDIS_PASSWORD
check "it is said" grep -q 'event=redis_lost .*WRONGPASS' "$work/wrong/logs/prototype.log"
check "and nothing is written" test -z "$(admin hget decant:e2e version)"
check "same bytes" same plain wrong 000060 "${both[@]}"
finish
