"""Small MLPs inside Dr.Jit kernels, about as fast as the machine multiplies matrices.

Mitsuba calls a BSDF through a function table. Inside such a call every value read from memory is read once
per lane, so cooperative vectors fetch each weight with a 16-lane gather and reach 3 to 5 % of sgemm. Weights
that are *literals* of the kernel are broadcast from its constant pool instead: the network becomes one
straight line of multiply-adds. The price is a kernel per material, compiled once and then kept by Dr.Jit.
"""

from __future__ import annotations

from typing import Any

import drjit as dr
import mitsuba as mi
import numpy as np

Layers = tuple[tuple[np.ndarray, np.ndarray], ...]  # weight [out, in], bias [out]; float32

CHAINS = 4


def evaluate(layers: Layers, inputs: list[Any]) -> list[Any]:
    """Linear layers with ReLU between them. Lists of mi.Float, one entry a feature."""
    if not dr.is_jit_v(mi.Float):
        return _evaluate_scalar(layers, inputs)

    def network(*values: Any) -> tuple[Any, ...]:
        return _evaluate_unrolled(layers, list(values))

    # Called, not inlined: eval and sample share its code, and compile time grows faster than code size.
    return list(dr.switch(mi.UInt32(0), [network], *inputs))


def _evaluate_unrolled(layers: Layers, values: list[Any]) -> tuple[Any, ...]:
    for weight, bias in layers[:-1]:
        values = [dr.maximum(x, 0) for x in _linear(weight, bias, values)]
    return tuple(_linear(*layers[-1], values))


def _linear(weight: np.ndarray, bias: np.ndarray, values: list[Any]) -> list[Any]:
    """Each output as a few independent sums, so that no multiply-add waits for the one before it."""
    outputs = []
    for row, constant in zip(weight, bias, strict=True):
        sums = [mi.Float(float(constant)), *[mi.Float(0)] * (CHAINS - 1)]
        for column, x in enumerate(values):
            sums[column % CHAINS] = dr.fma(x, float(row[column]), sums[column % CHAINS])
        outputs.append((sums[0] + sums[1]) + (sums[2] + sums[3]))
    return outputs


def _evaluate_scalar(layers: Layers, inputs: list[Any]) -> list[Any]:
    x = np.array(inputs, dtype=np.float32)
    for weight, bias in layers[:-1]:
        x = np.maximum(weight @ x + bias, 0)
    weight, bias = layers[-1]
    return [float(y) for y in weight @ x + bias]
