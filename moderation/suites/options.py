"""How suites are measured; light enough for `--help`."""

from dataclasses import dataclass

from moderation.options import Options, setting


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """What is drawn at random."""

    max_texts: int | None = setting(
        None, "measure a random part of this many rows of each suite, for a quick look", at_least=1
    )
    seed: int = setting(42, "seed of the random parts, the edits and the intervals", at_least=0, at_most=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class SuiteOptions(SampleOptions):
    """How suites are measured.

    Args:
        max_texts: Maximum number of rows of a suite, a seeded part; None: all.
        seed: Of samples, edits and resamples.
        bootstrap: Resamples of the intervals; 0: no intervals that need them.
    """

    bootstrap: int = setting(1000, "bootstrap samples for the intervals; 0: no such intervals", at_least=0)
