"""HTTP connections: where requests end, and how much all connections together may hold."""
