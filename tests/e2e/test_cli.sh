#!/usr/bin/env bash
# The command line: exit codes, help, suggestions, refusals, and machine-readable output.
source "$(dirname "$0")/lib.sh"
json() { "$PYTHON" -c "import json, sys; o = json.load(open(sys.argv[1])); assert $1, o" "$work/out"; }
says() { grep -qF -- "$1" "$work/err"; }

check "no command: usage" exits 2 "$decant"
check "unknown command" exits 2 "$decant" trian
check "it suggests train" says "did you mean 'train'"
check "nothing near: no suggestion" exits 2 "$decant" xyzzyplugh
check "none given" bash -c "! grep -q 'did you mean' '$work/err'"
for command in train stop eval status prototypes dataset config; do
    check "$command --help" exits 0 "$decant" $command --help
    check "$command --help opens with an example" bash -c "head -n 1 '$work/out' | grep -q '^example: decant $command'"
    check "$command: unknown option" exits 2 "$decant" $command --no-such-option
done
check "help train is train --help" exits 0 "$decant" help train
check "version" exits 0 "$decant" version
check "version is a number" grep -qE '^decant [0-9]+\.[0-9]+\.[0-9]+, protocol [0-9]+$' "$work/out"
for program in decant decant-parameter decant-prototype decant-worker; do
    check "$program --version" bash -c "diff <('$BUILD/bin/$program' --version) <('$decant' version | sed 's/^decant/$program/')"
done
check "a stray argument" exits 2 "$decant" train now
check "a bad number of workers" exits 2 "$decant" train --workers none
check "both --redis and --no-redis" exits 2 "$decant" train --redis localhost:1 --no-redis
check "a bad address" exits 2 "$decant" train --out "$work/never" --redis host:port
check "an unknown key" exits 2 "$decant" train --out "$work/never" --set run.sead=1
check "it suggests run.seed" says run.seed
check "unknown kernels" exits 2 env DECANT_KERNELS=sse9 "$decant" train --out "$work/never"
check "it says what is possible" says "DECANT_KERNELS=sse9: this machine can use portable"
check "bf16 where it cannot be multiplied" exits 2 env DECANT_KERNELS=portable "$decant" train --out "$work/never" --no-redis --set encoder.precision=bf16
check "it says what to do" says "set encoder.precision = float32"
check "doctor says so, too" exits 1 env DECANT_KERNELS=portable "$decant" doctor --set encoder.precision=bf16
check "and why" grep -q "^fail *cpu .*encoder.precision = bf16" "$work/out"
check "a worker refuses it" exits 2 env DECANT_KERNELS=portable "$BUILD/bin/decant-worker" --set encoder.precision=bf16
check "a worker with unknown kernels" exits 2 env DECANT_KERNELS=sse9 "$BUILD/bin/decant-worker"
check "a value out of range" exits 2 "$decant" train --out "$work/never" --set run.slots=0
check "a block that does not divide K" exits 2 "$decant" train --out "$work/never" --set mixture.components=100
check "a missing configuration file" exits 2 "$decant" train --out "$work/never" --config "$work/absent.ini"
check "none of these made a directory" test ! -e "$work/never"
check "eval without a checkpoint" exits 2 "$decant" eval
check "eval of a directory without one" exits 1 "$decant" eval --checkpoint "$work"
check "it says what a checkpoint looks like" says latest
check "status of a run that is not there" exits 1 "$decant" status --out "$work/absent"
check "a Redis that is not there" exits 1 "$decant" status --redis 127.0.0.1:1

"$decant" config >"$work/default.ini"
check "data that only a worker can miss" exits 2 timeout 60 "$decant" train --run short --out "$work/never" --no-redis --set data.path="$work/absent"
check "it names the directory" grep -q "$work/absent" "$work/err"
check "an encoder that does not exist" exits 2 timeout 60 "$decant" train --run short --out "$work/never" --no-redis --set encoder.widths=8,x
check "it names the key" grep -q "encoder.widths" "$work/err"
check "neither made a directory" test ! -e "$work/never"
check "config prints an INI file" exits 0 "$decant" config
cp "$work/out" "$work/default.ini"
sed 's/^preset = custom/preset = photos/' "$work/default.ini" >"$work/photos.ini"
check "a preset chosen in it" exits 2 "$decant" train --out "$work/preset" --config "$work/photos.ini" --set augment.area_max=0.1
check "takes effect" says "augment.area_min = 0.2 is larger than"
check "a short run from that file, with evaluation" exits 0 "$decant" train --config "$work/default.ini" --run short \
    --out "$work/short" "${small[@]}" --set run.steps=8 --set eval.bank=2000 --set eval.queries=1000 --no-redis
check "the table names the references" grep -q 'random encoder' "$work/out"
check "without them" exits 0 timeout 120 "$decant" resume "$work/short" --no-references --no-redis --workers 1
check "the encoder is there" grep -q 'trained encoder' "$work/out"
check "and they are not" bash -c "! grep -qE 'random encoder|raw pixels' '$work/out'"
check "it refuses to overwrite" exits 1 "$decant" train --run short --out "$work/short" "${small[@]}" --set run.steps=8
check "and says --resume" says --resume
check "eval --json" exits 0 "$decant" eval --checkpoint "$work/short" --json
check "it has the figures" json 'o["step"] == 8 and 20 < o["knn"] <= 100 and 20 < o["linear"] <= 100 and len(o["unique"]) == 4 and 0 < o["active"] <= 100'
check "all of them" json '20 < o["ridge"] <= 100 and 20 < o["knn_projections"] <= 100 and 0 < o["prototype_classifier"] <= 100 and 0 < o["nmi"] < o["purity"] < 1 and o["classes"] == 10'
check "thirds of the classes" json "all(sum(o['thirds'][k]) == n for k, n in (('classes', 10), ('images', 60000))) and all(o['thirds'][k] is not None and len(o['thirds'][k]) == 3 for k in o['macro'])"
check "means over classes" json 'sorted(o["macro"]) == ["knn", "knn_projections", "linear", "prototype_classifier", "ridge"] and all(abs(o["macro"][k] - o[k]) < 5 for k in o["macro"])'
check "few-shot" json '10 < o["few_shot"]["0.01"]["mean"] < o["few_shot"]["0.1"]["mean"] and o["few_shot"]["0.1"]["images"] < 220 and o["few_shot"]["0.1"]["draws"] == 5'
check "ranks and perplexities" json '1 < o["effective_rank"]["features"] < 64 and 1 < o["effective_rank"]["projections"] < 32 and 1 < o["perplexity"] < 256 and 1 < o["usage_perplexity"] <= 256'
cp "$work/out" "$work/first.json"
check "eval --quick" exits 0 "$decant" eval --checkpoint "$work/short" --json --quick
check "no logistic regression, the rest as before" json "o['linear'] is None and o['macro']['linear'] is None and o['ridge'] == json.load(open('$work/first.json'))['ridge']"
check "the table says so" bash -c "'$decant' eval --checkpoint '$work/short' --quick | grep -qE 'trained encoder +[0-9.]+ +- +[0-9.]+'"
"$PYTHON" - "$work/other.npz" "$work/many.npz" <<'END'
import sys, numpy
r = numpy.random.default_rng(1)
label = numpy.arange(90) % 3
images = numpy.clip(r.normal(128, 30, (90, 20, 24, 3)) + 90 * (numpy.arange(24)[None, None, :, None] // 8 == label[:, None, None, None]), 0, 255)
numpy.savez(sys.argv[1], x_train=images[:60].astype("u1"), y_train=label[:60], x_test=images[60:].astype("u1"), y_test=label[60:])
many = r.integers(0, 255, (16484, 8, 8), "u1")
numpy.savez(sys.argv[2], x_train=many[:16384], y_train=numpy.arange(16384) % 4096, x_test=many[16384:], y_test=numpy.arange(100))
END
check "eval --data of another size, in colour" exits 0 "$decant" eval --checkpoint "$work/short" --json --data "$work/other.npz"
check "its classes, told apart, logistic regression too" json 'o["classes"] == 3 and o["bank"] == 60 and o["queries"] == 30 and o["knn"] > 60 and o["ridge"] > 60 and o["linear"] > 60'
check "eval of 4096 classes" bash -c "'$decant' eval --checkpoint '$work/short' --data '$work/many.npz' --bank 16384 >'$work/out' 2>'$work/err'"
check "logistic regression would take minutes" grep -q 'left out: --linear computes it' "$work/out"
check "ridge regression does not" grep -qE 'trained encoder +[0-9.]+ +- +[0-9.]+' "$work/out"
check "eval of the step's directory, references" exits 0 "$decant" eval --checkpoint "$work/short/checkpoints/step-000008" --json --references
check "references beside it" json '60 < o["references"]["pixels"]["knn"] < 90 and 40 < o["references"]["random"]["linear"] < 90'
check "the same figures again" json "o['knn'] == json.load(open('$work/first.json'))['knn'] and o['linear'] == json.load(open('$work/first.json'))['linear']"
cp -r "$work/short" "$work/twin"
check "eval of two runs" exits 0 "$decant" eval "$work/short" "$work/twin" --quick --references
check "a column for each, and the references" grep -qE '^ +A +B +pixels +random$' "$work/out"
check "the same figures in both" bash -c "grep -qE '^  k-NN % +([0-9.]+) +\\1 +[0-9.]+ +[0-9.]+$' '$work/out' && grep -qE '^  active % +([0-9.]+) +\\1$' '$work/out'"
check "as JSON" exits 0 "$decant" eval "$work/short" "$work/twin" --quick --json
check "an array of two, as of one alone" json "len(o) == 2 and all(x['knn'] == json.load(open('$work/first.json'))['knn'] for x in o)"
check "one of two that is not there" exits 1 "$decant" eval "$work/short" "$work/absent" --quick
check "says which" says absent
check "before it looks at the first" bash -c "! grep -q '1 of 2' '$work/err'"
check "--note takes one" exits 2 "$decant" eval "$work/short" "$work/twin" --note
check "an option and arguments" exits 2 "$decant" eval "$work/short" "$work/twin" --checkpoint "$work/short"
rm -r "$work/twin"
check "eval --bank --queries" exits 0 "$decant" eval --checkpoint "$work/short" --json --bank 500 --queries 100
check "as many as asked for" json 'o["bank"] == 500 and o["queries"] == 100'
check "status from the checkpoint" exits 0 "$decant" status --out "$work/short" --json
check "its step" json 'o["step"] == 8 and o["K"] == 256'
check "prototypes from the checkpoint" exits 0 "$decant" prototypes --out "$work/short" --json --sort nearest --limit 5
check "five, nearest first" json 'len(o["prototypes"]) == 5 and o["prototypes"][0]["cosine"] >= o["prototypes"][4]["cosine"]'

printf 'not a checkpoint' >"$work/short/checkpoints/step-000008/encoder.safetensors"
check "a damaged checkpoint is refused" exits 1 "$decant" eval --checkpoint "$work/short"

documented() { # every key with its default, as in the table of docs/OPERATIONS.md
    awk -F ' = ' '/^\[/ {gsub(/[][]/, ""); section = $0} / = / && !/^#/ {sub(/^;/, ""); printf "| `%s.%s` | %s|\n", section, $1, $2 == "" ? "" : "`" $2 "` "}' "$work/default.ini" >"$work/keys"
    test "$(wc -l <"$work/keys")" -gt 60 || return 1
    while IFS= read -r row; do
        grep -qF -- "$row" docs/OPERATIONS.md || { echo "docs/OPERATIONS.md lacks: $row"; return 1; }
    done <"$work/keys"
    test "$(sed -n '/^## Configuration/,/^## Files/p' docs/OPERATIONS.md | grep -cE '^\| `[a-z]+\.[a-z0-9_]+` \|')" -eq "$(wc -l <"$work/keys")"
}
check "docs/OPERATIONS.md lists every key with its default, and no other" documented
finish
