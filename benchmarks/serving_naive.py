"""The server that many people would write first: FastAPI around the `transformers` pipeline, one process.

python benchmarks/serving_naive.py BUNDLE PORT
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import uvicorn
from bundles import LONGEST
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Texts(BaseModel):
    """One text, or a list."""

    texts: list[str] | str


def make_app(folder: Path) -> FastAPI:
    thresholds = json.loads((folder / "moderation.json").read_text(encoding="utf-8"))["thresholds"]
    classify: Any = pipeline(
        "text-classification", model=str(folder), tokenizer=str(folder), device="cpu", trust_remote_code=False
    )
    settings: dict[str, Any] = {"top_k": None, "function_to_apply": "sigmoid"}
    app = FastAPI()

    @app.post("/predict")
    def predict(body: Texts) -> list[dict[str, Any]]:
        texts = [body.texts] if isinstance(body.texts, str) else body.texts
        answers = []
        for scores in classify(texts, truncation=True, max_length=LONGEST, **settings):
            found = {score["label"]: score["score"] for score in scores}
            answers.append(
                {"probabilities": found, "flagged": [name for name in found if found[name] >= thresholds[name]]}
            )
        return answers

    return app


if __name__ == "__main__":
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    uvicorn.run(make_app(Path(sys.argv[1])), port=int(sys.argv[2]), log_level="warning")
