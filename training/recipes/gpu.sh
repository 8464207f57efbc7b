#!/bin/sh
# Trains for at most ten minutes and goes on where the last call ended:
#   sh training/recipes/gpu.sh CORPUS RUN     again and again, until it says "1,000.0 M tokens"
# An interrupted run is saved, and the schedule counts tokens, so it does not matter how the calls divide it.
set -eu
timeout --signal=INT --kill-after=25 "${CALL_S:-570}" \
    python3 -m musebridge train "$1" --run "$2" --config "$(dirname "$0")/gpu.toml" --budget 1G || test $? -eq 124
