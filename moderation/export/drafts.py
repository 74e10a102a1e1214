"""A bundle under construction: its folder, and its manifest, which grows form by form."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from moderation.bundles import Bundle, write_manifest
from moderation.export.parity import ParityRow
from moderation.manifests import FormFacts, Manifest


@dataclass
class Draft:
    """A bundle under construction.

    Args:
        folder: Its folder.
        manifest: What is known so far.
        rows: Form -> how it compares with torch.
    """

    folder: Path
    manifest: Manifest
    rows: dict[str, ParityRow] = field(default_factory=dict)

    def add(self, form: str, facts: FormFacts) -> None:
        """Add a form that was written, or update its facts."""
        self.manifest = replace(self.manifest, forms={**self.manifest.forms, form: facts})

    def drop(self, form: str) -> None:
        """Remove a form and its files; its row of the parity table stays."""
        for name in self.manifest.forms[form].files:
            (self.folder / name).unlink()
        kept = {name: facts for name, facts in self.manifest.forms.items() if name != form}
        self.manifest = replace(self.manifest, forms=kept)
        for path in self.folder.iterdir():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()

    def seal(self) -> Bundle:
        """Write the manifest for the files that exist.

        Raises:
            ArtifactError: the folder cannot be written, or is not a bundle yet.
        """
        rows = [row.to_plain() for row in self.rows.values()]
        return write_manifest(self.folder, replace(self.manifest, records={**self.manifest.records, "parity": rows}))
