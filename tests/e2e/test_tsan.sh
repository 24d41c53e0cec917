#!/usr/bin/env bash
# Training with the binaries that `make tsan` builds.
BUILD=${BUILD:-build}-tsan exec "$(dirname "$0")/sanitized.sh"
