#!/usr/bin/env bash
# Training with the binaries that `make asan` builds.
BUILD=${BUILD:-build}-asan exec "$(dirname "$0")/sanitized.sh"
