"""The report of a run folder: plots, and one self-contained page."""

from collections.abc import Sequence
from pathlib import Path

from moderation.artifacts import RunFolder, write_atomically
from moderation.durations import duration
from moderation.errors import MissingExtraError
from moderation.report.content import compose
from moderation.report.inputs import read_inputs
from moderation.report.pages import embed_png, render
from moderation.report.plots import Plot, draw_plots

_TEMPLATE = Path(__file__).with_name("report.html")


def save_logs_and_plots(run_dir: str | Path) -> list[Path]:
    """Write `plots/*.png` and `report.html` from the files in the run folder.

    It reads log.jsonl, preds and labels (test if there are any, otherwise val), thresholds.json, metrics and run.json.
    A missing file leaves its part of the page out. The page loads nothing from outside and runs no script;
    it contains figures and names of labels, and no comments.

    Args:
        run_dir: A run folder, finished or not.

    Returns:
        Paths of the files written, the report last.

    Raises:
        ArtifactError: no such folder, a broken file, files of different runs, or the folder cannot be written.
        MissingExtraError: matplotlib or jinja2 is not installed.

    Example:
        >>> save_logs_and_plots("runs/exp1")[-1]  # doctest: +SKIP
        PosixPath('runs/exp1/report.html')
    """
    run = RunFolder(Path(run_dir))
    inputs = read_inputs(run)
    content = compose(inputs)
    try:
        plots = list(draw_plots(inputs))
        values = {**vars(content), "plots": {plot.name: _embed(plot) for plot in plots}}
        page = render(_TEMPLATE, values, {"interval": _interval, "count": _count, "duration": duration})
    except ImportError:
        raise MissingExtraError("The report", "train") from None
    return [*_write_plots(run, plots), _write_page(run, page)]


def _embed(plot: Plot) -> dict[str, str]:
    return {"alt": plot.alt, "source": embed_png(plot.png)}


def _write_plots(run: RunFolder, plots: Sequence[Plot]) -> list[Path]:
    paths = [run.plots_dir / f"{plot.name}.png" for plot in plots]
    for path, plot in zip(paths, plots, strict=True):
        with write_atomically(path, folder=run.path) as temporary:
            temporary.write_bytes(plot.png)
    return paths


def _write_page(run: RunFolder, page: str) -> Path:
    with write_atomically(run.report) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return run.report


def _interval(bounds: Sequence[float] | None, digits: int = 2) -> str:
    return "" if bounds is None else f"{bounds[0]:.{digits}f}\N{EN DASH}{bounds[1]:.{digits}f}"


def _count(value: int) -> str:
    return f"{value:,}"
