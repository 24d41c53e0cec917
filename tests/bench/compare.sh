#!/bin/sh
# What the machine can do and what our products make of it; then the training step in C and in PyTorch, alternately in one
# sitting, one thread each, and their ratio for every slot size. MODEL-bf16 compares our step in bf16 with ours in float32.
# Usage: compare.sh [conv|vit|resnet|resnet-batch|resnet-w64|MODEL-bf16 ...] (-w64: so wide) ; environment: BUILD (build), PYTHON (/usr/bin/python3),
# SIZES (64 128 256), ROUNDS (2).
# What an AVX2 machine would say: DECANT_KERNELS=avx2 ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 compare.sh
# OpenBLAS, which PyTorch asks for its linear layers, may not know the processor and take kernels that are too old for it.
# So unless OPENBLAS_CORETYPE says which, each is tried and PyTorch gets the fastest.
set -eu
BUILD=${BUILD:-build}
PYTHON=${PYTHON:-/usr/bin/python3}
here=$(dirname "$0")
results=$(mktemp)
trap 'rm -f "$results"' EXIT

candidates="default Haswell Zen"
[ "${ATEN_CPU_CAPABILITY:-}" = avx2 ] || candidates="$candidates SkylakeX Cooperlake Sapphirerapids"
[ -z "${OPENBLAS_CORETYPE:-}" ] || candidates="$OPENBLAS_CORETYPE"
# with CORE COMMAND...: with those kernels of OpenBLAS.
with() {
    core=$1
    shift
    if [ "$core" = default ]; then "$@"; else OPENBLAS_CORETYPE=$core "$@"; fi
}
# One that the processor cannot run crashes, and counts for nothing.
for core in $candidates; do
    with "$core" "$PYTHON" "$here/bench_torch.py" sgemm 2>/dev/null | sed "s/\$/ core=$core/" || true
done | tee "$results"
peer=$(sed -n 's/^bench=peer_sgemm gflops=\([0-9.]*\) core=\(.*\)/\1 \2/p' "$results" | sort -rn | awk 'NR == 1 { print $2 }')
echo "bench=peer_blas core=$peer"

with "$peer" "$BUILD/bench/bench_kernels" | tee "$results"
narrow=$(grep -q 'bf16=yes' "$results" && echo vit-bf16 conv-bf16 resnet-bf16 || true)
# shellcheck disable=SC2086
[ $# -gt 0 ] || set -- conv vit resnet resnet-batch resnet-w64 $narrow
for model in "$@"; do
    for size in ${SIZES:-64 128 256}; do
        for _ in $(seq "${ROUNDS:-2}"); do
            "$BUILD/bench/bench_model" "$model" "$size"
            case $model in
            *-bf16) "$BUILD/bench/bench_model" "${model%-bf16}" "$size" ;;
            *) with "$peer" "$PYTHON" "$here/bench_torch.py" "$model" "$size" ;;
            esac
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
        wide = part[1]
        if (sub(/-bf16$/, "", wide))
            printf "bench=compare model=%s b=%s bf16=%d float32=%d ratio=%.2f\n", part[1], part[2], ours[key],
                   ours[wide " " part[2]], ours[key] / ours[wide " " part[2]]
        else if (key in theirs)
            printf "bench=compare model=%s b=%s decant=%d torch=%d ratio=%.2f\n", part[1], part[2], ours[key], theirs[key],
                   ours[key] / theirs[key]
    }
}' "$results" | sort
