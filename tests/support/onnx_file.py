"""ONNX files for tests, written by hand: the package `onnx` is no dependency, and little of its format is needed.

The numbers are the fields of onnx.proto3: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = Sequence[int | str]
FLOAT, INT64 = 1, 7


def write_projection(
    path: Path, weights: NDArray[np.float32], shape: Shape, *, outputs: Sequence[Shape] = (("batch", "dim"),)
) -> Path:
    """A model that flattens its input and multiplies it with `weights`, [3 * size * size, dim].

    Args:
        path: the file to write.
        weights: one output each, taken from the input; the first is also what the model gives.
        shape: of the input; text stands for any number.
        outputs: shapes of the outputs as stated; all of them give the same.
    """
    nodes = [_node("Flatten", ["face"], "flat")]
    nodes += [_node("MatMul", ["flat", "weights"], f"out{number}") for number in range(len(outputs))]
    values = [_value(f"out{number}", FLOAT, stated) for number, stated in enumerate(outputs)]
    return _write(path, nodes, [_tensor("weights", weights)], [_value("face", FLOAT, shape)], values)


def write_identity(path: Path, shape: Shape, *, kind: int = FLOAT) -> Path:
    """A model that gives what it takes."""
    return _write(
        path, [_node("Identity", ["face"], "out0")], [], [_value("face", kind, shape)], [_value("out0", kind, shape)]
    )


def _write(
    path: Path, nodes: Sequence[bytes], constants: Sequence[bytes], inputs: Sequence[bytes], outputs: Sequence[bytes]
) -> Path:
    graph = b"".join(
        _field(number, part)
        for number, parts in ((1, nodes), (2, [b"test"]), (5, constants), (11, inputs), (12, outputs))
        for part in parts
    )
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, b"") + _field(2, 17)))
    return path


def _node(operator: str, inputs: Sequence[str], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator)


def _tensor(name: str, values: NDArray[np.float32]) -> bytes:
    dimensions = b"".join(_field(1, size) for size in values.shape)
    return dimensions + _field(2, FLOAT) + _field(8, name) + _field(9, values.astype("<f4").tobytes())


def _value(name: str, kind: int, shape: Shape) -> bytes:
    sizes = b"".join(_field(1, _field(1, size) if isinstance(size, int) else _field(2, size)) for size in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, sizes)))


def _field(number: int, value: Any) -> bytes:
    """One field of a protobuf message: a whole number, or text or bytes with their length."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
