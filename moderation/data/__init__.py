"""Table -> clean rows -> splits -> encoded dataset."""
