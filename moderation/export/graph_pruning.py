"""Removes unused computation from a graph: after the last attention, every position except the first.

A sequence classifier uses only the first position. In the encoder's last layer the others are still needed as keys and
values, but not after that: the output projection and the feed-forward part, three quarters of a layer's products, work
position by position. So the selection of the first position can be moved before them. Nothing is approximated.
"""

from typing import Any

# Of the operators that occur here, those that treat every position in the same way and independently.
_POSITION_WISE = frozenset(
    [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Pow",
        "Sqrt",
        "Erf",
        "Gelu",
        "Relu",
        "Tanh",
        "Sigmoid",
        "Identity",
        "Cast",
        "Dropout",
        "MatMul",
        "LayerNormalization",
    ]
)


def keep_first_position(model: Any) -> int:
    """Move the selection of the first position up as far as possible, in place.

    Args:
        model: An `onnx.ModelProto` whose hidden states are `(batch, tokens, width)`.

    Returns:
        Number of operators that now see one position; 0 if the graph does not end like that and is unchanged.
    """
    from onnx import helper

    graph = model.graph
    constants = _constants(graph)
    picks = [node for node in graph.node if _picks_first(node, constants)]
    if len(picks) != 1:
        return 0
    pick = picks[0]
    moved = _find_movable(graph, pick, constants)
    if not moved:
        return 0
    own = {name for node in moved for name in node.output}
    gathered: dict[str, str] = {}
    nodes = []
    for node in graph.node:
        if node is pick:
            nodes.append(helper.make_node("Identity", [pick.input[0]], list(pick.output), name=f"{pick.name}_moved"))
            continue
        if own.intersection(node.output):
            for place, name in enumerate(node.input):
                if name in own or name in constants or not name:
                    continue
                if name not in gathered:
                    gathered[name] = f"{name}_first"
                    inputs = [name, pick.input[1]]
                    nodes.append(helper.make_node("Gather", inputs, [gathered[name]], name=gathered[name], axis=1))
                node.input[place] = gathered[name]
        nodes.append(node)
    _replace_nodes(graph, nodes, pick.input[1])
    return len(moved)


def _replace_nodes(graph: Any, nodes: list[Any], index_name: str) -> None:
    """Replace the nodes, with the constant index before its users; drop shapes that are no longer right."""
    index = [node for node in nodes if index_name in node.output]
    nodes = index + [node for node in nodes if node not in index]
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]


def _find_movable(graph: Any, pick: Any, constants: set[str]) -> list[Any]:
    """Position-wise nodes whose readers are all such nodes or the pick itself; last first."""
    readers: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    outputs = {output.name for output in graph.output}
    moved: list[Any] = []
    narrow = {pick.output[0]}  # values that hold only the first position
    for node in reversed(graph.node):
        read_by = [reader for name in node.output for reader in readers.get(name, [])]
        if (
            read_by
            and node.op_type in _POSITION_WISE
            and not outputs & set(node.output)
            and all(reader.output[0] in narrow for reader in read_by)
            and (node.op_type != "MatMul" or node.input[1] in constants)
            and not constants.issuperset(node.output)
        ):
            moved.append(node)
            narrow.update(node.output)
    return moved


def _constants(graph: Any) -> set[str]:
    """Names of the values that do not depend on the input."""
    found = {value.name for value in graph.initializer}
    for node in graph.node:  # in the order of computation
        if all(name in found for name in node.input):  # shared weights pass through an Identity
            found.update(node.output)
    return found


def _picks_first(node: Any, constants: set[str]) -> bool:
    from onnx import helper

    if node.op_type != "Gather" or node.input[1] not in constants or node.input[0] in constants:
        return False
    axis = next((helper.get_attribute_value(a) for a in node.attribute if a.name == "axis"), 0)
    return bool(axis == 1)
