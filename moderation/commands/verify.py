"""`moderation verify`: is a bundle unchanged since its export, and does each form still give the same answers?"""

from pathlib import Path

from moderation.bundles import AUTO, check_files, find_foreign, find_models, read_bundle
from moderation.config import VerifyConfig
from moderation.errors import MissingExtraError, ModerationError
from moderation.export.parity import Recheck, check_again, read_odd_answers
from moderation.inference.backends import backends
from moderation.inference.classifier import Classifier
from moderation.manifests import MANIFEST
from moderation.text_tables import align


def verify(config: VerifyConfig) -> int:
    """Hash every file, load every form whose package is installed, compare its answers on the odd texts.

    Returns:
        0; 1 if a form cannot be loaded, answers differently than at export, or could not be compared at all.

    Raises:
        ArtifactError: it is not a bundle, a file is missing, changed or foreign, or the manifest was changed.
    """
    failed = []
    for number, folder in enumerate(find_models(config.bundle or AUTO)):
        if number:
            print()
        failed += _verify_bundle(folder, config.threads)
    if failed:
        print("\nFailed:\n" + "\n".join(f"  {line}" for line in failed))
    return 1 if failed else 0


def _verify_bundle(folder: Path, given_threads: int | None) -> list[str]:
    """Verify one bundle and print a table; what failed."""
    bundle = read_bundle(folder)
    check_files(bundle)
    foreign = find_foreign(bundle)
    print(f"{bundle.short_version}: {len(bundle.files)} files are unchanged since the export.")
    texts, kept = read_odd_answers(bundle.path, bundle.labels)
    rows = [["form", "texts", "from torch", "from export", "verdict"]]
    failed = [f"{name}: not listed in {MANIFEST}" for name in foreign]
    runnable = {form.name: backend for backend, form in backends().items()}
    for form, backend in runnable.items():
        if form not in bundle.forms:
            continue
        try:
            # torch splits each window among its threads; on busy cores they mostly wait for each other
            threads = 1 if given_threads is None and backend.startswith("torch") else given_threads
            with Classifier.load(bundle.path, backend=backend, threads=threads, check_hashes=False) as it:
                row = check_again(form, it.probabilities(texts), kept)
        except MissingExtraError as error:
            rows.append([form, "", "", "", f"skipped: pip install '.[{error.extra}]'"])
            continue
        except ModerationError as error:
            rows.append([form, "", "", "", "FAILED: not compared"])
            failed.append(f"{form}: {error}")
            continue
        rows.append(_cells(row))
        if not row.n_texts:
            failed.append(
                f"{form}: nothing compared, since this version and the bundle's export have no odd text in common"
            )
        elif not row.passed:
            failed.append(f"{form}: its answers on odd texts differ from those at the export")
    rows += [[form, "", "", "", "hashed only"] for form in bundle.forms if form not in runnable]
    print("\n" + align(rows))
    return failed


def _cells(row: Recheck) -> list[str]:
    """Show the limit next to the difference that it applies to; the other difference has none."""
    bounded = f" (limit {row.limit:.0e})"
    differences = [
        f"{difference:.1e}" + (bounded if row.judged == name else "")
        for name, difference in (("from torch", row.from_torch), ("from export", row.from_export))
    ]
    verdict = "passed" if row.passed else "FAILED" if row.n_texts else "FAILED: nothing compared"
    return [row.form, str(row.n_texts), *differences, verdict]
