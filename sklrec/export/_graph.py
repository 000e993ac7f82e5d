"""A graph of ONNX that is made node by node."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np

# Versions that onnxruntime 1.14 and later read.
OPSET = 18
IR_VERSION = 8

# Protocol buffers, which ONNX files are, have fewer bytes than this.
LIMIT = 2**31

# A tensor is the name of one, or an array or a number that becomes a constant of the graph.
Tensor = str | np.ndarray | np.generic


class Graph:
    """Nodes and constants of a function of one matrix.

    Parameters
    ----------
    onnx : module
        The package onnx.
    model_name : str
        Class of the model, for errors.
    n_items : int
        Number of columns of the matrix.

    Attributes
    ----------
    x : str
        The matrix, of shape (n_users, n_items) in float32.
    """

    x = "interactions"

    def __init__(self, onnx: ModuleType, model_name: str, n_items: int) -> None:
        self.onnx = onnx
        self.model_name = model_name
        self.n_items = n_items
        self.n_bytes = 0
        self.proto = onnx.ModelProto(ir_version=IR_VERSION, producer_name="sklrec")
        self.proto.opset_import.append(onnx.helper.make_opsetid("", OPSET))
        self.nodes: Any = self.proto.graph.node
        self.n_names = 0
        self.met: dict[str, str] = {}
        self.constants: dict[tuple, tuple[str, np.ndarray]] = {}

    def constant(self, value: Any, dtype: Any = None) -> str:
        """Add a constant; numbers of other types than `dtype` are converted to it.

        An array that is added again, such as weights that are tied, is there once.
        """
        array = np.ascontiguousarray(value, dtype=dtype)
        key = (array.ctypes.data, np.shape(value), array.dtype.str)
        if key not in self.constants:
            self.check_size(array.nbytes)
            self.n_bytes += array.nbytes
            tensor = self.proto.graph.initializer.add()
            tensor.name = self._new_name()
            tensor.data_type = self.onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor.dims.extend(np.shape(value))
            tensor.raw_data = array.tobytes()
            self.constants[key] = tensor.name, array  # which keeps its place in memory
        return self.constants[key][0]

    def check_size(self, n_bytes: int) -> None:
        """Raise an error if that many bytes more are too many for a file."""
        n_bytes += self.n_bytes
        if n_bytes >= LIMIT:
            raise ValueError(
                f"{self.model_name} of {self.n_items:,} items needs at least "
                f"{n_bytes / 2**30:.1f} GiB in ONNX, whose files have at most 2 GiB."
            )

    def op(self, kind: str, *inputs: Tensor, **attributes: Any) -> str:
        """Add a node with one output, and return the name of it."""
        (output,) = self.ops(kind, 1, *inputs, **attributes)
        return output

    def ops(self, kind: str, n_outputs: int, *inputs: Tensor, **attributes: Any) -> list[str]:
        """Add a node with several outputs, and return their names."""
        names = [name if isinstance(name, str) else self.constant(name) for name in inputs]
        outputs = [self._new_name() for _ in range(n_outputs)]
        self.nodes.append(self.onnx.helper.make_node(kind, names, outputs, **attributes))
        return outputs

    def reduce(self, kind: str, h: Tensor, axis: int = 1) -> str:
        """Add ReduceSum, ReduceMax or the like over an axis that stays, with the size 1."""
        return self.op(kind, h, np.array([axis]), keepdims=1)

    def is_positive(self, h: Tensor) -> str:
        """Return whether each number is above 0; the numbers are in float32."""
        return self.op("Greater", h, np.float32(0))

    def float32(self, h: str) -> str:
        """Convert to float32."""
        return self.op("Cast", h, to=self.onnx.TensorProto.FLOAT)

    def float64(self, h: str) -> str:
        """Convert to float64."""
        return self.op("Cast", h, to=self.onnx.TensorProto.DOUBLE)

    def items_met(self, x: str, n_items: int | None = None) -> str:
        """Return the columns of x where some row is not 0, and the first one.

        What is computed from the rows reads the weights of these items alone, which for one user
        are few of all. The first column is there because some runtimes do not multiply empty
        matrices. Rows of some items have `n_items` columns.
        """
        if x not in self.met:
            n_items = self.n_items if n_items is None else n_items
            first = np.zeros((1, n_items), dtype=np.float32)
            first[0, 0] = 1
            most = self.op("Max", self.reduce("ReduceMax", x, axis=0), first)
            at = self.op("NonZero", self.op("Squeeze", most, np.array([0])))
            self.met[x] = self.op("Squeeze", at, np.array([0]))
        return self.met[x]

    def rows_times(self, x: str, weight: Any) -> str:
        """Return the product of rows of interactions and weights, by the items that are met."""
        met = self.items_met(x, len(weight))
        rows = self.op("Gather", x, met, axis=1)
        weight = self.constant(weight, dtype=np.float32)
        return self.op("MatMul", rows, self.op("Gather", weight, met, axis=0))

    def loop(
        self,
        n_steps: int,
        state: Sequence[str],
        step: Callable[[str, list[str]], tuple[str, list[str]]],
        dtype: Any,
    ) -> list[str]:
        """Add a loop.

        Parameters
        ----------
        n_steps : int
            Largest number of steps.
        state : sequence of str
            Tensors to begin with.
        step : callable
            Gets the number of the step and the tensors before it. Returns whether to go on, a bool,
            and the tensors after it.
        dtype : dtype
            Type of these tensors.

        Returns
        -------
        state : list of str
            The tensors after the last step.
        """
        make = self.onnx.helper
        kind = make.np_dtype_to_tensor_dtype(np.dtype(dtype))
        before = [self._new_name() for _ in state]
        number, condition = self._new_name(), self._new_name()
        outside, self.nodes = self.nodes, []
        goes_on, after = step(number, before)
        body = make.make_graph(
            self.nodes,
            "step",
            [
                make.make_tensor_value_info(number, self.onnx.TensorProto.INT64, []),
                make.make_tensor_value_info(condition, self.onnx.TensorProto.BOOL, []),
                *(make.make_tensor_value_info(name, kind, None) for name in before),
            ],
            [
                make.make_tensor_value_info(goes_on, self.onnx.TensorProto.BOOL, []),
                *(make.make_tensor_value_info(name, kind, None) for name in after),
            ],
        )
        self.nodes = outside
        start = [np.array(n_steps), np.array(True)]
        return self.ops("Loop", len(state), *start, *state, body=body)

    def to_bytes(self, scores: str, metadata: dict[str, str]) -> bytes:
        """Return the file, whose output are the scores, of shape (n_users, n_items)."""
        make, kind = self.onnx.helper, self.onnx.TensorProto.FLOAT
        shape = ["n_users", self.n_items]
        graph = self.proto.graph
        graph.name = self.model_name
        graph.input.append(make.make_tensor_value_info(self.x, kind, shape))
        graph.output.append(make.make_tensor_value_info("scores", kind, shape))
        graph.node.append(make.make_node("Identity", [scores], ["scores"]))
        make.set_model_props(self.proto, metadata)
        return self.proto.SerializeToString()

    def _new_name(self) -> str:
        self.n_names += 1
        return f"t{self.n_names}"
