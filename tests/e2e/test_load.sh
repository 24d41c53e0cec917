#!/usr/bin/env bash
# Many real worker sessions against real servers, with contributions of real sizes: all steps are finished, and nothing is
# refused but what a loaded machine may cause. Times are the business of `make bench`.
source "$(dirname "$0")/lib.sh"
load() { "$BUILD/bench/bench_load" --quick --programs "$BUILD/bin" "$@"; }

check "eight workers" load --workers 8
check "two slots for each" load --workers 4 --per-worker 2
check "more workers than slots" load --workers 8 --per-worker 0.5
check "prototype_lag = 0" load --workers 4 --set mixture.prototype_lag=0
check "ten times the parameters" load --workers 2 --parameters 3677840
finish
