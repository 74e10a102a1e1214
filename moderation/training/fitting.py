"""Fit a classifier to encoded examples: from options to a trainer that has run."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from moderation.artifacts import RunFolder
from moderation.errors import ConfigError
from moderation.evaluation.metrics import compute_metrics
from moderation.run_records import Fit
from moderation.training.balancing import example_weights, pos_weight_of
from moderation.training.callbacks import JsonlLog, KeepBest, ProgressBar, SaveState, has_stopped_early
from moderation.training.checkpoints import CheckpointFacts, save_checkpoint
from moderation.training.environment import n_processes
from moderation.training.options import FitOptions, RunOptions
from moderation.training.precision import resolve_precision
from moderation.training.states import choose_state, remove_other_states
from moderation.training.tracking import report_to
from moderation.training.trainer import PosWeightTrainer

logger = logging.getLogger(__name__)

USUAL_FIT, USUAL_RUN, NO_FACTS = FitOptions(), RunOptions(), CheckpointFacts()


@dataclass(frozen=True)
class Examples:
    """The data that a classifier is fitted to, and measured on after each epoch.

    Args:
        train: Encoded examples, from `df_to_hfds`.
        val: Encoded examples for the evaluation after each epoch.
        tokenizer: The tokenizer that encoded them; its padding token and side are used.
        labels: Label order.
        targets: Targets of `train`, 0 or 1, float32 `(n_examples, n_labels)`.
        optional: Rows of `train` of which an epoch may use a share (`FitOptions.negatives`), bool `(n_examples,)`;
            None: all rows without any label.
    """

    train: Dataset
    val: Dataset
    tokenizer: PreTrainedTokenizerBase
    labels: Sequence[str]
    targets: npt.NDArray[np.float32]
    optional: npt.NDArray[np.bool_] | None = None


def fit(
    run: RunFolder,
    model: PreTrainedModel,
    examples: Examples,
    options: FitOptions = USUAL_FIT,
    *,
    around: RunOptions = USUAL_RUN,
    about: CheckpointFacts = NO_FACTS,
    begin: Callable[[], None] = lambda: None,
) -> Fit:
    """Fine-tune and write the best and the final checkpoint, the log, and states to resume from.

    Args:
        run: Where to write.
        model: From `build_model` or `start_model`; its weights change.
        examples: What to learn from.
        options: How to learn.
        around: The seed, whether to continue from the newest state if there is one, and the trackers.
        about: Facts to keep in the checkpoints.
        begin: Called after all settings were checked, before anything of an earlier run is replaced.

    Raises:
        ConfigError: settings do not fit the number of processes or the model.
        DataError: a label has no positives in the train split.
        ArtifactError: the state to resume from was changed, or the disk is full.

    Example:
        >>> fit(RunFolder(Path("runs/exp1")), build_model("backbone", labels), examples,
        ...     FitOptions(epochs=1, batch_size=32))  # doctest: +SKIP
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # ours shows the training itself
    arguments = _training_arguments(run.resume_dir, options, around)
    bar = ProgressBar(options.best_metric)
    trainer = _make_trainer(
        model, examples, options, arguments, [bar, JsonlLog(run.log), SaveState(options.save_every)]
    )

    def save(path: Path, metrics: Mapping[str, float]) -> None:
        numbers = {name: float(value) for name, value in metrics.items()}
        facts = replace(about, step=trainer.state.global_step, val_metrics=numbers)
        save_checkpoint(path, trainer.accelerator.unwrap_model(trainer.model), examples.labels, facts)

    trainer.add_callback(
        KeepBest(options.best_metric, options.patience, lambda metrics: save(run.checkpoint_best, metrics))
    )
    state = choose_state(run.resume_dir, arguments.world_size) if around.resume else None
    begin()
    if around.resume and state is None:
        logger.info("Resume: no complete state was saved; the training starts from the beginning.")
    if trainer.is_world_process_zero():
        remove_other_states(run.resume_dir, state)
    if state is not None and has_stopped_early(state, options.best_metric, options.patience):
        arguments.num_train_epochs = 0  # the weights of the state are the final ones
    try:
        result = trainer.train(resume_from_checkpoint=None if state is None else str(state))
    finally:
        bar.finish()  # otherwise it would be drawn again below an error message
    if trainer.is_world_process_zero():
        save(run.checkpoint_final, {})
    trainer.accelerator.wait_for_everyone()  # the checkpoints are complete for every process that continues
    return _describe(trainer, model, float(result.metrics["train_runtime"]), state)


def _make_trainer(
    model: PreTrainedModel,
    examples: Examples,
    options: FitOptions,
    arguments: TrainingArguments,
    callbacks: list[TrainerCallback],
) -> PosWeightTrainer:
    weights = pos_weight_of(examples.targets, options.pos_weight, options.pos_weight_cap)
    shown = ", ".join(f"{name} {weight:.1f}" for name, weight in zip(examples.labels, weights, strict=True))
    logger.info("pos_weight: %s", shown)
    trainer = PosWeightTrainer(
        model=model,
        args=arguments,
        train_dataset=examples.train,
        eval_dataset=examples.val,
        processing_class=examples.tokenizer,
        compute_metrics=compute_metrics,
        pos_weight=torch.from_numpy(weights),
        example_weights=example_weights(examples.targets) if options.balanced_sampler else None,
        negatives=options.negatives,
        optional=examples.optional,
        head_lr=options.head_lr,
        callbacks=callbacks,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _training_arguments(output_dir: Path, options: FitOptions, around: RunOptions) -> TrainingArguments:
    if options.batch_size % n_processes():
        raise ConfigError(
            f"--batch-size {options.batch_size} is not divisible by the number of processes ({n_processes()}); use a "
            f"multiple of {n_processes()}."
        )
    on_cpu = not torch.cuda.is_available()
    precision = resolve_precision(options.precision)
    return TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=options.epochs,
        per_device_train_batch_size=options.batch_size // n_processes(),
        per_device_eval_batch_size=32,
        learning_rate=options.lr,
        weight_decay=options.weight_decay,
        warmup_steps=options.warmup if options.warmup < 1 else 0.999,
        gradient_accumulation_steps=options.grad_accumulation,
        max_grad_norm=options.max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=around.seed,
        use_cpu=on_cpu,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if on_cpu and n_processes() > 1 else None,
        eval_strategy="epoch",
        save_strategy="no",  # the callback SaveState requests states, and removes older ones
        logging_steps=0.02,
        report_to=report_to(around.track, output_dir.parent),
        run_name=output_dir.parent.name,
        disable_tqdm=True,  # the callback ProgressBar draws one bar instead
        remove_unused_columns=False,  # the batches need `length`
        dataloader_pin_memory=not on_cpu,
    )


def _describe(trainer: PosWeightTrainer, model: PreTrainedModel, seconds: float, state: Path | None) -> Fit:
    return Fit(
        steps=trainer.state.global_step,
        examples=round(trainer.n_examples_per_epoch * float(trainer.state.epoch or 0)),
        seconds=round(seconds, 3),
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        resumed_from=int(state.name.rpartition("-")[2]) if state else None,
    )
