#!/usr/bin/env bash
# The compose file from outside. A run in containers, with keys, is scaled, loses a process of every kind, is stopped and started
# again; it is too long to end on any machine, so its checkpoint after all that is compared with one of a run on this machine. A
# second run, short, without keys but with a password for Redis, ends by itself. Needs root and an engine; starts one if none runs.
cd "$(dirname "$0")/../.."
source tests/e2e/lib.sh
# Containers do not have what the caller told OpenBLAS; the runs that they are compared with must not either.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
source tests/docker/engine.sh
both=(encoder.safetensors mixture.safetensors)
long=1000000
short=200
every=200

# configuration STEPS
configuration() {
    cat <<INI
[run]
steps = $1
slots = 4
slot_size = 32
checkpoint_every = $every
checkpoint_keep = 0
log_every = 1
[data]
limit = 4096
[encoder]
widths = 8,16,32,64
[head]
hidden = 64
[mixture]
components = 256
dimensions = 32
[redis]
interval = 0.2
INI
}
configuration $long >"$work/long.ini"
configuration $short >"$work/short.ini"
chmod 755 "$work"
chmod 644 "$work"/*.ini

project=decant-test-$$
variables=(DECANT_CONFIG="$work/long.ini" DECANT_RUN=compose DECANT_IMAGE=decant:test DECANT_REDIS_IMAGE=decant-redis:test DECANT_WORKERS=1)
compose() { env "${variables[@]}" docker-compose --project-name "$project" "$@" </dev/null; }

teardown() {
    if [ -e "$work/up" ]; then compose down --volumes --timeout 5 >/dev/null 2>&1; fi
    [ -z "${events:-}" ] || kill "$events" 2>/dev/null
    engine_stop
    cleanup
}
trap teardown EXIT

# ---- asking ----

# Asked from docker itself: docker-compose takes most of a second to start.
containers() { docker ps -aq --no-trunc --filter "label=com.docker.compose.project=$project" --filter "label=com.docker.compose.service=$1"; }
container() { containers "$1" | head -n 1; }
inspect() { docker inspect -f "$2" "$(container "$1")"; }
mirror() { docker exec "$(container redis)" redis-cli "$@"; }
here=("$decant" train --run compose --no-eval --no-redis)
metrics=$work/volume/compose/metrics-parameter.jsonl
lines() { wc -l <"$metrics" 2>/dev/null || echo 0; }

# until SECONDS COMMAND...: once it succeeds; fails when the time is over.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >"$work/until.log" 2>&1; do
        [ $SECONDS -lt $end ] || {
            echo "not within the time: $*"
            cat "$work/until.log"
            compose ps
            compose logs --tail 5
            return 1
        }
        sleep 0.1
    done
}
# step DIR STEP: the directory of that checkpoint.
step() { echo "$1/checkpoints/step-$(printf %06d "$2")"; }
has_step() { [ -s "$(step "$1" "$2")/encoder.safetensors" ] && [ -s "$(step "$1" "$2")/mixture.safetensors" ]; }
now_ms() { date +%s%3N; }
beyond() { [ "$(lines)" -gt "$1" ]; }
mirrored() { [ "$(mirror hget decant:compose "$1")" = "$2" ]; }
mirrored_step() { [ "$(mirror hget decant:compose step)" -ge "$1" ]; }
shown_by_compose() { [ "$(compose exec -T redis redis-cli hget decant:compose step)" -ge 1 ]; }
restarted() { [ "$(inspect "$1" '{{.RestartCount}} {{.State.Running}}')" = "$2 true" ]; }
healthy() { [ "$(inspect "$1" '{{.State.Health.Status}}')" = healthy ]; }
# Every container but Redis has ended, all with 0.
states() { { containers prototype && containers parameter && containers worker; } | xargs docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' | sort -u; }
all_done() { [ "$(states)" = "exited 0" ]; }
logged() { [ "$(compose logs --no-color "$1" | grep -c "$2")" -ge 1 ]; }
not_logged() { ! logged "$@"; }
keys_of() { docker exec "$(container "$1")" sh -c 'cd /keys && echo *'; }
# Both servers take up a list of that many keys.
servers_list() { logged parameter "event=allow_list_read keys=$1 " && logged prototype "event=allow_list_read keys=$1 "; }
ended_with() { grep -qx "$1 $2" "$work/events"; }

# Kills the process from outside: `docker kill` would count as a wish of the user's, and nothing would start it again. Docker says 0
# when there is none, which kill would take for our own process group.
kill_process() {
    local pid
    pid=$(inspect "$1" '{{.State.Pid}}')
    [ "$pid" -gt 1 ] && kill -KILL "$pid"
}

# ---- an engine and the images ----

command -v dockerd >/dev/null && command -v docker-compose >/dev/null && command -v debootstrap >/dev/null || check "the engine installs" deploy/install-deps --docker
check "an engine runs" engine_start
[ $failed -eq 0 ] || finish
check "the base image is there" base_image debian:bookworm-slim
check "the image of Redis builds" docker build --network host --file deploy/Dockerfile --target redis --tag decant-redis:test .
check "the image of the programs builds" docker build --network host --file deploy/Dockerfile --tag decant:test .
[ $failed -eq 0 ] || finish
echo "      decant:test has $(($(docker image inspect -f '{{.Size}}' decant:test) / 1000000)) MB, decant-redis:test $(($(docker image inspect -f '{{.Size}}' decant-redis:test) / 1000000)) MB"
check "the compose file is valid" compose config --quiet
check "with all profiles too" compose --profile tools --profile observability config --quiet
check "a short run on this machine, to compare with" exits 0 timeout 300 "${here[@]}" --config "$work/short.ini" --out "$work/short"

# ---- a run in containers ----

touch "$work/up"
began=$(now_ms)
check "up" compose up --no-build --detach
ln -s "$(docker volume inspect -f '{{.Mountpoint}}' "${project}_runs")" "$work/volume"
docker events --filter event=die --filter "label=com.docker.compose.project=$project" \
    --format '{{index .Actor.Attributes "com.docker.compose.service"}} {{.Actor.Attributes.exitCode}}' >"$work/events" &
events=$!
check "it trains" until_true 60 beyond 0
echo "      from up to the first step: $(($(now_ms) - began)) ms"
check "Redis shows it, through docker-compose too" until_true 30 shown_by_compose

for service in prototype parameter worker; do
    check "$service: an ordinary user" test "$(inspect $service '{{.Config.User}}')" = 10001:10001
    check "$service: nothing to write but volumes and /tmp" test "$(inspect $service '{{.HostConfig.ReadonlyRootfs}}')" = true
    check "$service: no capabilities" test "$(inspect $service '{{.HostConfig.CapDrop}} {{.HostConfig.SecurityOpt}}')" = "[ALL] [no-new-privileges:true]"
done
check "no port is open to the outside" test -z "$(docker ps -q --filter "label=com.docker.compose.project=$project" | xargs docker inspect -f '{{range $p, $b := .NetworkSettings.Ports}}{{if $b}}{{$p}}{{end}}{{end}}' | tr -d '\n')"
check "the network leads nowhere" test "$(docker network inspect -f '{{.Internal}}' "${project}_wall")" = true

# ---- keys ----

for server in prototype parameter; do
    check "$server: its own secret and the list, no more" test "$(keys_of $server)" = "allowed $server.key"
    check "$server: it uses them" logged $server 'event=keys public_key='
    check "$server: it does not listen without" not_logged $server 'event=insecure'
    check "$server: no warning about secrets" not_logged $server 'event=secret_readable'
done
check "worker: its own secret and whom it talks to, no more" test "$(keys_of worker)" = "parameter.pub prototype.pub worker.key"
check "keygen tells who may connect" exits 0 compose run --rm keygen --list
check "the worker, and who looks" test "$(tr -d '\r' <"$work/out" | awk '{print $1, $3}' | sort | xargs)" = "viewer viewer worker worker"
check "decant in a container has a key to look with" exits 0 compose run --rm decant health tcp://parameter:5701 --server parameter
check "one more is listed" compose run --rm keygen worker:late
check "both servers follow the list" until_true 30 servers_list 3

# A worker with a key that nobody listed, and the servers' right public keys. In a place of its own: of two volumes for one place either
# may win.
check "a stranger makes keys" exits 0 "$decant" keygen --out "$work/stranger"
for server in prototype parameter; do docker exec "$(container worker)" cat /keys/$server.pub >"$work/stranger/$server.pub"; done
chown -R 10001:10001 "$work/stranger"
check "the stranger is turned away" exits 1 timeout 60 env "${variables[@]}" docker-compose --project-name "$project" run --rm --no-deps -T -v "$work/stranger:/stranger:ro" -e DECANT_KEYS_DIRECTORY=/stranger worker
check "the stranger is told" bash -c "cat '$work/out' '$work/err' | grep -q 'event=failed .*the server refused our key'"
check "docker-compose logs has its key" logged parameter "event=key_refused .*$(sed 's/[][\\.*^$]/\\&/g' "$work/stranger/worker.pub")"

check "scale to three workers" compose up --no-build --detach --no-recreate --scale worker=3
check "three at work" until_true 60 mirrored workers 3
check "scale down to two" compose up --no-build --detach --no-recreate --scale worker=2
check "two at work" until_true 60 mirrored workers 2
check "the one that left did so by itself" ended_with worker 0

# ---- losing processes ----

for victim in parameter prototype worker; do
    before=$(lines)
    began=$(now_ms)
    check "killed $victim" kill_process $victim
    check "killed $victim: it comes back" until_true 60 restarted $victim 1
    after=$(lines)
    check "killed $victim: the run goes on" until_true 60 beyond "$after"
    echo "      $before steps, killed $victim, next step after $(($(now_ms) - began)) ms"
done
check "killed Redis" kill_process redis
check "killed Redis: it comes back" until_true 60 restarted redis 1
check "killed Redis: the mirror is whole again" until_true 60 mirrored_step 1

# ---- stop and start ----

: >"$work/events"
check "stop" compose stop
check "everybody ended by itself" test "$(states)" = "exited 0"
check "both servers wrote the same step" test -s "$work/volume/compose/checkpoints/$(cat "$work/volume/compose/checkpoints/latest")/mixture.safetensors"
stopped=$(tail -n 1 "$metrics" | grep -oE '"step":[0-9]+' | cut -d: -f2)
check "it was the newest: $stopped" grep -q "step-0*$stopped\$" "$work/volume/compose/checkpoints/latest"
before=$(lines)
check "start again" compose up --no-build --detach --no-recreate --scale worker=2
check "it goes on" until_true 60 beyond "$before"
for service in prototype parameter worker redis; do check "$service is healthy" until_true 60 healthy $service; done

# ---- the same bytes ----

compared=$(((stopped / every + 1) * every))
check "it writes its next checkpoint: $compared" until_true 120 has_step "$work/volume/compose" $compared
check "down" compose down
"${here[@]}" --config "$work/long.ini" --out "$work/long" >"$work/long.log" 2>&1 &
launcher=$!
check "a run on this machine gets there too" until_true 300 has_step "$work/long" $compared
interrupt $launcher
for file in "${both[@]}"; do check "same bytes: $file" cmp "$(step "$work/long" $compared)/$file" "$(step "$work/volume/compose" $compared)/$file"; done
check "down, volumes too" compose down --volumes

# ---- no keys, and a password for Redis ----

sed -n '/^user /s|PASSWORD|a+b/c=|p; /^user default/p' docs/REDIS.md >"$work/redis-acl"
echo 'a+b/c=' >"$work/redis-password"
variables+=(DECANT_CONFIG="$work/short.ini" DECANT_KEYS= DECANT_REDIS_ACL_FILE="$work/redis-acl" DECANT_REDIS_PASSWORD_FILE="$work/redis-password"
    COMPOSE_FILE=docker-compose.yml:docker-compose.override.yml:deploy/compose.redis-password.yml)
rm "$work/volume"
check "up without keys" compose up --no-build --detach
ln -s "$(docker volume inspect -f '{{.Mountpoint}}' "${project}_runs")" "$work/volume"
check "everything ends by itself" until_true 120 all_done
for server in prototype parameter; do check "$server: it says that there are no keys" logged $server 'event=insecure'; done
for file in "${both[@]}"; do check "same bytes: $file" cmp "$(step "$work/short" $short)/$file" "$(step "$work/volume/compose" $short)/$file"; done
check "the mirror logged in, whoever looks need not" mirrored step $short
check "whoever looks cannot write" bash -c "docker exec '$(container redis)' redis-cli del decant:compose | grep -q NOPERM"
check "up again: it is over, and says so" compose up --no-build --detach
check "up again: everything ends by itself" until_true 60 all_done
check "down again" compose down --volumes
check "nothing is left" test -z "$(docker ps -aq --filter "label=com.docker.compose.project=$project")$(docker volume ls -q --filter "label=com.docker.compose.project=$project")"
rm "$work/up"
finish
