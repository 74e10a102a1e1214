"""A run folder for the classifier: the best checkpoint in torch, with everything that belongs to it."""

from dataclasses import dataclass, field
from pathlib import Path

from moderation.artifacts import RunFolder, sha256
from moderation.bundles import MANIFEST, TOKENIZER, Bundle
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError
from moderation.extras import missing_extra
from moderation.inference.backends import TorchBackend


@dataclass(frozen=True)
class TrainedModel:
    """The model of a run folder, which is not sealed in a bundle.

    Args:
        bundle: What its bundle would contain: labels, thresholds, calibrators, windows. Its `version` is the SHA-256 of
            the checkpoint, and it has no forms.
        checkpoint: The weights.
        tokenizer: The tokenizer's file.
        tokenizer_content: Its content, as compared with the checkpoint.
    """

    bundle: Bundle
    checkpoint: Path
    tokenizer: Path
    tokenizer_content: bytes = field(repr=False)

    def open(self, threads: int | None, device: str) -> TorchBackend:
        """Load the weights into torch.

        Raises:
            ArtifactError: the checkpoint is missing, damaged, or not the one that was read.
            ConfigError: invalid threads or device.
        """
        from moderation.training.checkpoints import load_checkpoint

        threads = count_cores() if threads is None else threads
        if threads < 1:
            raise ConfigError(f"threads is {threads}, expected 1 or more.")
        return TorchBackend(load_checkpoint(self.checkpoint, sha256=self.bundle.version).model, threads, device)


def is_run(path: Path) -> bool:
    """Whether a folder is a run and not a bundle."""
    run = RunFolder(path)
    return not (path / MANIFEST).is_file() and any(file.is_file() for file in (run.run_json, run.checkpoint_best))


def read_run(path: Path, backend: str) -> TrainedModel:
    """Read a finished run's best checkpoint and what belongs to it.

    Args:
        path: The run folder.
        backend: `auto` or `torch`.

    Raises:
        ArtifactError: the run is not finished; one of its files is missing, damaged, or from another run; or another
            backend was requested, whose form only a bundle has.
        MissingExtraError: torch is not installed.
    """
    if backend not in ("auto", "torch"):
        raise ArtifactError(
            f"{path}: this is a run folder, which only backend torch can run. For {backend}, export it first: "
            f"moderation export {path} --to {path.name}-bundle"
        )
    try:
        from moderation.evaluation.language_calibration import load_tunings
        from moderation.training.checkpoints import load_checkpoint
        from moderation.training.run_record import check_unchanged
        from moderation.training.runs import languages_of_run, load_own_tokenizer, run_settings
    except ModuleNotFoundError as error:
        raise missing_extra(error, ("train",), "Classifier.load of a run folder") or error from None
    run = RunFolder(path)
    settings = run_settings(run)
    check_unchanged(run, run.checkpoint_best, run.calibration)
    version = sha256(run.checkpoint_best)
    checkpoint = load_checkpoint(run.checkpoint_best, sha256=version)
    tokenizer = load_own_tokenizer(run, checkpoint)  # refuses one from another run
    config = checkpoint.model.config
    length = checkpoint.about.max_length or settings.model.max_length
    tunings = load_tunings(run.calibration, run.thresholds, checkpoint.labels)
    bundle = Bundle(
        path=path,
        name=path.resolve().name,
        version=version,
        labels=checkpoint.labels,
        thresholds=tunings.general.thresholds,
        calibrators=tunings.general.calibrators,
        by_language=tunings.by_language,
        window_length=length,
        window_overlap=length // 4,
        languages=languages_of_run(run, settings),
        forms={},
        files={},
        n_tokens=getattr(config, "vocab_size", None),
        pad_id=config.pad_token_id or 0,
    )
    content: str = tokenizer.backend_tokenizer.to_str()
    return TrainedModel(bundle, run.checkpoint_best, run.tokenizer_dir / TOKENIZER, content.encode())
