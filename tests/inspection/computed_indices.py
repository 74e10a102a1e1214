"""Graphs of OpenVINO that look up, cut or divide at places that they compute; run with a number of places.

To be run in a process of its own, whose memory is bounded: what is not kept in range may end it.
"""

import resource
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import openvino
from openvino import opset13 as op

from moderation.inspection.openvino_indices import UnboundedIndexError, keep_in_range

PLACES = [1_000_000, -65, 64, -1, 10**9, -(10**9), 2**31 + 5, -(2**31) - 7, 2**40, 2**62, -(2**62), 2**63 - 1, -(2**63)]
SETTINGS = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}


def whole(*numbers: int) -> Any:
    return op.constant(np.array(numbers, np.int64))


NONE = whole(0)
FIRST = op.constant(np.array(0, np.int64))


def rows(table: Any, one: Any) -> Any:
    """A table of one row, of whose columns nobody knows before how many there are."""
    return op.reshape(table, op.concat([one, whole(-1)], 0), False)


def square(table: Any) -> Any:
    return op.reshape(table, whole(8, 8), False)


CASES: dict[str, Callable[[Any, Any, Any], Any]] = {  # of a table of 64, a place, and the number 1
    "Gather": lambda table, place, one: op.gather(table, place, FIRST),
    "Gather of one": lambda table, place, one: op.gather(table, op.reshape(place, whole(), False), FIRST),
    "Gather of a row": lambda table, place, one: op.gather(square(table), place, FIRST),
    "Gather in a column": lambda table, place, one: op.gather(op.reshape(table, whole(64, 1), False), place, FIRST),
    "Gather of a computed size": lambda table, place, one: op.gather(rows(table, one), place, whole(1)),
    "Gather from a list of a computed size": lambda table, place, one: op.gather(
        op.slice(table, NONE, one, one), place, FIRST
    ),
    "Gather, axis": lambda table, place, one: op.gather(square(table), NONE, place),
    "Gather of constants": lambda table, place, one: op.gather(op.constant(np.arange(64, dtype="i4")), place, FIRST),
    "GatherElements": lambda table, place, one: op.gather_elements(table, place, 0),
    "GatherElements of a computed size": lambda table, place, one: op.gather_elements(
        rows(table, one), op.reshape(place, whole(1, 1), False), 1
    ),
    "GatherElements of nothing": lambda table, place, one: op.gather_elements(
        op.slice(table, NONE, op.subtract(one, one), whole(1)), place, 0
    ),
    "Slice": lambda table, place, one: op.slice(table, place, whole(2**40), whole(1)),
    "Slice, end": lambda table, place, one: op.slice(table, NONE, place, whole(1)),
    "Slice, step": lambda table, place, one: op.slice(table, NONE, whole(2**40), place),
    "Slice, axes": lambda table, place, one: op.slice(table, NONE, one, one, place),
    "StridedSlice": lambda table, place, one: op.strided_slice(table, place, whole(2**40), whole(1), [0], [0]),
    "StridedSlice, step": lambda table, place, one: op.strided_slice(
        table, NONE, whole(64), op.subtract(one, one), [0], [0]
    ),
    "Pad": lambda table, place, one: op.pad(table, place, NONE, "reflect"),
    "Broadcast, axes": lambda table, place, one: op.broadcast(table, whole(64, 8), place, "EXPLICIT"),
    "Reshape": lambda table, place, one: op.reshape(table, op.concat([place, whole(-1)], 0), False),
    "Squeeze": lambda table, place, one: op.squeeze(table, place),
    "Transpose": lambda table, place, one: op.transpose(table, place),
    "CumSum": lambda table, place, one: op.cum_sum(table, op.reshape(place, whole(), False)),
    "VariadicSplit": lambda table, place, one: op.variadic_split(table, FIRST, op.concat([place, whole(-1)], 0)).output(
        1
    ),
    "Split": lambda table, place, one: op.split(table, op.reshape(place, whole(), False), 2).output(1),
    "ReduceMean": lambda table, place, one: op.reduce_mean(square(table), place, False),
    "MVN": lambda table, place, one: op.mvn(square(table), place, True, 1e-5, "inside_sqrt"),
    "Range, step": lambda table, place, one: op.range(
        FIRST, op.constant(np.array(9, np.int64)), op.squeeze(op.subtract(place, place), NONE), "i64"
    ),
    "Divide": lambda table, place, one: op.divide(place, op.subtract(one, one)),
    "MVN of nothing": lambda table, place, one: op.mvn(
        op.slice(table, NONE, op.subtract(one, one), whole(1)), whole(0), True, 1e-5, "inside_sqrt"
    ),
    "FakeQuantize": lambda table, place, one: op.fake_quantize(
        table, *(op.slice(table, NONE, place, whole(1)) for _ in range(4)), 256
    ),
}


def build(case: str, place: int, kind: str, *, is_fixed: bool) -> openvino.Model:
    """A graph whose place is computed of its input, so that nobody can know it before; or one of constants alone."""
    ids, mask = (op.parameter([-1, -1], np.int64, name=name) for name in ("input_ids", "attention_mask"))
    one = op.reshape(op.reduce_max(op.add(op.multiply(ids, mask), FIRST), whole(0, 1), False), whole(1), False)
    table = op.multiply(
        op.convert(one, kind), op.constant(np.arange(64).astype({"i32": np.int32, "f32": np.float32}[kind]))
    )
    if is_fixed:
        one, table = whole(1), op.constant(np.arange(64).astype({"i32": np.int32, "f32": np.float32}[kind]))
    found = CASES[case](table, op.multiply(one, whole(place)), one)
    output = found if isinstance(found, openvino.Output) else found.output(0)
    total = op.reduce_sum(op.reshape(op.convert(output, "f32"), whole(-1), False), NONE, False)
    total = op.add(total, op.convert(op.reduce_max(op.add(ids, mask), whole(0, 1), False), "f32"))
    return openvino.Model([op.result(total)], [ids, mask], "graph")


def run(case: str, place: int, kind: str, *, is_fixed: bool) -> str:
    """What becomes of a graph, in one word."""
    try:
        model = build(case, place, kind, is_fixed=is_fixed)
        keep_in_range(model)
    except (UnboundedIndexError, RuntimeError):
        return "refused"
    feed = {name: np.ones((1, 8), np.int64) for name in ("input_ids", "attention_mask")}
    try:
        openvino.Core().compile_model(model, "CPU", SETTINGS)(feed)
    except RuntimeError:
        return "error"
    return "answered"


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_AS, (6_000_000_000, 6_000_000_000))
    for name in CASES:
        for number in PLACES[: int(sys.argv[1])]:
            for type_name in ("i32", "f32") if name.startswith("Gather") else ("f32",):
                for fixed in (False, True):
                    sys.stdout.write(f"{name} {number} {type_name} {fixed}: ")
                    sys.stdout.flush()
                    sys.stdout.write(run(name, number, type_name, is_fixed=fixed) + "\n")
