"""HTTP around the classifier: one server, three languages, and no torch."""
