"""Update the steps that read disguised words in a bundle trained with `--fold-disguises`; change nothing else.

The bundle's `tokenizer.json` gets the steps of `moderation.data.folding` before its own normalisation, the card is
written again, and the manifest is sealed. If the tokenizer reads some of the odd texts of `moderation verify`
differently than before, their answers are computed again, with the forms in the bundle, since the torch weights are not
in it. `parity.json` names these texts under `without_torch`.

    python examples/refold.py moderation/models/compact-en --about configs/compact-en.md --licence apache-2.0
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, normalizers

from moderation.artifacts import read_json, write_json
from moderation.bundles import CARD, TOKENIZER, check_files, read_bundle, write_manifest
from moderation.data.folding import reading_steps
from moderation.export.card import write_card
from moderation.export.odd_texts import ODD_TEXTS
from moderation.export.parity import PARITY_FILE
from moderation.export.staging import staged_folder
from moderation.inference.backends import backends
from moderation.inference.classifier import Classifier


def main() -> None:
    """Read the arguments, check the bundle, write the new one next to it, and put that in its place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path, help="folder of the bundle")
    parser.add_argument(
        "--about", type=Path, required=True, help="text of the card in addition to its tables, Markdown"
    )
    parser.add_argument("--licence", required=True, help="as for moderation export")
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    check_files(bundle, None)
    with staged_folder(options.bundle, overwrite=True) as folder:
        shutil.copytree(options.bundle, folder, dirs_exist_ok=True)
        changed = fold_again(folder / TOKENIZER)
        write_manifest(folder, bundle)
        answer_again(folder, changed)
        card = write_card(
            write_manifest(folder, bundle), about=options.about.read_text(encoding="utf-8"), licence=options.licence
        )
        (folder / CARD).write_text(card, encoding="utf-8")
        sealed = write_manifest(folder, bundle)
    print(f"{sealed.short_version}: {len(changed)} of {len(ODD_TEXTS)} odd texts are read differently than before.")


def fold_again(path: Path) -> list[str]:
    """Put the steps before a tokenizer's own normalisation, the last step of its sequence.

    Returns:
        Names of the odd texts whose tokens have changed.
    """
    before = Tokenizer.from_file(str(path))
    own = json.loads(path.read_text(encoding="utf-8"))["normalizer"]["normalizers"][-1]
    content = json.loads(before.to_str())
    content["normalizer"] = {"type": "Sequence", "normalizers": []}
    after = Tokenizer.from_str(json.dumps(content))
    after.normalizer = normalizers.Sequence(reading_steps())
    content = json.loads(after.to_str())
    content["normalizer"]["normalizers"].append(own)
    after = Tokenizer.from_str(json.dumps(content))
    after.save(str(path))
    return [name for name, text in ODD_TEXTS.items() if before.encode(text).ids != after.encode(text).ids]


def answer_again(folder: Path, changed: list[str]) -> None:
    """Compute the answers on the changed texts again, in every form that was compared."""
    content: dict[str, Any] = read_json(folder / PARITY_FILE, "the answers that an export keeps")
    places = [list(content["texts"]).index(name) for name in changed]
    for backend, form in backends().items():
        if form.name not in content["answers"] or form.name == "hf":
            continue
        with Classifier.load(folder, backend=backend) as classifier:
            answers = classifier.probabilities([ODD_TEXTS[name] for name in changed])
        for place, row in zip(places, np.asarray(answers).tolist(), strict=True):
            content["answers"][form.name][place] = content["answers"]["hf"][place] = row
    content["without_torch"] = sorted({*content.get("without_torch", []), *changed})
    write_json(folder / PARITY_FILE, content)


if __name__ == "__main__":
    main()
