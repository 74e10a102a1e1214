"""`python -m moderation` and the `moderation` command."""

import sys

from moderation.cli import main

if __name__ == "__main__":
    sys.exit(main())
