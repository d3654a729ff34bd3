#!/usr/bin/env bash
# What `make run` shows: one bundled model sized, planned, rendered and linted, without a network.
set -euo pipefail
model=${MODEL:-Qwen/Qwen3-32B}
out=${OUT:-out}
export HF_HUB_OFFLINE=1
step() {
  printf '\n$ selfhost %s\n' "$*"
  selfhost "$@"
}
mkdir -p "$out"
step size "$model" --gpu h100-sxm-80gb --tp 2 --context 16k --concurrency 16
step plan "$model" --context 16k --concurrency 16 -o "$out/plan.json"
step render "$out/plan.json" --target kubernetes -o "$out"
step lint "$out"
