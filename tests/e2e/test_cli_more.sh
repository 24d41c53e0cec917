#!/usr/bin/env bash
# The commands around a run: verify, export, resume, doctor, health, top, completion, manual pages.
source "$(dirname "$0")/lib.sh"
json() { "$PYTHON" -c "import json, sys; o = json.load(open(sys.argv[1])); assert $1, o" "$work/out"; }
out_says() { grep -qF -- "$1" "$work/out"; }
err_says() { grep -qF -- "$1" "$work/err"; }

for command in verify; do
    check "$command --help" exits 0 "$decant" $command --help
    check "$command --help opens with an example" bash -c "head -n 1 '$work/out' | grep -q '^example: decant $command'"
    check "$command: unknown option" exits 2 "$decant" $command --jsn
    check "$command suggests --json" err_says "did you mean --json?"
done

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

finish
