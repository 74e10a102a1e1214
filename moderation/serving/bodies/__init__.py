"""Request bodies: media types, JSON, multipart."""
