#!/usr/bin/env bash
# A run's checkpoint does not depend on who computed it: one worker, two, or one with two threads end with the same bytes, for
# both orders of the prototypes' update and for the joint baseline. Another seed does not.
source "$(dirname "$0")/lib.sh"
both=(encoder.safetensors mixture.safetensors)

check "one worker" train one --no-redis --set run.steps=60 --workers 1
check "two workers" train two --no-redis --set run.steps=60 --workers 2
check "one and two workers: same bytes" same one two 000060 "${both[@]}"
check "one worker with two threads" train threads --no-redis --set run.steps=60 --workers 1 --set worker.threads=2
check "one thread and two: same bytes" same one threads 000060 "${both[@]}"
# Where a processor has AVX-512, that and AVX2 agree; elsewhere this repeats the run. The coding rate asks OpenBLAS, whose kernels
# do not: so it is left out here, and the files' fingerprints of the arithmetic differ even so.
equal_tensors() {
    "$decant" verify "$work/$1" "$work/$2" >"$work/out"
    [ "$(grep -cE 'safetensors  (identical|every tensor is equal)' "$work/out")" -eq 2 ] || { cat "$work/out"; return 1; }
}
if "$decant" doctor | grep -q "AVX2 yes"; then
    check "without the coding rate" train best --no-redis --set run.steps=30 --set loss.coding_rate=0 --workers 1
    check "its reports do not have it" bash -c "! grep -q coding_rate '$work/best/metrics-parameter.jsonl'"
    # For this run alone: the caller may have set OPENBLAS_CORETYPE, which the runs before and after then obey.
    with_avx2() { DECANT_KERNELS=avx2 OPENBLAS_CORETYPE=Haswell train "$@"; }
    check "with AVX2 kernels" with_avx2 avx2 --no-redis --set run.steps=30 --set loss.coding_rate=0 --workers 1
    check "the worker says so" grep -q "kernels=avx2 blas=Haswell" "$work/avx2/logs/worker-1.log"
    check "AVX2 and this machine's best: every tensor is equal" equal_tensors best avx2
fi
check "three workers, a private Redis, other checkpoints" train three --set run.steps=60 --workers 3 --set run.checkpoint_every=20
check "neither changes anything: same bytes" same one three 000060 "${both[@]}"
check "checkpoints in between exist" test -s "$work/three/checkpoints/step-000040/mixture.safetensors"

vmf=(--no-redis --set run.steps=30 --set mixture.prototype_lag=0 --set mixture.covariance=vmf --set mixture.init=kmeans++)
check "prototype_lag = 0, von Mises-Fisher components, k-means++, one worker" train lag-one "${vmf[@]}" --workers 1
check "prototype_lag = 0, von Mises-Fisher components, k-means++, two workers" train lag-two "${vmf[@]}" --workers 2
check "prototype_lag = 0, von Mises-Fisher components, k-means++: same bytes" same lag-one lag-two 000030 "${both[@]}"
check "k-means++ placed them" grep -q "event=seeded step=16 components=256 of=256 embeddings=1024" "$work/lag-two/logs/prototype.log"

joint=(--no-redis --set run.steps=30 --set loss.prototypes=joint)
check "joint, one worker" train joint-one "${joint[@]}" --workers 1
check "joint, two workers" train joint-two "${joint[@]}" --workers 2
check "joint: same bytes" same joint-one joint-two 000030 encoder.safetensors
check "joint starts no prototype server" test ! -e "$work/joint-two/logs/prototype.log"

terms=(--no-redis --set run.steps=30 --set loss.objective=dino --set loss.mean_entropy=2 --set loss.coding_rate=1 --set loss.feature_rate=0.1 --set augment.preset=glyphs --set augment.local_crops=2
    --set mixture.balance=0.2 --set loss.balance=0.05)
check "the terms of the loss, prices, turned and local views, one worker" train terms-one "${terms[@]}" --workers 1
check "the terms of the loss, prices, turned and local views, two workers" train terms-two "${terms[@]}" --workers 2
check "the terms of the loss, prices, turned and local views: same bytes" same terms-one terms-two 000030 "${both[@]}"
reports() { grep -qE '"mean_entropy":[0-9.]+,"coding_rate":[0-9.]+,"feature_rate":[0-9.]+' "$work/$1/metrics-parameter.jsonl"; }
check "its reports have the parts" reports terms-one

residual=(--no-redis --set run.steps=6 --set encoder.model=resnet --set encoder.layers=10 --set encoder.width=8 --set encoder.norm=batch)
check "a residual encoder with BatchNorm, one worker" train residual-one "${residual[@]}" --workers 1
check "a residual encoder with BatchNorm, two workers" train residual-two "${residual[@]}" --workers 2 --set worker.threads=2
check "a residual encoder: same bytes" same residual-one residual-two 000006 "${both[@]}"
check "evaluation takes its running statistics" exits 0 "$decant" eval --checkpoint "$work/residual-two" --json --bank 500 --queries 200 --quick

if "$decant" doctor | grep -q "bf16 yes"; then
    narrow=(--no-redis --set run.steps=12 --set encoder.precision=bf16 --set encoder.model=vit --set encoder.depth=2 --set encoder.dim=48 --set encoder.heads=2)
    check "bf16, one worker" train bf16-one "${narrow[@]}" --workers 1
    check "bf16, two workers with two threads" train bf16-two "${narrow[@]}" --workers 2 --set worker.threads=2
    check "bf16: same bytes" same bf16-one bf16-two 000012 "${both[@]}"
    check "bf16: evaluated in float32, whatever the kernels" exits 0 env DECANT_KERNELS=portable "$decant" eval --checkpoint "$work/bf16-two" --json --bank 500 --queries 200 --quick
else
    echo "SKIP: this processor does not multiply bf16"
fi

check "another seed" train seed --no-redis --set run.steps=60 --set run.seed=2
differ() { ! same one seed 000060 "$1"; }
check "another seed: other encoder" differ encoder.safetensors
check "another seed: other mixture" differ mixture.safetensors
finish
