"""The tutorials' notebooks run from top to bottom, in folders of their own."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "docs" / "tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_committed_as_it_is_written(path: Path) -> None:
    """No count, time or path of whoever ran it, and nothing but plain text."""
    content = json.loads(path.read_text(encoding="utf-8"))
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None and not cell["metadata"]
            assert {output["output_type"] for output in cell["outputs"]} <= {"stream"}
            assert "/home/" not in str(cell["outputs"]) and "/tmp" not in str(cell["outputs"])


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, tiny_backbone: Path) -> None:
    """With a tiny backbone of random weights, so that nothing is fetched."""
    environment = {**os.environ, "BACKBONE": str(tiny_backbone), "HF_HUB_OFFLINE": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, ROOT / "docs" / "notebooks.py", path.stem]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
