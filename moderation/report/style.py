"""Empty figures in the house style, without pyplot's global state, so that they work anywhere.

The colours are those of Okabe & Ito (2008), which people with any colour vision can tell apart; lines also differ in
their dashes.
"""

import io
import warnings
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FloatValues = npt.NDArray[np.float64]

BLUE, ORANGE, GREY = "#0072B2", "#D55E00", "#6b7280"
N_POINTS = 500  # per curve; more would not be visible on a screen
_COLOURS = (BLUE, ORANGE, "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (6, 1.5, 1.5, 1.5)))
_MARKERS = "os^DvP*"
_GRID_COLUMNS = 3
_LONGEST_NAME = 32


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)  # inches
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def new_axes(figure: "Figure", x: str, y: str) -> "Axes":
    """Return the only axes of a figure, named."""
    return tidy(figure.add_subplot(xlabel=x, ylabel=y))


def new_grid(
    titles: Sequence[str], x: str, y: str, *, height: float, below: float = 0.0
) -> tuple["Figure", list["Axes"]]:
    """Return a figure with one panel per title, x and y from 0 to 1, three in a row.

    Sizes are in inches: `height` of a panel, `below` extra room below it. Positions are computed, since the layout
    engine takes half a minute for a few dozen panels.
    """
    n_columns = min(len(titles), _GRID_COLUMNS)
    n_rows = -(-len(titles) // n_columns)
    row_height = height + below + 0.65  # title above, numbers below
    size = width, total = 0.75 + 3.0 * n_columns, 0.45 + row_height * n_rows
    figure = new_figure(*size)
    figure.set_layout_engine("none")
    figure.supxlabel(x, fontsize=10, y=0.1 / total, va="bottom")
    figure.supylabel(y, fontsize=10, x=0.1 / width, ha="left")
    panels = []
    for i, title in enumerate(titles):
        row, column = divmod(i, n_columns)
        corner = 0.8 + 3.0 * column, total - row_height * (row + 1) + 0.3 + below
        place = (corner[0] / width, corner[1] / total, 2.45 / width, height / total)
        panel = tidy(figure.add_axes(place, xlim=(0, 1), ylim=(0, 1.02)))
        panel.set_title(plain(title), fontsize=10, loc="left")
        panels.append(panel)
    return figure, panels


def tidy(axes: "Axes") -> "Axes":
    """Remove the frame, and leave a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9ca3af")
    axes.grid(color="#e5e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, color="#9ca3af")
    return axes


def finish_square(axes: "Axes", handles: Sequence[Any], names: Sequence[str], title: str) -> None:
    """Set x and y from 0 to 1, and add a legend with all names below."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.02), aspect="equal")
    if handles:
        # A legend of the figure, below the axes: there it hides no curve.
        axes.figure.legend(
            handles,
            [plain(name) for name in names],
            title=title,
            loc="outside lower center",
            ncols=2,
            frameon=False,
            fontsize=9,
            handlelength=3,
        )


def line_style(i: int) -> dict[str, Any]:
    """Colour and dashes of the i-th label."""
    return {"color": _COLOURS[i % len(_COLOURS)], "linestyle": _DASHES[i % len(_DASHES)], "linewidth": 1.7}


def dot_style(i: int) -> dict[str, Any]:
    """Colour and marker of the i-th label's point."""
    style = {"color": _COLOURS[i % len(_COLOURS)], "marker": _MARKERS[i % len(_MARKERS)]}
    return style | {"markersize": 7, "markeredgecolor": "white", "linestyle": "none", "zorder": 5}


def plain(name: str) -> str:
    r"""Shorten a label, and keep its characters from being read as formulas.

    >>> plain("a$b$")
    'a\\$b\\$'
    """
    short = name if len(name) <= _LONGEST_NAME else name[: _LONGEST_NAME - 1] + "…"
    return short.replace("$", r"\$")


def thin(x: FloatValues, y: FloatValues, n_points: int = N_POINTS) -> tuple[FloatValues, FloatValues]:
    """Keep at most `n_points` of a curve, evenly along its length, including both ends.

    Args:
        x: `(n,)`, in [0, 1].
        y: `(n,)`, in [0, 1].
        n_points: Points to keep, 2 or more.

    >>> thin(np.linspace(0, 1, 101), np.zeros(101), 3)[0].tolist()
    [0.0, 0.5, 1.0]
    """
    if len(x) <= n_points:
        return x, y
    length = np.concatenate([[0.0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    kept = np.searchsorted(length, np.linspace(0, length[-1], n_points)[:-1])
    kept = np.unique(np.append(kept, len(x) - 1))
    return x[kept], y[kept]


def to_png(figure: "Figure") -> bytes:
    """Return the picture, and free the figure; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # in a label's name; a box is drawn instead
        figure.savefig(buffer, format="png", dpi=144, metadata={"Software": None})  # the default would name a version
    figure.clear()
    return buffer.getvalue()


def listing(parts: Iterator[str] | Sequence[str]) -> str:
    """Join parts for an alternative text.

    >>> listing(["toxic 0.9", "threat 0.8"]), listing([])
    ('toxic 0.9, threat 0.8', 'n/a')
    """
    return ", ".join(parts) or "n/a"
