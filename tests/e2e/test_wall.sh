#!/usr/bin/env bash
# The wall: the prototype server has no code that could follow a gradient, the parameter server none that knows a mixture, and the
# encoder of a decoupled run has no prototype among its parameters.
source "$(dirname "$0")/lib.sh"

lacks() { # BINARY PATTERN: no function of ours in it matches
    nm --defined-only "$BUILD/bin/$1" | awk '{print $3}' >"$work/symbols"
    test -s "$work/symbols" && ! grep -E "$2" "$work/symbols"
}
has() { nm --defined-only "$BUILD/bin/$1" | awk '{print $3}' | grep -qE "$2"; }

check "prototype server: no optimiser" lacks decant-prototype '^optimiser_'
check "prototype server: no loss" lacks decant-prototype '^loss_'
check "prototype server: no network" lacks decant-prototype '^(model|conv|linear|batchnorm|groupnorm|encoder|head)_'
check "parameter server: no mixture" lacks decant-parameter '^mixture_(new|fold|start|restore|view|apply)'
check "parameter server: no E-step, loss or network" lacks decant-parameter '^(estep|loss|model)_'
check "the patterns do find things: optimiser" has decant-parameter '^optimiser_'
check "the patterns do find things: mixture" has decant-prototype '^mixture_(new|fold|start)'
check "the patterns do find things: loss and network" has decant-worker '^(loss|model)_'

manifest() { # DIR: names of the trained parameters
    "$PYTHON" - "$work/$1/checkpoints" <<'PY'
import json, struct, sys
directory = sys.argv[1] + "/" + open(sys.argv[1] + "/latest").read().strip()
data = open(directory + "/encoder.safetensors", "rb").read()
n = struct.unpack("<Q", data[:8])[0]
begin, end = json.loads(data[8:8 + n])["manifest"]["data_offsets"]
for p in json.loads(data[8 + n + begin:8 + n + end])["parameters"]:
    print(p["name"])
PY
}
names() { manifest "$1" >"$work/names" && test -s "$work/names" && grep -c prototype "$work/names" | grep -qx "$2"; }
check "a decoupled run" train decoupled --no-redis --set run.steps=4
check "decoupled: no prototype among the parameters" names decoupled 0
check "a joint run" train joint --no-redis --set run.steps=4 --set loss.prototypes=joint
check "joint: prototypes are parameters" names joint 1
check "joint: no mixture file" test ! -e "$work/joint/checkpoints/step-000004/mixture.safetensors"
finish
