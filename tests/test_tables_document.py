"""The commands of docs/tables.md run as they stand, each to the exit code that it says."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from moderation import cli

DOCUMENT = (Path(__file__).parents[1] / "docs" / "tables.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", DOCUMENT, flags=re.DOTALL)


@pytest.mark.parametrize("block", BLOCKS, ids=[re.search(r"> (\S+)", block)[1] for block in BLOCKS])
def test_every_command_ends_with_its_documented_exit_code(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for line in block.splitlines():
        if line.startswith("moderation "):
            command, _, remark = line.partition("  # exit code ")
            expected = int(remark[0]) if remark else 0
            assert cli.main(shlex.split(command)[1:]) == expected, line
        else:
            subprocess.run(["bash", "-c", line], check=True)
