"""Train on the bundled sample, then moderate four comments: `make demo`, about four minutes on two cores."""

import sys
from pathlib import Path

import pandas as pd

import model_training
from moderation.backbones.registry import load_tokenizer
from moderation.data.encoding import df_to_hfds
from moderation.evaluation.calibration import load_calibrators
from moderation.evaluation.probabilities import calibrate, predict
from moderation.evaluation.thresholds import load_thresholds
from moderation.training.batching import PaddingCollator
from moderation.training.checkpoints import load_checkpoint
from moderation.training.prediction import predict_logits

RUN = Path("runs/demo")
COMMENTS = [
    "Thanks for the quick fix, the build is green again.",
    "You are a pathetic idiot and nobody wants you here.",
    "My gay neighbour brought soup when I was ill, what a lovely man.",
    "Come near my house again and I will break your legs.",
]


def main() -> int:
    """Train, tune, evaluate; then classify four comments with the tuned thresholds."""
    code = model_training.main(["--config", "configs/demo.toml"])
    if code:
        return code
    checkpoint = load_checkpoint(RUN / "checkpoint_best.pt")
    tokenizer = load_tokenizer(RUN / "tokenizer")
    table = pd.DataFrame({"comment_text": COMMENTS}).assign(**dict.fromkeys(checkpoint.labels, 0))
    dataset = df_to_hfds(table, tokenizer, checkpoint.labels)
    logits = predict_logits(checkpoint.model, dataset, PaddingCollator(tokenizer.pad_token_id), quiet=True)
    probabilities = calibrate(logits, load_calibrators(RUN / "calibration.json", checkpoint.labels))
    flagged = predict(probabilities, load_thresholds(RUN / "thresholds.json", checkpoint.labels))

    print("\nFour comments, moderated by the model that was just trained:")
    for comment, row, flags in zip(COMMENTS, probabilities, flagged, strict=True):
        names = [f"{label} {p:.2f}" for label, p, flag in zip(checkpoint.labels, row, flags, strict=True) if flag]
        print(f"  {', '.join(names) or f'fine (toxic {row[0]:.2f})'}\n    {comment}")
    print(
        f"\nOpen {RUN / 'report.html'} in a browser. Then seal the model, and serve it or score a file with it:"
        f"\n  .venv/bin/moderation export {RUN} --to demo-bundle"
        "\n  .venv/bin/moderation serve --model demo-bundle"
        "\n  .venv/bin/moderation score your-comments.csv -o scored.csv --model demo-bundle"
        "\nOr train on comments of your own:"
        "\n  .venv/bin/moderation check your-comments.csv"
        "\n  .venv/bin/moderation train --data-path your-comments.csv --output-dir runs/mine --backbone minilm"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
