"""The language of a text, as answers say it."""

from typing import Annotated

from pydantic import BaseModel, Field


class Language(BaseModel):
    """The language that a text seems to be written in."""

    code: Annotated[str, Field(description="ISO 639-1; und: too short or too unclear to tell")]
    supported: Annotated[bool, Field(description="false: the model was not trained on it; do not rely on the answer")]
