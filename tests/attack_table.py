"""Counts of hostile cases, by the class of attack: `python -m pytest -m hostile` ends with their table.

A test says `@pytest.mark.hostile("class of attack")` and counts as one case. A test that tries many takes the fixture
`attack` and says how many it has tried: `attack.tried(400)`. With `--long` it tries more, see `Attack.cases`.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import pytest

_PROPERTY = "hostile"


@dataclass
class Attack:
    """The cases of one test.

    Args:
        long: Whether `--long` was given.
    """

    long: bool
    n_tried: int = field(default=0, init=False)

    def cases(self, short: int, long: int) -> int:
        """How many cases to try: some in every run of the tests, more by hand."""
        return long if self.long else short

    def tried(self, n: int = 1) -> None:
        """So many cases were tried; that they held is what the test asserts."""
        self.n_tried += n


@pytest.fixture
def attack(request: pytest.FixtureRequest) -> Attack:
    """Count the cases that a test tries."""
    found = Attack(request.config.getoption("--long"))
    request.node.stash[_KEY] = found
    return found


_KEY = pytest.StashKey[Attack]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Another size of the same tests."""
    parser.addoption("--long", action="store_true", help="try hostile cases in great number; takes hours")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let the long form of a test take as long as it takes."""
    if config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("hostile"):
                item.add_marker(pytest.mark.timeout(0), append=False)


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Note what was tried; the note travels with the report, also from another process."""
    mark = item.get_closest_marker("hostile")
    if mark is not None:
        attack = item.stash.get(_KEY, None)
        item.user_properties.append((_PROPERTY, [mark.args[0], max(1, attack.n_tried if attack else 1)]))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table, where hostile cases alone were asked for."""
    if "hostile" not in (config.option.markexpr or ""):
        return
    stats = terminalreporter.stats
    failed = {report.nodeid for kind in ("failed", "error") for report in stats.get(kind, [])}
    skipped = {report.nodeid for report in stats.get("skipped", [])}
    table: dict[str, Counter[str]] = defaultdict(Counter)
    for report in (report for reports in stats.values() for report in reports):
        for name, value in getattr(report, "user_properties", []):
            if name == _PROPERTY:
                attack, n = value
                kind = "failed" if report.nodeid in failed else "held"
                table[attack].update({"skipped": 1} if report.nodeid in skipped else {kind: n})
    width = max(map(len, ["attack class", *table]))
    terminalreporter.section("hostile cases")
    terminalreporter.line(f"| {'attack class':{width}} | cases tried | held | failed | tests skipped |")
    terminalreporter.line(f"|{'-' * (width + 2)}|---:|---:|---:|---:|")
    for attack, n in sorted(table.items()):
        counts = (n["held"] + n["failed"], n["held"], n["failed"], n["skipped"])
        terminalreporter.line(f"| {attack:{width}} | " + " | ".join(f"{count:,}" for count in counts) + " |")
