"""Files of any supported format, read as rows."""
