"""The languages that the server speaks: its own, OpenAI's moderation language and the Perspective API's."""
