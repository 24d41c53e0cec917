#!/usr/bin/env bash
# The grid of joint against decoupled runs, in miniature: it goes on after a Ctrl-C, skips what is done, gives the same tables
# again, and its page needs nothing else.
cd "$(dirname "$0")/../.." || exit 1
source tests/e2e/lib.sh
# A tree of its own, with another image set that encoders are tried on.
mkdir -p "$work/tree/examples" "$work/tree/datasets"
cp -r examples/reproduce "$work/tree/examples/"
"$PYTHON" - "$work/tree/datasets/icons.npz" <<'PY'
import sys, numpy
r = numpy.random.default_rng(1)
label = numpy.arange(150) % 3
images = numpy.clip(r.normal(90, 20, (150, 16, 16, 3)) + 60 * label[:, None, None, None], 0, 255).astype("u1")
numpy.savez(sys.argv[1], x_train=images[:90], y_train=label[:90], x_test=images[90:], y_test=label[90:])
PY
reproduce=(env -u PRESET "$PYTHON" "$work/tree/examples/reproduce/reproduce" --preset mini --programs "$BUILD/bin")
made=$work/results/mini

# A shell without job control has what it starts in the background ignore SIGINT.
env --default-signal=INT setsid "${reproduce[@]}" --out "$work/results" >"$work/first" 2>&1 &
first=$!
for _ in $(seq 600); do
    [ "$(find "$made/runs" -name outcome.json 2>/dev/null | wc -l)" -ge 1 ] && break
    sleep 0.1
done
kill -INT -- "-$first" # the whole group, as a terminal does
ended "$first"
check "a Ctrl-C ends it with 130" test $? -eq 130
check "... and says how to go on" grep -q 'the same command goes on' "$work/first"
kept=$(find "$made/runs" -name outcome.json | head -n 1)
before=$(stat -c %Y.%i "$kept")
check "the same command goes on to its end" exits 0 "${reproduce[@]}" --out "$work/results"
check "... and leaves alone what was done" test "$(stat -c %Y.%i "$kept")" = "$before"
check "every run has its evaluation" test "$(find "$made/runs" -name outcome.json | wc -l)" -eq 4
cp "$made/tables.md" "$work/tables"
cp "$kept" "$work/outcome"
"$PYTHON" -c 'import json, sys; o = json.load(open(sys.argv[1])); del o["transfer"]; json.dump(o, open(sys.argv[1], "w"))' "$kept"
check "an outcome of a version without that is completed" exits 0 "${reproduce[@]}" --out "$work/results"
check "... to what it was" cmp "$kept" "$work/outcome"
check "a call with all done says the same" exits 0 "${reproduce[@]}" --out "$work/results"
check "... in the same table" cmp "$made/tables.md" "$work/tables"

# The figures of the table are those of the evaluations, by another way: jq-less, with Python's own reader.
check "the table has the mean of both seeds" "$PYTHON" - "$made" <<'PY'
import json, pathlib, re, statistics, sys
made = pathlib.Path(sys.argv[1])
knn = [json.loads(p.read_text())["eval"]["knn"] for p in made.glob("runs/*-decoupled-terms-*/outcome.json")]
row = next(l for l in (made / "tables.md").read_text().splitlines() if l.startswith("| dino, decoupled + terms"))
said = [float(x) for x in re.findall(r"[\d.]+", row.split("|")[3])]
assert len(knn) == 2 and said == [round(statistics.mean(knn), 1), round(statistics.stdev(knn), 1)], (knn, row)
PY
check "encoders are tried on the other set" "$PYTHON" - "$made" <<'PY'
import json, pathlib, re, statistics, sys
made = pathlib.Path(sys.argv[1])
there = [json.loads(p.read_text())["transfer"] for p in made.glob("runs/*-decoupled-terms-*/outcome.json")]
assert all(list(t) == ["icons"] and 34 < t["icons"]["knn"] <= 100 and t["icons"]["ridge"] > 34 for t in there), there
lines = (made / "tables.md").read_text().splitlines()
column = lines[2].split("|").index(" k-NN on the other sets ")
row = next(l for l in lines if l.startswith("| dino, decoupled + terms")).split("|")
assert float(row[column].split()[0]) == round(statistics.mean(t["icons"]["knn"] for t in there), 1), (row, there)
PY
check "... which the table names" grep -qx 'The other sets: icons.' "$made/tables.md"
check "raw pixels stand beside them" grep -q '^| raw pixels .*[0-9]' "$made/tables.md"
check "the page needs nothing from outside" bash -c '! grep -Eo "(src|href)=.[a-z]" "$1"' _ "$made/report.html"
check "... and shows both rings and both figures" test "$(grep -o '<svg' "$made/report.html" | wc -l)" -eq 4
check "a preset that is not there is refused" exits 2 env PRESET=seed "${reproduce[@]:3:2}" --out "$work/results"
check "... unless another one is asked for" exits 0 env PRESET=seed "${reproduce[@]:3}" --out "$work/results"
check "a damaged installation is named" exits 2 "${reproduce[@]}" --out "$work/results" --programs "$work"
check "... with what to do" grep -q 'make' "$work/err"
finish
