"""What moderators decided, and the database that keeps it."""
