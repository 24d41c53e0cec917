#!/usr/bin/env bash
# What is taken out of a run: embeddings as files, nearest images, pictures of prototypes; each checked by NumPy.
source "$(dirname "$0")/lib.sh"
json() { "$PYTHON" -c "import json, sys; o = json.load(open(sys.argv[1])); assert $1, o" "$work/out"; }
says() { grep -qF -- "$1" "$work/err"; }
prints() { grep -qF -- "$1" "$work/out"; }
numpy() { (cd "$work" && "$PYTHON" -c "import numpy as np; $1"); }

"$PYTHON" - "$work" <<'PYTHON_END' || exit 1
import os, sys
import numpy as np
from PIL import Image
work = sys.argv[1]
rng = np.random.default_rng(1)
for kind, name in enumerate(("columns", "rows, \"all\"")):
    os.makedirs(f"{work}/photos/{name}")
    for i in range(60):
        axis = np.arange(32)[:, None] if kind else np.arange(32)[None, :]
        wave = 0.5 + 0.4 * np.sin(axis * rng.uniform(0.4, 1.2) + rng.uniform(0, 6))
        image = np.broadcast_to(wave, (32, 32))[:, :, None] * rng.uniform(120, 255, 3) + rng.normal(0, 10, (32, 32, 3))
        Image.fromarray(np.clip(image, 0, 255).astype(np.uint8)).save(f"{work}/photos/{name}/{i:02}.png")
os.rename(f"{work}/photos/columns/00.png", os.fsencode(f"{work}/photos/columns/") + b"\xff\xc3\xa4.png")
open(f"{work}/photos/columns/bad.png", "wb").write(b"\x89PNG\r\n\x1a\n damaged")
np.savez(f"{work}/set.npz", images=rng.integers(0, 255, (30, 20, 20), dtype=np.uint8))
PYTHON_END
own=(--set "data.path=$work/photos" --set data.side=32 --set data.channels=3 --set data.limit=0 --set run.slot_size=8 --workers 1
    --no-redis --set mixture.components=32 --set loss.block=32
    --set eval.images=50)
check "a run" train a "${own[@]}" --set run.steps=6

for command in embed neighbours import; do
    check "$command --help" exits 0 "$decant" $command --help
    check "$command --help opens with an example" bash -c "head -n 1 '$work/out' | grep -q '^example: decant $command'"
    check "$command without anything" exits 2 "$decant" $command
done
check "embed: a folder" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all.npz"
check "the damaged file is named" says "bad.png"
check "what there is" prints "120 images by step 6: 64 features, 32 projections"
check "the same for csv" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all.csv"
check "and npy" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all.npy"
check "it does not overwrite" exits 2 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all.npy"
check "unless told to" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all.npy" --force
check "no format" exits 2 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/all"
check "nothing is left over" bash -c "! ls '$work' | grep -q inprogress"
check "nowhere to write" exits 1 "$decant" embed --checkpoint "$work/a" "$work/photos" --out "$work/absent/x.npz"
check "is known before the work" says "cannot be written to"

# Several paths, one of them damaged; a folder with images beside its folders; a run by its name.
mkdir -p "$work/mixed/deeper" "$work/runs" && ln -s ../a "$work/runs/named"
cp "$work"/photos/columns/0[1-4].png "$work/mixed" && cp "$work"/photos/columns/0[5-7].png "$work/mixed/deeper"
check "damaged among others" exits 0 "$decant" embed --checkpoint "$work/a" "$work"/photos/columns/{01,bad,02}.png "$work/photos" --out "$work/several.csv"
check "it is named" says "left out: $work/photos/columns/bad.png"
check "the others are there" prints "122 images by step 6"
check "damaged alone" exits 1 "$decant" embed --checkpoint "$work/a" "$work/photos/columns/bad.png" --out "$work/x.csv"
check "not there among others" exits 1 "$decant" embed --checkpoint "$work/a" "$work"/photos/columns/{01,absent}.png --out "$work/x.csv"
check "all below a folder" bash -c "cd '$work' && '$decant' embed --checkpoint named mixed --out mixed.csv >out"
check "those beside its folders, too" prints "7 images by step 6"
cp "$work/photos/columns/03.png" "$work/12:30.png"
check "a colon in a name" exits 0 "$decant" embed --checkpoint "$work/a" "$work/12:30.png" --out "$work/colon.csv"
check "which comes back" grep -q "^$work/12:30.png," "$work/colon.csv"
check "not in a list of sets" exits 2 "$decant" dataset check "$work/12:30.png"
check "says how to write it" says 'in a name write it \:'
check "a port that is none" exits 2 "$decant" dashboard "$work/a" --listen 127.0.0.1:99999
check "its prototypes" exits 0 "$decant" export --checkpoint "$work/a" --what prototypes --out "$work/prototypes.npz"
check "the arrays agree with each other" numpy '
import os
a, p = np.load("all.npz"), np.load("prototypes.npz")["prototypes"]
names = [os.fsencode(n) for n in a["names"].tolist()]
assert len(names) == 120 and all(os.path.isfile(n) for n in names), names[:3]
assert b"\xff\xc3\xa4.png" in [os.path.basename(n) for n in names]
assert [b"rows" in n for n in names] == (a["labels"] == 1).tolist()
z, cosines = a["projections"], a["projections"] @ p.T
assert abs(np.linalg.norm(z, axis=1) - 1).max() < 1e-5 and a["features"].std(0).max() > 0
chosen = cosines[np.arange(120), a["prototypes"]]
assert abs(chosen - a["cosines"]).max() < 1e-5 and (cosines.max(1) - chosen).max() < 1e-5'
check "npy has the same" numpy '
a, b = np.load("all.npz"), np.load("all.npy")
for record, array in (("name", "names"), ("label", "labels"), ("prototype", "prototypes"), ("cosine", "cosines"), ("features", "features"), ("projection", "projections")):
    assert (b[record] == a[array]).all(), record'
check "csv too, to the bit" numpy '
import csv, os
a = np.load("all.npz")
rows = list(csv.reader(open("all.csv", errors="surrogateescape", newline="")))
assert rows[0][:5] == ["name", "label", "prototype", "cosine", "f0"] and rows[0][-1] == "z31" and len(rows) == 121
assert [r[0] for r in rows[1:]] == a["names"].tolist() and [int(r[2]) for r in rows[1:]] == a["prototypes"].tolist()
numbers = np.array([r[3:] for r in rows[1:]], dtype=np.float32)
assert (numbers == np.concatenate([a["cosines"][:, None], a["features"], a["projections"]], 1)).all()'
check "embed: files and sets together" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos/columns/07.png" "$work/set.npz" --out "$work/two.npz"
check "their names, and the same features" numpy '
a, two = np.load("all.npz"), np.load("two.npz")
assert two["names"][0].endswith("photos/columns/07.png") and two["names"][1].endswith("set.npz#0") and len(two["names"]) == 31 and "labels" not in two
assert abs(two["features"][0] - a["features"][a["names"].tolist().index(two["names"][0])]).max() < 1e-4'
check "embed: test images" exits 0 "$decant" embed --checkpoint "$work/a" "$work/photos" --split test --out "$work/test.npz"
check "those held out, but the damaged one" prints "11 images"
check "embed: nothing there" exits 1 "$decant" embed --checkpoint "$work/a" "$work/absent" --out "$work/x.npz"
check "embed: a file of something else" exits 1 "$decant" embed --checkpoint "$work/a" "$work/all.csv" --out "$work/x.npz"
check "embed: a damaged file" exits 1 "$decant" embed --checkpoint "$work/a" "$work/photos/columns/bad.png" --out "$work/x.npz"
check "it is named" says "bad.png: PNG"
check "none of these wrote anything" test ! -e "$work/x.npz"

check "neighbours" exits 0 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" "$work/photos/columns/09.png" --count 5 --json --sheet "$work/near.png"
check "as NumPy finds them" numpy '
import json
o, a = json.load(open("out")), np.load("all.npz")
unit = a["features"] / np.linalg.norm(a["features"], axis=1, keepdims=True)
names = a["names"].tolist()
assert o["by"] == "features" and len(o["queries"]) == 2
for q in o["queries"]:
    cosines = unit @ unit[names.index(q["name"])]
    assert q["neighbours"][0]["name"] == q["name"] and abs(q["neighbours"][0]["cosine"] - 1) < 1e-5
    best = np.sort(cosines)[::-1][:5]
    assert [abs(n["cosine"] - c) < 1e-4 and abs(cosines[names.index(n["name"])] - c) < 1e-4 for n, c in zip(q["neighbours"], best)] == [True] * 5'
check "and a picture" "$PYTHON" -c "from PIL import Image; i = Image.open('$work/near.png'); assert i.size[0] == 24 + 6 * 70 - 6 and i.size[1] == 24 + 2 * 100, i.size"
check "as a table, by projections" exits 0 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" --by projections --count 1
check "itself first" grep -qE '^   1   [01]\.[0-9]{6}  columns .*columns/07.png$' "$work/out"
check "elsewhere" exits 0 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" --in "$work/set.npz" --count 31
check "all that there is" bash -c "[ \"\$(grep -c 'set.npz#' '$work/out')\" -eq 30 ]"
check "neighbours does not overwrite" exits 2 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" --sheet "$work/near.png"
check "too many" exits 2 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" --count 32

check "a sheet that is no PNG file by its name" exits 2 "$decant" neighbours --checkpoint "$work/a" "$work/photos/columns/07.png" --sheet "$work/x.jpg"
check "a sheet of prototypes" exits 0 "$decant" prototypes --out "$work/a" --sheet "$work/prototypes.png" --limit 4 --images 100
check "its size" "$PYTHON" -c "from PIL import Image; i = Image.open('$work/prototypes.png'); assert i.size == (24 + 9 * 70 - 6, 24 + 4 * 100), i.size"
check "it does not overwrite" exits 2 "$decant" prototypes --out "$work/a" --sheet "$work/prototypes.png"
check "a sheet from Redis" exits 2 "$decant" prototypes --redis localhost:1 --sheet "$work/x.png"
check "images without a sheet" exits 2 "$decant" prototypes --out "$work/a" --images 5
check "from images that are not there" exits 1 "$decant" prototypes --out "$work/a" --sheet "$work/x.png" --data "$work/absent"

mv "$work/photos" "$work/elsewhere"
check "the run's own images are gone" exits 1 "$decant" prototypes --out "$work/a" --sheet "$work/x.png"
check "it says how to name others" says "the run's own images: $work/photos: No such file or directory; --data names others"
check "to an evaluation, too" exits 1 "$decant" eval --checkpoint "$work/a"
check "which says it likewise" says "--data names others"
mv "$work/elsewhere" "$work/photos"

# Beginning with the encoder and the mixture of that run: another number of prototypes, two stages frozen.
given=("${own[@]}" --set run.steps=4 --set run.checkpoint_every=2 --set mixture.components=64 --set "encoder.init=$work/a"
    --set "mixture.init=$work/a/checkpoints" --set encoder.freeze=2)
check "a run that begins with it" train b "${given[@]}"
check "what was taken is said at once" says "event=init path="
check "which is not frozen running statistics" bash -c "! grep -q init_frozen '$work/err'"
check "given weights that are not there" exits 2 "${train_command[@]}" --out "$work/never" "${given[@]}" --set "mixture.init=$work/photos"
check "the key is named" says "mixture.init = $work/photos"
check "no place for decoded images" exits 2 timeout 60 "${train_command[@]}" --out "$work/never" "${own[@]}" --set data.cache=file --set data.cache_directory=/dev/null
check "that key is named" says "set data.cache_directory"
check "and nothing is left behind" test ! -e "$work/never"
taken() { grep -qE "event=init .*taken=$1" "$work/$2/logs/parameter.log"; }
check "every tensor but none of the optimiser's" taken '[0-9]+ absent=0 other_shape=0 skipped=0 unused=0' b
check "its components, in a larger mixture" grep -q 'event=init .*components=32 of=64' "$work/b/logs/prototype.log"
tensors() { "$PYTHON" - "$work" "$1" <<'END'
import json, sys
def read(path):
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8:8 + n])
    return header.pop("__metadata__"), {k: raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]] for k, v in header.items()}
work, check = sys.argv[1:]
_, a = read(f"{work}/a/checkpoints/step-000006/encoder.safetensors")
meta, b = read(f"{work}/b/checkpoints/step-000004/encoder.safetensors")
mixture, _ = read(f"{work}/b/checkpoints/step-000004/mixture.safetensors")
assert eval(check), sorted(k for k in b if k.startswith("teacher") and b[k] == a.get(k))
END
}
check "frozen: student and teacher are that teacher" tensors 'all(b[f"{who}.{n}"] == a[f"teacher.{n}"] for who in ("student", "teacher") for n in ("conv1.weight", "norm1.bias", "conv2.weight"))'
check "the rest has moved" tensors 'b["teacher.conv3.weight"] != a["teacher.conv3.weight"] and b["teacher.head.linear1.weight"] != a["teacher.head.linear1.weight"]'
check "the files say where they began" tensors 'len(meta["init"]) == 14 and len(mixture["init"]) == 14 and meta["init"] != mixture["init"]'
cp -r "$work/b" "$work/whole"
rm -r "$work/b/checkpoints/step-000004"
echo step-000002 >"$work/b/checkpoints/latest"
mv "$work/a" "$work/gone"
check "resumed, it needs that run no more" exits 0 timeout 120 "$decant" resume "$work/b" --no-redis --no-eval --workers 1
check "the same bytes" exits 0 "$decant" verify "$work/b" "$work/whole" --step 4
mv "$work/gone" "$work/a"
check "another architecture" exits 1 timeout 120 "${train_command[@]}" --out "$work/d" "${given[@]}" --set encoder.widths=16,32 --set head.hidden=96 --set mixture.dimensions=16 --set mixture.init= --set encoder.freeze=0
check "nothing fits, and it says so" grep -q "no tensor of $work/a/.* fits this encoder" "$work/d/logs/parameter.log"

# Evaluation while training: a process of its own, which changes nothing.
check "a run that is evaluated" train f "${own[@]}" --set run.steps=6 --set eval.every=2 --set run.checkpoint_every=2
check "the same bytes as without" same a f 000006 encoder.safetensors mixture.safetensors
check "its end is noted" says "k-NN of 50 images:"
check "a line in its metrics" "$PYTHON" -c "import json; lines = [json.loads(l) for l in open('$work/f/metrics-eval.jsonl')]; assert lines[-1]['step'] == 6 and lines[-1]['bank'] == 50 and lines[-1]['queries'] == 11 and lines[-1]['best'] >= lines[-1]['knn'] >= 0, lines"
check "nothing is pinned any more" test ! -e "$work/f/checkpoints/candidate"
evaluated() {
    "${train_command[@]}" --out "$work/g" "${own[@]}" --set run.steps=1000000 --set run.checkpoint_every=20 --set run.checkpoint_keep=1 \
        --set eval.every=20 >"$work/out" 2>"$work/err" &
    local pid=$!
    for _ in $(seq 600); do
        [ "$(wc -l <"$work/g/metrics-eval.jsonl" 2>/dev/null || echo 0)" -ge 1 ] && break || sleep 0.1
    done
    "$decant" stop "$work/g"
    ended $pid
    [ -s "$work/g/metrics-eval.jsonl" ]
}
check "a look at a run that goes on" evaluated
check "the best step is kept, although it is not among the newest" bash -c "test -s '$work/g/checkpoints/'\"\$(cut -d ' ' -f 1 '$work/g/checkpoints/best')\"/encoder.safetensors"
check "and can be named" exits 0 "$decant" embed --checkpoint "$work/g/checkpoints/best" "$work/photos/columns/07.png" --out "$work/best.csv"
check "top shows it" exits 0 "$decant" top --out "$work/g" --once
check "with the best" grep -qE 'k-NN % .* best [0-9.]+ at step [0-9]+' "$work/out"
check "plot draws it" exits 0 "$decant" plot --checkpoint "$work/g" --out "$work/pictures"
check "as a file" test -s "$work/pictures/knn.svg"
check "a look by hand" exits 0 "$decant" eval --checkpoint "$work/f" --note --bank 40
check "of as many images" prints "(40 images, 11 queries); best: step 6"
check "of a single step elsewhere" bash -c "cp -r '$work/f/checkpoints/step-000006' '$work/alone' && ! '$decant' eval --checkpoint '$work/alone' --note 2>'$work/err'"
check "there is nowhere to note it" says "is not a step in a run's directory"
check "--note alone" exits 2 "$decant" eval --checkpoint "$work/f" --note --json

# ONNX: every family, both poolings, both norms, on 20 images.
photos=("$work"/photos/columns/0[1-9].png "$work"/photos/rows*/0*.png)
onnx() { # onnx RUN
    exits 0 "$decant" export --checkpoint "$work/$1" --out "$work/$1.onnx" &&
        exits 0 "$decant" embed --checkpoint "$work/$1" "${photos[@]}" --out "$work/$1.npz" &&
        "$PYTHON" tests/e2e/onnx_check.py "$work/$1.onnx" "$work/$1.npz"
}
vit=("${own[@]}" --set data.mean=.3,.4,.5 --set data.deviation=.2,.25,.3 --set encoder.model=vit --set encoder.patch=8 --set encoder.dim=32 --set encoder.depth=2 --set run.steps=4)
check "ONNX: a convolutional encoder" onnx a
check "a transformer" train cls "${vit[@]}" --set encoder.pool=cls
check "ONNX: its CLS token" onnx cls
check "another" train mean "${vit[@]}" --set encoder.pool=mean --set encoder.mlp=3
check "ONNX: the mean of its tokens" onnx mean
resnet=("${own[@]}" --set encoder.model=resnet --set encoder.layers=10 --set encoder.width=8 --set run.steps=4)
check "a residual network" train group "${resnet[@]}" --set encoder.groups=4
check "ONNX: with GroupNorm" onnx group
check "another" train batch "${resnet[@]}" --set encoder.norm=batch
check "ONNX: with BatchNorm" onnx batch
check "for larger images" exits 0 "$decant" export --checkpoint "$work/a" --side 48 --out "$work/large.onnx"
check "it says so" prints "images (N,3,48,48) to 64 features and 32 projections, opset 13"
check "which a transformer does not take" exits 2 "$decant" export --checkpoint "$work/cls" --side 48 --out "$work/x.onnx"
check "for its positions" says "learnt positions for 32 x 32 pixels"
check "--side is for ONNX" exits 2 "$decant" export --checkpoint "$work/a" --side 48 --out "$work/x.npz"

# Hugging Face's ViTModel, there and back.
check "as a ViTModel" exits 0 "$decant" export --checkpoint "$work/cls" --format huggingface --out "$work/vit"
check "not over another" exits 2 "$decant" export --checkpoint "$work/cls" --format huggingface --out "$work/vit"
check "unless told to" exits 0 "$decant" export --checkpoint "$work/cls" --format huggingface --out "$work/vit" --force
check "what is no ViTModel" exits 1 "$decant" import "$work/a" --out "$work/x.safetensors"
check "needs none" says "encoder.init takes it as it is"
check "computed by its description" "$PYTHON" tests/e2e/vit_check.py "$work/vit" "$work/cls.npz"
check "not of the mean of tokens" exits 2 "$decant" export --checkpoint "$work/mean" --format huggingface --out "$work/vit-mean"
check "it says what is" says "--format onnx"
check "back" exits 0 "$decant" import "$work/vit" --out "$work/back.safetensors"
check "with the configuration" bash -c "grep -qx 'heads = 4' '$work/out' && grep -qx 'patch = 8' '$work/out' && grep -qx 'depth = 2' '$work/out'"
check "the same tensors" exits 0 "$decant" export --checkpoint "$work/cls" --out "$work/cls.safetensors"
check "to the bit" numpy '
import json
def read(path):
    raw = open(path, "rb").read()
    n = int.from_bytes(raw[:8], "little")
    return {k: (v["shape"], raw[8 + n + v["data_offsets"][0]:8 + n + v["data_offsets"][1]]) for k, v in json.loads(raw[8:8 + n]).items() if k != "__metadata__"}
ours, back = read("cls.safetensors"), read("back.safetensors")
assert len(back) == 30 and all(ours[k] == back[k] for k in back) and all(k.startswith("head.") for k in set(ours) - set(back)), set(ours) - set(back)'
check "import of something else" exits 1 "$decant" import "$work/cls.safetensors" --out "$work/x.safetensors"
check "import says what is missing" says "no ViTModel: embeddings.patch_embeddings"
check "import does not overwrite" exits 2 "$decant" import "$work/vit" --out "$work/back.safetensors"
finish
