"""Keeps indices, axes and divisors that an OpenVINO model computes while it runs in range.

OpenVINO's engine does not check them: it would read outside its memory, or crash at a division by zero. Axes and
divisors have to be written in the file. Every model computes indices into tables, such as token ids, so layers that
clamp them to the table are inserted before each lookup.
"""

from typing import Any, NamedTuple

import numpy as np

# Kind of layer -> the input that holds axes.
_AXES = {
    "CumSum": 1,
    "Gather": 2,
    "MVN": 1,
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceProd": 1,
    "ReduceSum": 1,
    "Slice": 4,
    "Split": 1,
    "Squeeze": 1,
    "Transpose": 1,
    "Unsqueeze": 1,
    "VariadicSplit": 1,
}
_WRITTEN = {"Broadcast": (2,), "FakeQuantize": (1, 2, 3, 4)}  # inputs that must be written in the file
_STEPS = {"Range": 2, "Slice": 3, "StridedSlice": 3}  # kind of layer -> the input that holds steps
_WHOLE_DIVISIONS = ("Divide", "FloorMod", "Mod")
_MOST = (1 << 31) - 1
_MOST_AXES = 64
_MOST_PIECES = 64


class UnboundedIndexError(ValueError):
    """A layer that may read outside its memory."""


class Lookup(NamedTuple):
    """Indices that a layer looks up in a table, as the model computes them.

    Args:
        places: The output of the layer that computes them.
        n: Size of the table.
    """

    places: Any
    n: int


def keep_in_range(model: Any) -> list[Lookup]:
    """Check the layers of a model, and insert others before those that look up indices in a table.

    Results for indices in range stay the same to the bit.

    Args:
        model: An `openvino.Model`, changed in place.

    Returns:
        The lookups whose indices may be out of range and are clamped from now on.

    Raises:
        UnboundedIndexError: a layer whose indices, axes or divisors cannot be kept in range.
    """
    lookups: list[Lookup] = []
    fixed: set[str] = set()  # names of layers that read only constants, and so run when the graph is opened
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        sources = {source.get_source_output().get_node().get_name() for source in node.inputs()}
        if kind == "Constant" or (sources and sources <= fixed):
            fixed.add(node.get_name())
            shape = node.output(0).get_partial_shape()
            if kind == "MVN" and (shape.is_dynamic or 0 in shape.to_shape()):  # it then reads outside of the table
                raise UnboundedIndexError("it holds a layer MVN with an empty table")
        if any(value.get_partial_shape().rank.is_dynamic for value in node.outputs()):
            raise UnboundedIndexError(f"it holds a layer {kind} with an unknown number of dimensions")
        if kind in _AXES and node.get_input_size() > _AXES[kind]:
            _check_axes(node, _AXES[kind])
        for place in _WRITTEN.get(kind, ()):
            if place < node.get_input_size() and _numbers(node.input_value(place)) is None:
                raise UnboundedIndexError(f"it holds a layer {kind} that computes sizes from the text")
        if kind in _WHOLE_DIVISIONS and not node.get_element_type().is_real():
            _check_divisor(node)
        if kind in _STEPS and node.get_input_size() > _STEPS[kind]:
            _check_steps(node, _STEPS[kind])
        if kind == "VariadicSplit":
            _check_lengths(node)
        elif kind == "Gather":
            lookups += _bound_gather(node)
        elif kind == "GatherElements":
            lookups += _bound_gather_elements(node)
    return lookups


class Places:
    """The part of a model that computes its lookups: checks whether it would read outside its tables.

    Args:
        core: OpenVINO's `Core`.
        model: The model from `keep_in_range`.
        lookups: The result of `keep_in_range`.
    """

    def __init__(self, core: Any, model: Any, lookups: list[Lookup]) -> None:
        import openvino
        from openvino import opset13 as layers

        self._sizes = [lookup.n for lookup in lookups]
        results = [layers.result(lookup.places) for lookup in lookups]
        part = openvino.Model(results, model.get_parameters(), "places")
        self._compiled: Any = core.compile_model(part, "CPU") if lookups else None

    def check(self, feed: dict[str, object]) -> None:
        """Refuse texts for which the model would read outside its tables.

        Raises:
            IndexError: it does.
        """
        found = self._compiled(feed).to_tuple() if self._sizes else ()
        for places, n in zip(found, self._sizes, strict=True):
            if not ((places >= -n) & (places < n)).all():
                raise IndexError(f"an index outside a table of {n}")


def _numbers(value: Any) -> Any:
    """The numbers of a constant, or of a range between constants (like the axes of MVN); otherwise None."""
    node = value.get_node()
    if node.get_type_name() == "Constant":
        return node.data
    if node.get_type_name() == "Range":
        ends = [source.get_source_output().get_node() for source in node.inputs()]
        if all(end.get_type_name() == "Constant" and end.data.size == 1 for end in ends):
            start, stop, step = (int(end.data.reshape(-1)[0]) for end in ends)
            return np.arange(start, stop, step) if step and max(abs(start), abs(stop)) <= _MOST_AXES else None
    return None


def _check_axes(node: Any, place: int) -> None:
    axes, kind = _numbers(node.input_value(place)), node.get_type_name()
    rank = len((node.output(0) if kind == "Unsqueeze" else node.input(0)).get_partial_shape())
    if axes is None or not ((axes >= -rank) & (axes < rank)).all():
        raise UnboundedIndexError(f"it holds a layer {kind} whose axes are computed, or out of range")


def _check_divisor(node: Any) -> None:
    divisor = _numbers(node.input_value(1))
    if divisor is None or not ((divisor != 0) & (divisor != -1)).all():
        raise UnboundedIndexError(
            f"it holds a layer {node.get_type_name()} that divides integers by something that may be 0 or -1"
        )


def _check_steps(node: Any, place: int) -> None:
    steps = _numbers(node.input_value(place))
    if steps is None or not (steps != 0).all():
        raise UnboundedIndexError(f"it holds a layer {node.get_type_name()} with steps that may be 0")


def _check_lengths(node: Any) -> None:
    axis, lengths = (_numbers(node.input_value(place)) for place in (1, 2))
    if lengths is None or axis.size != 1 or (lengths < -1).any() or (lengths == -1).sum() > 1:
        raise UnboundedIndexError("it holds a layer VariadicSplit whose lengths are computed, or not valid")
    if lengths.size > _MOST_PIECES:  # more would take the engine minutes
        raise UnboundedIndexError(f"it holds a layer VariadicSplit with more than {_MOST_PIECES} pieces")
    size = node.input(0).get_partial_shape()[int(axis.reshape(-1)[0])]
    least = sum(length for length in lengths.tolist() if length > 0)
    if size.is_static and not (least <= size.get_length() if -1 in lengths else least == size.get_length()):
        raise UnboundedIndexError("it holds a layer VariadicSplit that cuts outside its table")


def _bound_gather(node: Any) -> list[Lookup]:
    axis = _numbers(node.input_value(2))
    shape = node.input(0).get_partial_shape()
    if axis.size != 1:
        raise UnboundedIndexError("it holds a layer Gather with several axes")
    size = shape[int(axis.reshape(-1)[0])]
    if size.is_dynamic:
        if len(shape) == 1:  # with more dimensions the engine returns zeros for an index out of range
            raise UnboundedIndexError(
                "it holds a layer Gather that reads a list whose size is not known before it runs"
            )
        return []
    places, n = _numbers(node.input_value(1)), size.get_length()
    if places is None:
        lookup = Lookup(node.input_value(1), n)
        _replace_places(node, n)
        return [lookup]
    if not ((places >= -n) & (places < n)).all():
        raise UnboundedIndexError("it holds a layer Gather that reads outside its table")
    return []


def _bound_gather_elements(node: Any) -> list[Lookup]:
    """Clamp along the axis; the engine itself compares the sizes of the other dimensions."""
    shape = node.input(0).get_partial_shape()
    axis = node.get_attributes()["axis"]
    if not -len(shape) <= axis < len(shape):
        raise UnboundedIndexError("it holds a layer GatherElements with an axis out of range")
    size, places = shape[axis], node.input_value(1)
    _replace_places(node, size.get_length() if size.is_static else None, axis)
    return [Lookup(places, size.get_length())] if size.is_static else []


def _replace_places(node: Any, n: int | None, axis: int = 0) -> None:
    """Insert layers before a lookup: `min(max(places, -n), n - 1)`; for an empty table, no indices are left.

    Args:
        node: The lookup.
        n: Size of the table; None: known only while the model runs.
        axis: Axis of the table.
    """
    from openvino import opset13 as layers

    places = node.input_value(1)
    kind = places.get_element_type().to_dtype()
    if n == 0:
        raise UnboundedIndexError(f"it holds a layer {node.get_type_name()} that reads an empty table")
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
