"""How suites are measured; imports little, so that `--help` is quick."""

from dataclasses import dataclass

from moderation.options import Options, setting


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Options):
    """What is drawn at random."""

    max_texts: int | None = setting(
        None, "measure a random sample of this many rows of each suite, for a quick look", at_least=1
    )
    seed: int = setting(42, "seed of the random samples, the edits and the intervals", at_least=0, at_most=2**32 - 1)


@dataclass(frozen=True, kw_only=True)
class SuiteOptions(SampleOptions):
    """How suites are measured.

    Args:
        max_texts: Rows to measure of each suite at most, a seeded sample; None: all.
        seed: Of samples, edits and resamples.
        bootstrap: Resamples for the intervals; 0: intervals that need resampling are left out.
    """

    bootstrap: int = setting(1000, "bootstrap samples for the intervals; 0: no intervals", at_least=0)
