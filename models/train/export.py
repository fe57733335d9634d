#!/usr/bin/env python3
"""A model file of a student's weights, those that student.py --save or distill.py left: export.py STUDENT.safetensors OUT.onnx"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import student


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    import l4sd_gym

    names = list(l4sd_gym.FEATURES)
    net, saved = student.load(sys.argv[1], names, "cpu")
    limit = student.export(net, Path(sys.argv[2]), saved["features"].astype("float32"), names, saved["metadata"], saved["golden"])
    print(f"{sys.argv[2]}: distance limit {limit:.3g}")


if __name__ == "__main__":
    main()
