"""The APIs of the server: its own, OpenAI's moderation endpoint and the Perspective API."""
