"""Fitted recommenders as files for runtimes other than Python."""

from ._to_onnx import to_onnx

__all__ = ["to_onnx"]
