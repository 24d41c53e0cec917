#!/usr/bin/env bash
# Training on a set more than three times as large as the memory that each process may have of its own (mapped files do not
# count): read when it is wanted, or mapped from a file, it ends with the tensors of a run without a limit; held in memory it
# does not fit, and the worker says which key to change.
source "$(dirname "$0")/lib.sh"
limit_kib=225000 images=60000

# Every sixteenth image is noise, the others are holes in the file, black ones: even such a set can be trained on.
"$PYTHON" - "$work/large.npy" $images <<'PYTHON_END' || exit 1
import sys
import numpy as np
images = np.lib.format.open_memmap(sys.argv[1], mode="w+", dtype=np.uint8, shape=(int(sys.argv[2]), 64, 64, 3))
rng = np.random.default_rng(1)
for i in range(0, len(images), 16):
    images[i] = rng.integers(0, 256, images[i].shape, np.uint8)
PYTHON_END

# run DIR CACHE [ARGUMENT...]: two steps.
run() {
    local out=$work/$1 cache=$2
    shift 2
    timeout 60 "${train_command[@]}" --out "$out" --no-redis --workers 1 --set "data.path=$work/large.npy" --set data.limit=0 --set data.cache="$cache" \
        --set "data.cache_directory=$work/cache" --set run.steps=2 "$@"
}
limited() { (ulimit -d $limit_kib && exits "$1" run "${@:2}"); }
says() { grep -qF -- "$1" "$work/err"; }

check "the set is more than three times the limit" test $((images * 64 * 64 * 3 / 1024)) -gt $((3 * limit_kib))
check "read when it is wanted it trains" limited 0 wanted none
check "mapped from a file it trains" limited 0 mapped file
check "in memory it does not" limited 1 held memory
check "for want of memory, and with the key to change" says "no memory for $images images of 12288 bytes, 0.69 GiB; data.cache = file or none needs less"
check "without a limit it is the same run" exits 0 run unlimited file
equal_tensors() { "$decant" verify "$work/$1" "$work/unlimited" >"$work/out"; [ "$(grep -cE 'safetensors  (identical|every tensor is equal)' "$work/out")" -eq 2 ] || { cat "$work/out"; return 1; }; }
check "with equal tensors: read when wanted" equal_tensors wanted
check "with equal tensors: mapped" equal_tensors mapped

too_little() { (ulimit -d 150000 && exits 2 "$@"); } # less than OpenBLAS's buffer and some stacks, without which it waits for ever
for program in parameter prototype worker; do
    check "too little for any run: $program says so" too_little timeout 20 "$BUILD/bin/decant-$program" --set run.out="$work/none"
    check "and which limit" says "the limit of a process's own memory (ulimit -d) is 146 MiB, which leaves less than the 208 MiB that are needed"
done
check "and so does the launcher" too_little timeout 20 "$decant" train --run e2e --out "$work/none"
finish
