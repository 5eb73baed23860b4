"""The domain: embed, score, split, dispatch, price, measure, train. It prints nothing."""

import os

# onnxruntime reports to its maker, on Linux too since 1.29, unless this is set before it is loaded (its Privacy.md).
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
