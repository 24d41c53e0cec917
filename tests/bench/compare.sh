#!/bin/sh
# What the machine can do and what our products make of it; then the training step in C and in PyTorch, alternately in one
# sitting, one thread each, and their ratio for every slot size.
# Usage: compare.sh [conv|vit|resnet|resnet-batch ...] ; environment: BUILD (build), PYTHON (/usr/bin/python3), SIZES (64 128 256), ROUNDS (2).
# What an AVX2 machine would say: DECANT_KERNELS=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 compare.sh
set -eu
BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
here=$(dirname "$0")
results=$(mktemp)
trap 'rm -f "$results"' EXIT

"$BUILD/bench/bench_kernels"
for model in ${*:-conv vit resnet resnet-batch}; do
    for size in ${SIZES:-64 128 256}; do
        for _ in $(seq "${ROUNDS:-2}"); do
            "$BUILD/bench/bench_model" "$model" "$size"
            "$PYTHON" "$here/bench_torch.py" "$model" "$size"
        done
    done
done | tee "$results"

# The best step of all rounds counts: what the machine does when nobody else runs on it.
awk '
/^bench=step/ {
    for (i = 1; i <= NF; i++) { split($i, kv, "="); value[kv[1]] = kv[2] }
    key = value["model"] " " value["b"]
    best = value["best_images_per_s"] + 0
    if (value["bench"] == "step") { if (best > ours[key]) ours[key] = best }
    else if (best > theirs[key]) theirs[key] = best
}
END {
    for (key in ours) {
        split(key, part, " ")
        printf "bench=compare model=%s b=%s decant=%d torch=%d ratio=%.2f\n", part[1], part[2], ours[key], theirs[key],
               ours[key] / theirs[key]
    }
}' "$results" | sort
