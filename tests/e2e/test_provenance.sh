#!/usr/bin/env bash
# A run keeps to its images and to the arithmetic it began with: others are refused with what to do, or admitted and noted.
source "$(dirname "$0")/lib.sh"
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
images() { # FILE SEED: 400 small images in four classes
    "$PYTHON" - "$1" "$2" <<'P'
import sys, numpy
r = numpy.random.default_rng(int(sys.argv[2]))
numpy.savez(sys.argv[1], x_train=r.integers(0, 256, (400, 16, 16), dtype=numpy.uint8), y_train=(numpy.arange(400) % 4).astype(numpy.uint8),
            x_test=r.integers(0, 256, (80, 16, 16), dtype=numpy.uint8), y_test=(numpy.arange(80) % 4).astype(numpy.uint8))
P
}
tiny=(--set mixture.components=32 --set mixture.dimensions=8 --set head.hidden=16 --set run.slots=2 --set run.slot_size=8 --set loss.block=16
    --set encoder.widths=8,16 --set run.log_every=1 --set eval.bank=200 --set eval.queries=50 --set data.path="$work/set.npz" --no-redis)
metadata() { # RUN FILE KEY: of the newest checkpoint
    "$PYTHON" - "$work/$1/checkpoints/$(cat "$work/$1/checkpoints/latest")/$2" "$3" <<'P'
import json, struct, sys
with open(sys.argv[1], "rb") as f:
    print(json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))["__metadata__"].get(sys.argv[2], "absent"))
P
}
is() { [ "$1" = "$2" ] || { echo "'$1' is not '$2'"; return 1; }; }

# ---- images ----
images "$work/set.npz" 1
check "a run" exits 0 timeout 60 "$decant" train "${tiny[@]}" --no-eval --workers 1 --run p --out "$work/p" --set run.steps=6
told=$(grep -oE 'data=[0-9a-f]{14}' "$work/p/logs/worker-1.log" | cut -d= -f2)
for file in encoder mixture; do check "$file.safetensors has the fingerprint" is "$(metadata p $file.safetensors data)" "$told"; done
check "eval knows the images" exits 0 "$decant" eval --checkpoint "$work/p"
check "and says so" grep -q "images $told, those it was trained on" "$work/out"

rm -r "$work/p"
"$decant" train "${tiny[@]}" --no-eval --workers 2 --run p --out "$work/p" --set run.steps=100000 --set run.checkpoint_every=20 >"$work/p.log" 2>&1 &
launcher=$!
check "it trains" wait_step p 30
interrupt $launcher
before=$(metadata p encoder.safetensors data)
images "$work/set.npz" 2 # as many, and other ones
! timeout 60 "$decant" resume "$work/p" --no-eval --no-redis >"$work/out" 2>"$work/err"
check "other images are refused" grep -q 'not the images of this run' "$work/p/logs/worker-1.log"
check "with what to do" grep -q 'decant resume DIR --accept-data' "$work/err"
check "nothing was computed" is "$(metadata p encoder.safetensors data)" "$before"
"$decant" resume "$work/p" --no-eval --no-redis --accept-data >"$work/p.log" 2>&1 &
launcher=$!
step=$(cut -d- -f2 "$work/p/checkpoints/latest")
check "accepted, it goes on" wait_step p $((10#$step + 30))
interrupt $launcher
check "the log says so" grep -q "event=data_changed .*before=$before" "$work/p/logs/parameter.log"
for file in encoder mixture; do
    check "$file: the new images are in the checkpoint" test "$(metadata p $file.safetensors data)" != "$before"
    check "$file: and the old ones" is "$(metadata p $file.safetensors data_before)" "$before"
    check "$file: and since when" is "$(metadata p $file.safetensors data_since)" $((10#$step))
done
check "config.ini does not accept for ever" grep -qx 'accept_data = false' "$work/p/config.ini"
check "verify tells" exits 0 "$decant" verify "$work/p"
check "which images before" grep -q "the run went on with other images at step $((10#$step)): .* before $before" "$work/out"
images "$work/set.npz" 1
! timeout 60 "$decant" resume "$work/p" --no-eval --no-redis >"$work/out" 2>"$work/err"
check "and back again is a change too" grep -q 'not the images of this run' "$work/err"
check "eval with others than those" exits 0 "$decant" eval --checkpoint "$work/p"
check "says that they are others" grep -q 'other images than it was trained on' "$work/out"

# ---- arithmetic: OpenBLAS told to be another processor's ----
endpoints=(--set "net.parameter=ipc://$work/a" --set "net.parameter_publish=ipc://$work/b" --set "net.prototype=ipc://$work/c" --set "net.prototype_publish=ipc://$work/d")
late_worker() { OPENBLAS_CORETYPE=Nehalem timeout 60 "$BUILD/bin/decant-worker" --config "$work/$1/config.ini"; }
check "the reference" exits 0 env OPENBLAS_CORETYPE=Prescott timeout 90 "$decant" train "${tiny[@]}" --no-eval --workers 1 --run n --out "$work/n" --set run.steps=3000
for numerics in same any; do
    OPENBLAS_CORETYPE=Prescott "$decant" train "${tiny[@]}" "${endpoints[@]}" --no-eval --workers 1 --run n --out "$work/$numerics" --set run.steps=3000 --set run.numerics=$numerics >"$work/n.log" 2>&1 &
    launcher=$!
    check "$numerics: it trains" wait_step $numerics 2
    kill -STOP "$(awk '$1 == "worker-1" {print $2}' "$work/$numerics/pids")" # so that the other one has something to do
    if [ $numerics = same ]; then
        check "same: a worker that rounds otherwise is refused" exits 2 late_worker same
        check "same: with what to do" grep -q 'DECANT_KERNELS and OPENBLAS_CORETYPE' "$work/err"
    else
        late_worker any >"$work/late.log" 2>&1 &
        late=$!
        check "any: it is admitted" wait_step any 60
    fi
    kill -CONT "$(awk '$1 == "worker-1" {print $2}' "$work/$numerics/pids")"
    ended $launcher
    check "$numerics: the run ends" test $? -eq 0
done
ended $late
check "any: it worked" grep -qE 'event=end slots_done=[1-9]' "$work/late.log"
check "any: it is noted" grep -q event=numerics_mixed "$work/any/logs/parameter.log"
for file in encoder mixture; do check "any: $file has the other kind" test "$(metadata any $file.safetensors numerics_other)" != absent; done
check "same: the refused one changed nothing" exits 0 "$decant" verify "$work/n" "$work/same"
! "$decant" verify "$work/n" "$work/any" >"$work/out"
check "any: verify says why the bytes differ" grep -q 'numerics  *B had workers that round differently' "$work/out"
finish
