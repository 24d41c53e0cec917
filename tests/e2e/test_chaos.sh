#!/usr/bin/env bash
# Kills, freezes, cuts and a bad network: the result is the same bytes. `make chaos` does it fifty times over.
exec "${PYTHON:-/usr/bin/python3}" "$(dirname "$0")/chaos.py" --faults 8 --steps 2000
