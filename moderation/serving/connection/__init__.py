"""One HTTP connection: where requests end, and what all connections may hold."""
