"""HTTP around the classifier: one server, three APIs, and no torch."""
