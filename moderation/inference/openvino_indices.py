"""Places, axes and divisors that an OpenVINO model computes while it runs, kept in range.

OpenVINO's engine does not check them: it reads outside its memory, or the processor stops at a division of whole numbers.
An axis or a divisor has to be written in the file. Places in a table, such as token ids, are computed by every model;
layers that keep them within the table are put before those that look up.
"""

from typing import Any

import numpy as np

_WRITTEN = {  # kind of layer -> inputs that may not depend on the text
    "Broadcast": (2,),
    "CumSum": (1,),
    "FakeQuantize": (1, 2, 3, 4),
    "Gather": (2,),
    "MVN": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "Slice": (4,),
    "Split": (1,),
    "Squeeze": (1,),
    "Transpose": (1,),
    "Unsqueeze": (1,),
    "VariadicSplit": (1, 2),
}
_WHOLE_DIVISIONS = ("Divide", "FloorMod", "Mod")
_MOST = (1 << 31) - 1


def keep_in_range(model: Any) -> None:
    """Check the layers of a model, and put others before those that look up places in a table.

    What is in range stays the same to the bit.

    Args:
        model: An `openvino.Model`, changed in place.

    Raises:
        ValueError: a layer whose places, axes or divisors cannot be kept in range.
    """
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        for place in _WRITTEN.get(kind, ()):
            if place < node.get_input_size() and not _is_written(node.input_value(place)):
                raise ValueError(f"a layer {kind} computes its axes or sizes from the text")
        if kind in _WHOLE_DIVISIONS and not node.get_element_type().is_real():
            _check_divisor(node)
        if kind == "Range":
            _check_step(node)
        if kind == "Gather":
            _bound_gather(node)
        elif kind == "GatherElements":
            _bound_gather_elements(node)


def _is_written(value: Any) -> bool:
    """Whether a value is the same for all texts: computed of constants and of numbers of dimensions alone."""
    waiting, seen = [value], set()
    while waiting:
        output = waiting.pop()
        node = output.get_node()
        name = node.get_name()
        if name in seen or node.get_type_name() == "Constant":
            continue
        seen.add(name)
        if node.get_type_name() == "ShapeOf" and node.input(0).get_partial_shape().is_static:
            continue
        if not node.get_input_size():
            return False
        waiting += [source.get_source_output() for source in node.inputs()]
    return True


def _constant(value: Any) -> Any:
    """The numbers of a constant, or None."""
    node = value.get_node()
    return node.data if node.get_type_name() == "Constant" else None


def _check_divisor(node: Any) -> None:
    divisor = _constant(node.input_value(1))
    if divisor is None or not ((divisor != 0) & (divisor != -1)).all():
        raise ValueError(f"a layer {node.get_type_name()} divides whole numbers by what may be 0 or -1")


def _check_step(node: Any) -> None:
    step = _constant(node.input_value(2))
    if step is None or not (step != 0).all():
        raise ValueError("a layer Range counts in steps that may be 0")


def _bound_gather(node: Any) -> None:
    axis = _constant(node.input_value(2))
    shape = node.input(0).get_partial_shape()
    if axis is None or axis.size != 1 or shape.rank.is_dynamic:
        raise ValueError("a layer Gather of an axis or a table that is not known before")
    size = shape[int(axis.reshape(-1)[0])]
    if size.is_dynamic:
        if len(shape) == 1:  # of more dimensions the engine gives zeros for a place outside
            raise ValueError("a layer Gather reads a list of a size that is not known before")
        return
    places, n = _constant(node.input_value(1)), size.get_length()
    if places is None:
        _replace_places(node, n)
    elif not ((places >= -n) & (places < n)).all():
        raise ValueError("a layer Gather reads a place outside of its table")


def _bound_gather_elements(node: Any) -> None:
    """Each place has a table of its own where other dimensions go, whose sizes the engine compares."""
    shape = node.input(0).get_partial_shape()
    if shape.rank.is_dynamic:
        raise ValueError("a layer GatherElements of a table that is not known before")
    axis = node.get_attributes()["axis"]
    size = shape[axis]
    _replace_places(node, size.get_length() if size.is_static else None, axis)


def _replace_places(node: Any, n: int | None, axis: int = 0) -> None:
    """Put layers before a lookup: `min(max(places, -n), n - 1)`, and of an empty table none.

    Args:
        node: Of the lookup.
        n: Size of the table; None: it is known while the model runs.
        axis: Of the table.
    """
    from openvino import opset13 as layers

    places = node.input_value(1)
    kind = places.get_element_type().to_dtype()
    if n == 0:
        raise ValueError(f"a layer {node.get_type_name()} reads an empty table")
    if n is not None:
        low, high = layers.constant(np.array(-n, kind)), layers.constant(np.array(n - 1, kind))
        bounded = layers.minimum(layers.maximum(places, low), high)
    else:
        numbers = [layers.constant(np.array([value], np.int64)) for value in (0, 1, axis, _MOST)]
        none, one, place, most = numbers
        size = layers.gather(layers.shape_of(node.input_value(0)), place, layers.constant(np.array(0, np.int64)))
        high = layers.convert(layers.subtract(size, one), places.get_element_type().to_string())
        low = layers.convert(layers.negative(size), places.get_element_type().to_string())
        bounded = layers.minimum(layers.maximum(places, low), high)
        bounded = layers.slice(bounded, none, layers.multiply(layers.minimum(size, one), most), one, place)
    node.input(1).replace_source_output(bounded.output(0))
