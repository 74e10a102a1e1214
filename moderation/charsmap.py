"""A table of characters and their replacements, in the format that `tokenizers` applies in one pass over a text.

The format is that of SentencePiece's compiled normalisation: a double-array trie over the UTF-8 bytes of the keys. Its
values are offsets into the replacements. Source: J. Aoe, An Efficient Digital Search Algorithm by Using a Double-Array
Structure, IEEE Transactions on Software Engineering 15(9), 1989. The layout of a unit is that of Darts-clone.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

_HAS_LEAF = 1 << 8
_IS_VALUE = 1 << 31
_OFFSET_SHIFT = 10
_SEARCHED = 1024  # places before the end that are tried; more would save little
_MOST_READ = 1 << 18  # units of a table by other authors; usual ones have 60,000
_AT_ONCE = 4_096  # nodes of a trie that are visited together
_MOST_UNITS = 1 << 21  # with more, offsets are written differently


def compile_table(table: Mapping[str, str]) -> bytes:
    """Compile a table of single characters for `tokenizers.normalizers.Precompiled`.

    Args:
        table: Character -> its replacement, at least one character. Neither may contain NUL.

    Raises:
        ValueError: a key has several characters (the reader takes the shortest key that fits, so no key may begin with
            another one), a replacement is empty (the reader would lose count of the offsets at the beginning of a
            text), or there are more keys than fit.
    """
    texts, places = bytearray(), {}
    root: dict[int, Any] = {}
    for character, replacement in sorted(table.items()):
        if len(character) != 1 or not replacement or "\0" in character + replacement:
            raise ValueError(f"U+{ord(character[:1] or chr(0)):04X}: expected one character with a replacement.")
        if replacement not in places:
            places[replacement] = len(texts)
            texts += replacement.encode() + b"\0"
        node = root
        for byte in character.encode():
            node = node.setdefault(byte, {})
        node[0] = places[replacement]
    units = _lay_out(root)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + bytes(texts)


def longest_replacement(compiled: bytes) -> int:
    """Return the length in characters of the longest replacement in a compiled table.

    Raises:
        ValueError: it is not such a table, or it points outside of itself.
    """
    return max(map(len, find_replacements(compiled)), default=0)


def find_replacements(compiled: bytes, *, of_ascii: bool = False) -> Iterator[str]:
    """Yield the replacements in a compiled table: all of them, or only those of ASCII text.

    This visits every place of the trie that a text can lead to, since the library that reads the table does not check
    where it points.

    Raises:
        ValueError: it is not such a table, or it points outside of itself.
    """
    (n_bytes,) = struct.unpack_from("<I", compiled) if len(compiled) >= 4 else (0,)
    if n_bytes > 4 * _MOST_READ:
        raise ValueError("a table that is far larger than usual ones")
    if n_bytes % 4 or not 4 <= n_bytes <= len(compiled) - 4:
        raise ValueError("a table whose size is not the one that it states")
    units = np.frombuffer(compiled, "<u4", n_bytes // 4, offset=4).astype(np.int64)
    texts = compiled[4 + n_bytes :]
    texts.decode("utf-8")
    leaves = _find_leaves(units, highest=127 if of_ascii else 255)
    if leaves.size and leaves.max() >= len(units):
        raise ValueError("a table that leads outside of itself")
    starts = np.unique(units[leaves] & (_IS_VALUE - 1)).tolist()
    if starts and starts[-1] > len(texts):
        raise ValueError("a table that leads outside of itself")
    ends = texts + b"\0"
    for start in starts:
        yield texts[start : ends.index(b"\0", start)].decode("utf-8")


def _find_leaves(units: npt.NDArray[np.int64], highest: int) -> npt.NDArray[np.int64]:
    """Find the places of the values that a text can lead to: from the root down, all nodes of one depth at once.

    Args:
        units: The trie.
        highest: Highest byte that the text may contain.
    """
    byte = np.arange(1, highest + 1)
    seen = np.zeros(len(units), dtype=bool)
    bases, leaves = _offset(units[:1]), [np.empty(0, dtype=np.int64)]
    while bases.size:
        if (bases | 255).max() >= len(units):
            raise ValueError("a table that leads outside of itself")
        seen[bases] = True
        found = []
        for start in range(0, bases.size, _AT_ONCE):
            places = bases[start : start + _AT_ONCE, None] ^ byte
            found.append(places[(units[places] & (_IS_VALUE | 255)) == byte])
        places = np.concatenate(found)
        children = places ^ _offset(units[places])
        leaves.append(children[units[places] & _HAS_LEAF != 0])
        bases = np.unique(children)
        bases = bases[~seen[np.minimum(bases, len(units) - 1)] | (bases >= len(units))]
    return np.concatenate(leaves)


def _offset(units: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return units >> _OFFSET_SHIFT << (units >> 6 & 8)


def _lay_out(root: Mapping[int, Any]) -> list[int]:
    """Place every node of a trie so that its children stand at `base ^ byte`, and the value of a leaf at `base`."""
    units, used = [0], [True]
    bases: set[int] = set()  # all different; otherwise the children of one node could be found from another
    first_free = 1
    waiting: list[tuple[int, Mapping[int, Any]]] = [(0, root)]
    while waiting:
        place, node = waiting.pop()
        while first_free < len(used) and used[first_free]:
            first_free += 1
        base = _find_base(used, bases, first_free, sorted(node))
        bases.add(base)
        grown = (base | 255) + 1 - len(units)
        units.extend([0] * grown)
        used.extend([False] * grown)
        units[place] |= (base ^ place) << _OFFSET_SHIFT | (_HAS_LEAF if 0 in node else 0)
        for byte, child in node.items():
            used[base ^ byte] = True
            if byte:
                units[base ^ byte] = byte
                waiting.append((base ^ byte, child))
            else:
                units[base] = _IS_VALUE | child
    if len(units) >= _MOST_UNITS:
        raise ValueError(f"{len(units):,} units are more than the {_MOST_UNITS:,} that fit.")
    return units


def _find_base(used: list[bool], bases: set[int], first_free: int, labels: list[int]) -> int:
    """Find the first base that no other node has and from which all children of a node get free places."""
    for place in range(max(first_free, len(used) - _SEARCHED), len(used) + 512):
        base = place ^ labels[0]
        if base not in bases and all(base ^ label >= len(used) or not used[base ^ label] for label in labels):
            return base
    raise AssertionError("the places after the last one are free")
