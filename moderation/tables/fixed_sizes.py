"""How much memory lists of a fixed size take.

A missing list takes as much memory as any other, but almost no space in a Parquet file.
"""

from collections.abc import Iterator

import pyarrow as pa

from moderation.tables import bounds

_LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
    pa.types.is_map,
)
_PLACE = 24  # bytes of the largest offset and length of a list or a text, and some more


def slot_bytes(kind: pa.DataType) -> int:
    """Bytes that a value takes at least, even if it is missing; too many rather than too few.

    >>> slot_bytes(pa.int64()), slot_bytes(pa.list_(pa.int64())), slot_bytes(pa.list_(pa.int64(), 100))
    (8, 24, 813)
    """
    if is_list(kind):
        return _PLACE
    if pa.types.is_fixed_size_list(kind):
        size = int(kind.list_size)
        return 1 + size * max(1, slot_bytes(kind.value_type)) + size // 8  # one bit says whether a value is present
    if parts := parts_of(kind):
        return _PLACE + sum(map(slot_bytes, parts))
    try:
        return -(-int(kind.bit_width) // 8)
    except ValueError:  # a type whose values differ in length
        return _PLACE


def row_bytes_at_least(kind: pa.DataType) -> int:
    """Bytes of the lists of a fixed size in a row, except those within lists of any length."""
    if pa.types.is_fixed_size_list(kind):
        return slot_bytes(kind)
    return 0 if is_list(kind) else sum(map(row_bytes_at_least, parts_of(kind)))


def largest_list(kind: pa.DataType) -> int:
    """Bytes of the largest list of a fixed size anywhere in a type; 0: there is none.

    >>> largest_list(pa.map_(pa.string(), pa.list_(pa.int8(), 100))), largest_list(pa.list_(pa.int8()))
    (113, 0)
    """
    own = slot_bytes(kind) if pa.types.is_fixed_size_list(kind) else 0
    return max([own, *map(largest_list, parts_of(kind))])


def stands_in_list(kind: pa.DataType) -> bool:
    """Whether a list of a fixed size is within one of any length, so that only the rows show how many there are."""
    return any(largest_list(part) if is_list(kind) else stands_in_list(part) for part in parts_of(kind))


def holds_list_views(kind: pa.DataType) -> bool:
    """Whether a type contains views of lists. Arrow reads some of them as offsets beyond the existing values."""
    is_view = pa.types.is_list_view(kind) or pa.types.is_large_list_view(kind)
    return is_view or any(map(holds_list_views, parts_of(kind)))


def nests_too_deep(kind: pa.DataType) -> bool:
    """Whether more than `bounds.NESTING` types are nested."""
    level: list[pa.DataType] = [kind]
    for _ in range(bounds.NESTING):
        level = [part for outer in level for part in parts_of(outer)]
        if not level:
            return False
    return True


def expanded_bytes(kind: pa.DataType, column: pa.Array) -> int:
    """Bytes of the lists of a fixed size in a column, measured on the same column with lists of any length instead.

    Args:
        kind: Of the column, with lists of a fixed size.
        column: The column without them. A missing list takes no room here.
    """
    if not largest_list(kind):
        return 0
    column = column.storage if isinstance(column, pa.ExtensionArray) else column
    if isinstance(kind, pa.BaseExtensionType):
        return expanded_bytes(kind.storage_type, column)
    own = len(column) * slot_bytes(kind) if pa.types.is_fixed_size_list(kind) else 0
    return own + sum(expanded_bytes(part, values) for part, values in zip(parts_of(kind), _values(column), strict=True))


def _values(column: pa.Array) -> Iterator[pa.Array]:
    """The values of each part of a nested column."""
    if pa.types.is_map(column.type):
        begin, end = column.offsets[0].as_py(), column.offsets[-1].as_py()  # of the rows of a slice
        yield from (part.slice(begin, end - begin) for part in (column.keys, column.items))
    elif pa.types.is_struct(column.type):
        yield from (column.field(place) for place in range(column.type.num_fields))
    else:
        yield column.flatten()


def is_list(kind: pa.DataType) -> bool:
    """Whether values are lists of any length, including maps."""
    return any(test(kind) for test in _LISTS)


def parts_of(kind: pa.DataType) -> list[pa.DataType]:
    """The types that a type contains, one level down."""
    if isinstance(kind, pa.BaseExtensionType):
        return [kind.storage_type]
    if pa.types.is_dictionary(kind):
        return [kind.index_type, kind.value_type]
    if pa.types.is_run_end_encoded(kind):
        return [kind.run_end_type, kind.value_type]
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    return [kind.field(place).type for place in range(kind.num_fields)]
