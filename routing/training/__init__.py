"""Trains routers and writes their artifacts: the only place that imports torch and onnx."""
