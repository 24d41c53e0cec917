#!/usr/bin/env bash
# Training on images of one's own: a folder of PNG and JPEG files with damage in it, a flat folder, an .npz archive; checks,
# training, evaluation, and what each says when something is missing.
source "$(dirname "$0")/lib.sh"
json() { "$PYTHON" -c "import json, sys; o = json.load(open(sys.argv[1])); assert $1, o" "$work/out"; }
says() { grep -qF -- "$1" "$work/err"; }
prints() { grep -qF -- "$1" "$work/out"; }

"$PYTHON" - "$work" <<'PYTHON_END' || exit 1
import io, os, sys, tarfile
import numpy as np
from PIL import Image
work = sys.argv[1]
rng = np.random.default_rng(1)

def picture(kind, height, width):
    """Horizontal or vertical stripes of a random width and colour, with noise."""
    axis = np.arange(height)[:, None] if kind else np.arange(width)[None, :]
    wave = 0.5 + 0.4 * np.sin(axis * rng.uniform(0.4, 1.2) + rng.uniform(0, 6))
    image = np.broadcast_to(wave, (height, width))[:, :, None] * rng.uniform(120, 255, 3)
    return np.clip(image + rng.normal(0, 10, image.shape), 0, 255).astype(np.uint8)

for kind, name in enumerate(("columns", "rows")):
    os.makedirs(f"{work}/photos/{name}")
    os.makedirs(f"{work}/flat", exist_ok=True)
    for i in range(100):
        image = Image.fromarray(picture(kind, *rng.integers(30, 60, 2)))
        image.save(f"{work}/photos/{name}/{i:03}.{'png' if i % 2 else 'jpg'}")
        if i < 64:
            image.convert("L").save(f"{work}/flat/{name}{i}.png")
with open(f"{work}/photos/rows/002.jpg", "r+b") as f:
    f.truncate(300)
open(f"{work}/photos/rows/new.gif", "wb").write(b"GIF89a")
images = np.stack([picture(i % 2, 32, 32) for i in range(160)])
labels = np.arange(160) % 2
np.savez_compressed(f"{work}/set.npz", x_train=images[:128], y_train=labels[:128], x_test=images[128:], y_test=labels[128:])
os.makedirs(f"{work}/shards")
for name, first, end in (("train-0", 0, 64), ("train-1", 64, 128), ("val-0", 128, 160)):
    with tarfile.open(f"{work}/shards/{name}.tar", "w") as tar:
        for i in range(first, end):
            png = io.BytesIO()
            Image.fromarray(images[i]).save(png, format="PNG")
            for ending, data in (("png", png.getvalue()), ("cls", b"%d" % labels[i])):
                entry = tarfile.TarInfo(f"{i}.{ending}")
                entry.size = len(data)
                tar.addfile(entry, io.BytesIO(data))
np.savez(f"{work}/float.npz", images=images / 255.0)
PYTHON_END

# run DIR ARGUMENT...: a few steps with one worker and the evaluation, into $work/DIR.
run() {
    local out=$work/$1
    shift
    exits 0 timeout 120 "$decant" train --run own --out "$out" --workers 1 --no-redis "${small[@]}" --set run.steps=3 \
        --set run.slot_size=8 --set data.limit=0 "$@"
}

in_work() { (cd "$work" && "$@"); }

check "dataset without PATH" exits 2 "$decant" dataset check
check "dataset of something else" exits 2 "$decant" dataset chek "$work"
check "dataset --help" exits 0 "$decant" dataset --help
check "a path that is not there" exits 1 "$decant" dataset check "$work/absent"
check "it says so" says "$work/absent: No such file or directory"
mkdir "$work/empty"
check "an empty directory" exits 1 "$decant" dataset check "$work/empty"
check "it says what it looked for" says "no PNG, JPEG, WebP, TIFF or netpbm images"
check "an archive of floats" exits 1 "$decant" dataset check "$work/float.npz"
check "it says how to convert them" says "astype('uint8')"
check "two channels are neither grey nor colour" exits 2 "$decant" dataset check "$work/photos" --set data.channels=2
check "images that do not fit" exits 1 "$decant" dataset check "$work/photos" --set data.side=512 --set data.memory=0.01
check "it says how much they need" says "need 0.13 GiB"

check "a folder with two bad files" exits 1 "$decant" dataset check "$work/photos" --json --set data.side=32
check "what it holds" json 'o["format"] == "image folder" and o["channels"] == 3 and o["height"] == o["width"] == 32'
check "its classes" json '[(c["name"], c["train"], c["test"]) for c in o["classes"]] == [("columns", 90, 10), ("rows", 89, 10)]'
check "its size in the files" json '30 <= o["files"]["height_min"] < o["files"]["height_max"] < 60'
check "both bad files" json 'o["problem_count"] == 2 and "new.gif" in o["problems"][0] and "002.jpg: JPEG" in o["problems"][1]'
check "the same for a reader" exits 1 "$decant" dataset check "$work/photos" --set data.side=32
check "it can be pasted" prints "mean = 0."
mean=$(sed -n 's/^mean = //p' "$work/out")
deviation=$(sed -n 's/^deviation = //p' "$work/out")
check "an archive" exits 0 "$decant" dataset check "$work/set.npz" --json
check "has its own test images" json 'o["test"]["images"] == 32 and not o["test"]["held_out"] and o["problem_count"] == 0'

colour=(--set "data.path=$work/photos" --set data.side=32 --set data.mean="$mean" --set data.deviation="$deviation")
check "train on the folder" run photos "${colour[@]}"
check "held-out images evaluate it" prints "20 held-out images"
check "with probes" prints "trained encoder"
check "the bad file is named in the log" grep -q 'event=data_problem .*002.jpg' "$work/photos/logs/worker-1.log"
check "and the set has a fingerprint" grep -qE 'event=loaded format="image folder" images=179 holdout=10 size=32x32x3 .*data=[0-9a-f]{14}' "$work/photos/logs/worker-1.log"
check "a second worker sees the same" run again "${colour[@]}" --workers 2
check "one fingerprint" test "$(cat "$work"/photos/logs/worker-1.log "$work"/again/logs/worker-*.log | grep -oE 'data=[0-9a-f]{14}' | sort -u | wc -l)" -eq 1
check "and the same bytes" same photos again 000003 encoder.safetensors
check "eval" exits 0 "$decant" eval --checkpoint "$work/photos" --json
check "figures of held-out images" json 'o["held_out"] and o["queries"] == 20 and 0 <= o["knn"] <= 100'

# Forty megabytes of images with twenty of memory (libraries need some of these): not without a file.
large=(dataset check /usr/share/datasets/fashion-mnist --json --set data.limit=10000 --set data.side=64)
with_little() { (ulimit -d 20000 && exits "$@"); }
check "a set larger than the allowed memory" with_little 1 "$decant" "${large[@]}"
check "is refused" says "no memory for 10000 images"
check "with a file it is not" with_little 0 "$decant" "${large[@]}" --set data.cache=file --set "data.cache_directory=$work/cache"
check "and is whole" json 'o["train"]["images"] == 10000 and o["train"]["bytes"] > 4e7'
# Without either: a hundred and sixty megabytes, from files in which images can be found.
mkdir "$work/plain"
for file in train-images-idx3-ubyte train-labels-idx1-ubyte; do gunzip -c "/usr/share/datasets/fashion-mnist/$file.gz" >"$work/plain/$file"; done
plain=(dataset check "$work/plain" --json --set data.limit=40000 --set data.side=64)
check "eight times the allowed memory" with_little 1 "$decant" "${plain[@]}"
check "is refused, with what needs less" says "data.cache = file or none needs less"
check "but not when nothing is kept" with_little 0 "$decant" "${plain[@]}" --set data.cache=none
check "and it is whole" json 'o["train"]["images"] == 40000 and o["train"]["bytes"] > 1.6e8'
check "compressed files have no middle" exits 2 "$decant" "${large[@]}" --set data.cache=none
check "it says what to do" says "gunzip it"
cached=("${colour[@]}" --set data.side=64 --set data.memory=0.001 --set data.cache=file --set "data.cache_directory=$work/cache")
check "the folder with less data.memory than it needs" exits 1 "$decant" dataset check "$work/photos" --set data.side=64 --set data.memory=0.001
check "it says how to go on" says "data.cache = file"
check "two workers share a file" run cached "${cached[@]}" --workers 2
check "one decoding for each split" test "$(ls "$work"/cache/*.images | wc -l)" -eq 4
check "in memory it is the same set" run uncached "${colour[@]}" --set data.side=64
check "read when they are wanted it is, too" run wanted "${colour[@]}" --set data.side=64 --set data.memory=0.001 --set data.cache=none --workers 2
check "also with three threads that read far ahead" run ahead "${colour[@]}" --set data.side=64 --set data.cache=none --set worker.threads=3 --set worker.ahead=8
check "one fingerprint" test "$(cat "$work"/{cached,uncached,wanted,ahead}/logs/worker-*.log | grep -oE 'event=loaded .*data=[0-9a-f]{14}' | grep -oE 'data=.*' | sort -u | wc -l)" -eq 1
for other in cached wanted ahead; do
    check "and equal tensors: $other" bash -c "'$decant' verify '$work/$other' '$work/uncached' | grep -c 'every tensor is equal' | grep -qx 2"
done
check "and the same figures" cmp <("$decant" eval --checkpoint "$work/wanted" --json | grep -v '"\(data\|directory\)') <("$decant" eval --checkpoint "$work/uncached" --json | grep -v '"\(data\|directory\)')

# An image that goes while they train: the worker says which, and does not train on something else.
cp -r "$work/photos" "$work/leaving"
timeout -k 5 60 "$decant" train --run own --out "$work/lost" --workers 1 --no-redis --no-eval "${small[@]}" "${colour[@]}" --set "data.path=$work/leaving" \
    --set run.slot_size=8 --set data.limit=0 --set data.side=64 --set data.cache=none --set run.steps=100000 >"$work/lost.log" 2>&1 &
launcher=$!
check "it trains on them" wait_step lost 3
rm "$work"/leaving/columns/0*.png
ended $launcher
check "without them it ends" test $? -eq 1
check "and the worker says which and what to do" grep -qE 'event=failed .*leaving/columns/0..\.png.*put it back' "$work/lost/logs/worker-1.log"

check "a vision transformer on 64 x 64" run vit --set "data.path=$work/photos" --set data.side=64 --set encoder.model=vit \
    --set encoder.patch=16 --set encoder.dim=32 --set encoder.depth=1
check "two sets are one" exits 0 "$decant" dataset check "$work/set.npz:$work/shards" --json --set data.side=32 --set data.channels=3
check "with the images of both" json 'o["train"]["images"] == 256 and o["test"]["images"] == 64 and o["format"] == "several" and len(o["channel_mean"]) == 3'
check "train on both, named from where one is" in_work run both --set data.path=set.npz:shards --set data.side=32 --set data.channels=3
check "the configuration has absolute paths" grep -q "^path = $work/set.npz:$work/shards$" "$work/both/config.ini"
check "train on the archive" run archive --set "data.path=$work/set.npz"
check "its test images evaluate it" prints "32 test images"
check "train on tar shards of the same" run shards --set "data.path=$work/shards"
check "one fingerprint for the same images" test "$(cat "$work"/{archive,shards}/logs/worker-1.log | grep -oE 'event=loaded .*data=[0-9a-f]{14}' | grep -oE 'data=.*' | uniq -d | wc -l)" -eq 1
check "train on a flat folder" run flat --set "data.path=$work/flat" --set data.side=28
check "no labels, no probes" prints "no k-NN and no linear probe: the training images have no labels"
check "but prototypes" prints "active and unique"
check "eval --json has no k-NN" exits 0 "$decant" eval --checkpoint "$work/flat" --json
check "and says why" json 'o["knn"] is None and "no labels" in o["probes_missing"] and o["active"] > 0'
check "nor a look while it goes on" exits 2 "$decant" eval --checkpoint "$work/flat" --note
check "which says why" says "no k-NN: $work/flat has no labels"
check "nothing held out, nothing to test with" run none "${colour[@]}" --set data.holdout=0
check "it says data.holdout" prints "data.holdout"

check "a configuration as shipped" exits 0 "$decant" train --config deploy/configs/images.ini --run ini --out "$work/ini" \
    --workers 1 --no-redis --set "data.path=$work/photos" --set run.steps=2 --set run.slots=2 --set run.slot_size=16 \
    --set mixture.components=256
finish
