"""Durations in words."""


def duration(seconds: float) -> str:
    """Describe how long something took, or will take.

    >>> duration(41.6), duration(1412), duration(9000)
    ('42 seconds', '24 minutes', '2.5 hours')
    """
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
