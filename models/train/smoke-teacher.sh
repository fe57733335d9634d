#!/bin/bash
# The stages of the language model on a few links and a tiny backbone: that they fit together, not that the result is good.
#
#   [BIN=target/release] [PYTHON=python3] models/train/smoke-teacher.sh DIR     (make train-smoke-teacher)
#
# PYTHON has torch, transformers, peft, gymnasium, onnx, onnxruntime and the wheel of l4sd_gym.
set -euo pipefail
out=$1 here=$(dirname "$0") bin=${BIN:-target/release} python=${PYTHON:-python3}
rm -rf "$out" && mkdir -p "$out"
"$here/oracle.sh" --smoke --l4sd "$bin/l4sd" --out "$out" --budget-s 60 train:1 2>/dev/null
"$python" "$here/teacher.py" "$out" "$out/teacher.pt" --backbone tiny --passes 1 --dagger 1 --minutes 0.1 --batch 8 --held-out 0.1 2>/dev/null
"$python" "$here/judge.py" "$out/teacher.pt" "$out/judge" --smoke --seeds 1 --grid rfc9332
"$python" "$here/distill.py" "$out" "$out/teacher.pt" "$out/student.pt" --histories "$out/teacher.npz" --epochs 1 --dagger 1 --dagger-passes 1 2>/dev/null
"$python" "$here/export.py" "$out/student.pt" "$out/student.onnx" 2>/dev/null
"$bin/l4sd" model check "$out/student.onnx"
"$bin/l4sd" eval --smoke --policy "model:$out/student.onnx" --out "$out/eval" 2>/dev/null | sed -n 1,6p
