"""Run the notebooks of the tutorials, each in a folder of its own.

python docs/notebooks.py            # run them; nothing is kept
python docs/notebooks.py --write    # and keep what they print in the notebooks: make notebooks
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIALS = Path(__file__).parent / "tutorials"


def run(path: Path, *, write: bool) -> None:
    """Run one notebook; an error in a cell is raised.

    Args:
        path: The notebook.
        write: Keep what it prints, without what differs from run to run: speeds, and standard error.
    """
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=1800, resources={"metadata": {"path": folder}}, record_timing=False)
        client.execute()
    if write:
        for cell in notebook.cells:
            if cell.cell_type == "code":
                printed = "".join(one.text for one in cell.outputs if one.get("name") == "stdout")
                lines = [line for line in printed.splitlines(keepends=True) if " rows/s " not in line]
                cell.outputs = [nbformat.v4.new_output("stream", text="".join(lines))] if lines else []
                cell.execution_count = None
        notebook.metadata.language_info = {"name": "python"}
        path.write_text(nbformat.writes(notebook, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    """Run all notebooks, or those that the command line names."""
    parser = argparse.ArgumentParser(description="Run the notebooks of the tutorials.")
    parser.add_argument("names", nargs="*", help="such as moderate-a-dump; default: all")
    parser.add_argument("--write", action="store_true", help="keep what they print")
    arguments = parser.parse_args()
    # Their shell cells call the `moderation` of this environment.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    names = arguments.names or sorted(path.stem for path in TUTORIALS.glob("*.ipynb"))
    for name in names:
        run(TUTORIALS / f"{name}.ipynb", write=arguments.write)


if __name__ == "__main__":
    main()
