#!/usr/bin/env bash
# Faults that no new start heals: a run that diverges, and a configuration that only a worker can find wrong. They are named
# as what they are, end the run at once, and nobody is told to resume what would end the same way.
source "$(dirname "$0")/lib.sh"
wild=(--no-redis --no-eval --workers 2 "${small[@]}" --set data.limit=512 --set run.steps=200 --set run.checkpoint_every=1
    --set optimiser.lr=100 --set optimiser.clip=0 --set optimiser.warmup=40 --set optimiser.epsilon=1e-16
    --set optimiser.beta2=0 --set optimiser.decay=10)
says() { grep -qF -- "$1" "$work/err"; }
silent() { ! grep -qE -- "$1" "$work/err"; }

check "a run that diverges has an exit code of its own" exits 3 timeout 60 "$decant" train --run wild --out "$work/a b" "${wild[@]}"
check "it names the key to change, and its value" says "with a smaller optimiser.lr (it is 100; optimiser.clip = 0 does not clip"
check "it says that a resume would end the same way" says "neither another attempt nor a resume would end differently"
check "it advises none" silent 'decant resume|--resume'
check "nothing was started again" silent 'starting it again|nothing is lost'
check "the newest complete checkpoint is sound" bash -c "'$decant' verify '$work/a b' --step \"\$(sed 's/step-0*//' '$work/a b/checkpoints/latest')\""
check "a resume ends within seconds, with the same code" exits 3 timeout 30 "$decant" resume "$work/a b" --no-redis --no-eval
check "and the same words" says "the run has diverged"
check "a worker alone says it with the same code" bash -c "grep -q 'event=diverged' '$work'/a\ b/logs/worker-*.log"
check "it says goodbye, so that nobody waits for its leases" grep -q 'event=goodbye' "$work/a b/logs/parameter.log"

check "a network that does not fit" exits 2 timeout 60 "$decant" train --run unfit --out "$work/unfit" --no-redis --no-eval --set encoder.widths=8,x
check "is not tried at all" test ! -e "$work/unfit"
check "images that are not there" exits 2 timeout 60 "$decant" train --run blind --out "$work/blind" --no-redis --no-eval --set "data.path=$work/none"
check "are not looked for again" test ! -e "$work/blind"
finish
