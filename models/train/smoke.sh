#!/bin/bash
# Every stage of training, on a few links for a few seconds: that the stages fit together, not that the result is good.
#
#   [BIN=target/release] models/train/smoke.sh DIR      (make train-smoke; needs the wheel of l4sd_gym)
set -euo pipefail
out=$1 here=$(dirname "$0") bin=${BIN:-target/release}
rm -rf "$out" && mkdir -p "$out"
python3 -m venv "$out/venv"
"$out/venv/bin/pip" install -q "lightgbm>=4.7,<5" "onnx>=1.23,<2" "onnxruntime==1.31.1" target/wheels/l4sd_gym-*.whl
"$here/oracle.sh" --smoke --l4sd "$bin/l4sd" --out "$out" --budget-s 60 train:1 2>/dev/null
"$out/venv/bin/python" "$here/collect.py" "$out" "$out/states.npz"
"$out/venv/bin/python" "$here/trees.py" "$out" "$out/trees.onnx" "$out/states.npz" --rounds 20
"$bin/l4sd" model check "$out/trees.onnx"
"$bin/l4sd" eval --smoke --policy "model:$out/trees.onnx" --out "$out/eval" 2>/dev/null | sed -n 1,6p
