# A container engine and the base image for tests that need them. Sourced after tests/e2e/lib.sh.
#   engine_start; base_image DEBIAN; ...; engine_stop
engine_pid=

# One try with these options; the log tells what went wrong.
engine_try() {
    echo "dockerd $*" >>"$work/dockerd.log"
    dockerd "$@" >>"$work/dockerd.log" 2>&1 &
    engine_pid=$!
    for _ in $(seq 300); do
        docker info >/dev/null 2>&1 && return 0
        kill -0 $engine_pid 2>/dev/null || break
        sleep 0.1
    done
    engine_stop
    return 1
}

# The engine that runs, or one of our own: with what the machine offers, else without overlay file systems.
engine_start() {
    docker info >/dev/null 2>&1 && return 0
    engine_try || engine_try --storage-driver=vfs && return 0
    tail -n 40 "$work/dockerd.log"
    return 1
}

# Ends the engine that engine_start started, and no other.
engine_stop() {
    [ -z "$engine_pid" ] || { kill "$engine_pid" 2>/dev/null && wait "$engine_pid"; }
    engine_pid=
}

# A registry is not always there.
base_image() {
    docker image inspect "$1" >/dev/null 2>&1 || timeout 60 docker pull -q "$1" 2>/dev/null || deploy/make-base-image "$1"
}
