#!/usr/bin/env bash
# A FIFO in the place of any file that is read or written: a message, never a command that waits for the other side. (A directory,
# socket or device is refused by the same function, which tests/unit/common/test_files.c tries with each.)
source "$(dirname "$0")/lib.sh"
hang_s=30 # `timeout` ends what waits, with 124

# says CODE WORDS COMMAND...: ends by itself with that code, and the words are in what it says.
says() {
    local code=$1 words=$2
    shift 2
    exits "$code" timeout "$hang_s" "$@" || return 1
    cat "$work/out" "$work/err" | grep -qF -- "$words" || { cat "$work/out" "$work/err"; return 1; }
}
fifo="it is a FIFO, not a regular file"
# ends COMMAND...: by itself, well or with a message.
ends() {
    timeout "$hang_s" "$@"
    [ $? -ne 124 ]
}
# instead FILE: a FIFO in its place; back FILE: what was there.
instead() { mv "$1" "$1.kept" 2>/dev/null; mkfifo "$1"; }
back() { rm "$1" && if [ -e "$1.kept" ]; then mv "$1.kept" "$1"; fi; }

check "a run" train a --set run.steps=4 --set run.checkpoint_every=2 --no-redis
step=$work/a/checkpoints/step-000004

mkfifo "$work/fifo"
check "--config" says 2 "$fifo" "$decant" train --config "$work/fifo"
check "a server's --config" says 2 "$fifo" "$BUILD/bin/decant-parameter" --config "$work/fifo"
check "a worker's --config" says 2 "$fifo" "$BUILD/bin/decant-worker" --config "$work/fifo"

instead "$work/a/config.ini"
check "config.ini: resume" says 2 "$fifo" "$decant" resume "$work/a" --no-redis --no-eval
check "config.ini: status" ends "$decant" status --out "$work/a"
back "$work/a/config.ini"

instead "$work/a/checkpoints/latest"
check "latest: export" says 1 "$fifo" "$decant" export --checkpoint "$work/a" --out "$work/x.npz"
check "latest: status" ends "$decant" status --out "$work/a"
back "$work/a/checkpoints/latest"

for file in encoder mixture; do
    instead "$step/$file.safetensors"
    check "$file.safetensors: export" says 1 "$fifo" "$decant" export --checkpoint "$work/a" \
        --what "$([ $file = encoder ] && echo teacher || echo mixture)" --out "$work/$file.npz"
    check "$file.safetensors: verify" says 1 "$fifo" "$decant" verify "$work/a"
    back "$step/$file.safetensors"
done

# A resumed run of which one file at a time is a FIFO: whatever becomes of it, it ends.
for file in generation-parameter generation-prototype lock-parameter lock-launcher metrics-parameter.jsonl metrics-prototype.jsonl; do
    rm -rf "$work/b" && cp -r "$work/a" "$work/b" && rm -rf "$work/b/checkpoints/step-000004" "$work/b/$file" && mkfifo "$work/b/$file"
    check "$file: resume" says 1 "$fifo" "$decant" train --run e2e --out "$work/b" --no-eval --no-redis --resume "${small[@]}" --set run.steps=4 --set run.checkpoint_every=2
done
for file in metrics-parameter.jsonl metrics-prototype.jsonl; do
    rm -rf "$work/b" && cp -r "$work/a" "$work/b" && rm -rf "$work/b/checkpoints/step-000004" "$work/b/$file" && mkfifo "$work/b/$file"
    check "$file: status" ends "$decant" status --out "$work/b"
done
mkdir "$work/c" && mkfifo "$work/c/pids"
check "pids" says 1 "$fifo" "$decant" train --run e2e --out "$work/c" --no-eval --no-redis "${small[@]}"
mkdir -p "$work/d/logs" && mkfifo "$work/d/logs/parameter.log"
check "logs" says 1 "$fifo" "$decant" train --run e2e --out "$work/d" --no-eval --no-redis "${small[@]}"

check "keys are made" exits 0 "$decant" keygen --out "$work/keys"
tcp=(--set run.name=e2e --set "run.out=$work/k" --set keys.directory="$work/keys" --set net.parameter=tcp://127.0.0.1:* --set net.parameter_publish=tcp://127.0.0.1:*)
for file in allowed parameter.key; do
    instead "$work/keys/$file"
    check "$file: a server" says 2 "$fifo" "$BUILD/bin/decant-parameter" "${tcp[@]}"
    back "$work/keys/$file"
done
instead "$work/keys/allowed"
check "allowed: keygen --list" says 1 "$fifo" "$decant" keygen --out "$work/keys" --list
back "$work/keys/allowed"
instead "$work/keys/parameter.pub"
check "parameter.pub: a client" says 1 "$fifo" env DECANT_KEYS_DIRECTORY="$work/keys" "$decant" health --server parameter tcp://127.0.0.1:1
back "$work/keys/parameter.pub"

for name in set.npy set.npz idx/train-images-idx3-ubyte idx/train-images-idx3-ubyte.gz cifar/data_batch_1.bin; do
    mkdir -p "$(dirname "$work/sets/$name")" && mkfifo "$work/sets/$name"
    set=$work/sets/${name%%/*}
    check "an image set: $name" says 1 "" "$decant" dataset check "$set"
    rm -r "$set"
done
mkfifo "$work/password"
check "a password file" says 2 "$fifo" "$decant" train --run e2e --out "$work/e" --no-eval "${small[@]}" --redis 127.0.0.1:1 --set redis.user=u --set "redis.password_file=$work/password"
finish
