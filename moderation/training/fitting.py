"""Fit a classifier to encoded examples: from flat settings to a trainer that has run."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainingArguments
from transformers.utils import logging as transformers_logging

from moderation.artifacts import RunFolder
from moderation.errors import ConfigError
from moderation.evaluation.metrics import compute_metrics
from moderation.training.balancing import PosWeightRule, example_weights, pos_weight_of
from moderation.training.callbacks import JsonlLog, KeepBest, ProgressBar, SaveState, has_stopped_early
from moderation.training.checkpoints import save_checkpoint
from moderation.training.environment import n_processes
from moderation.training.model import build_model, check_tokenizer, freeze_for_speed
from moderation.training.precision import Resolved
from moderation.training.states import choose_state, remove_other_states
from moderation.training.tracking import report_to
from moderation.training.trainer import PosWeightTrainer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fit:
    """What a training came to.

    Args:
        steps: Optimizer steps in all.
        examples: Examples seen in all, repeated ones counted each time.
        seconds: Seconds of this process's part of the training.
        parameters: Parameters of the model.
        trainable: Those of them that learnt.
        resumed_from: Step at which this process went on; None: from the start.
    """

    steps: int
    examples: int
    seconds: float
    parameters: int
    trainable: int
    resumed_from: int | None


def fit(
    run: RunFolder,
    train: Dataset,
    val: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    labels: Sequence[str],
    targets: npt.NDArray[np.float32],
    *,
    optional: npt.NDArray[np.bool_] | None = None,
    backbone_dir: Path,
    about: dict[str, Any],
    random_weights: bool,
    attention_dropout: float,
    freeze_embeddings: bool,
    freeze_layers: int,
    pos_weight: PosWeightRule,
    pos_weight_cap: float,
    negatives: float,
    balanced_sampler: bool,
    head_lr: float | None,
    best_metric: str,
    patience: int,
    save_every: int,
    resume: bool,
    begin: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> Fit:
    """Fine-tune and write the best and the final checkpoint, the log, and states to resume from.

    Args:
        run: Where to write.
        train: Encoded examples, from `df_to_hfds`.
        val: Encoded examples for the evaluation after each epoch.
        tokenizer: For padding.
        labels: Label order.
        targets: Targets of `train`, float32 `(n_examples, n_labels)`.
        optional: See `PosWeightTrainer`, as for `negatives`.
        backbone_dir: Local folder of the backbone.
        about: Facts to keep in the checkpoints.
        random_weights: See `build_model`, as for `attention_dropout`.
        attention_dropout: See there.
        freeze_embeddings: See `freeze_for_speed`, as for `freeze_layers`.
        freeze_layers: See there.
        pos_weight: See `build_balanced_sampler_and_pos_weight`, as for `pos_weight_cap`.
        pos_weight_cap: See there.
        negatives: See there.
        balanced_sampler: Draw rare labels more often.
        head_lr: Learning rate of the classification layer.
        best_metric: See `KeepBest`, as for `patience`.
        patience: See there.
        save_every: Optimizer steps between two states.
        resume: Go on from the newest state, where there is one.
        begin: Called once all settings were found usable, before anything of an earlier run is replaced.
        **arguments: See `_training_arguments`.

    Raises:
        ConfigError: settings that do not go with the number of processes or the model.
        DataError: a label has no positives in the train split.
        ArtifactError: the backbone cannot be loaded or its tokenizer is another model's, the state to resume from was
            changed, or the disk is full.
    """
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # ours shows the training itself
    training_arguments = _training_arguments(run.resume_dir, **arguments)
    model = build_model(backbone_dir, labels, random_weights=random_weights, attention_dropout=attention_dropout)
    check_tokenizer(tokenizer, model, backbone_dir)
    if freeze_layers or freeze_embeddings:
        freeze_for_speed(model, freeze_layers)
    weights = pos_weight_of(targets, pos_weight, pos_weight_cap)
    logger.info("pos_weight: %s", ", ".join(f"{name} {w:.1f}" for name, w in zip(labels, weights, strict=True)))
    bar = ProgressBar(best_metric)
    trainer = PosWeightTrainer(
        model=model,
        args=training_arguments,
        train_dataset=train,
        eval_dataset=val,
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        pos_weight=torch.from_numpy(weights),
        example_weights=example_weights(targets) if balanced_sampler else None,
        negatives=negatives,
        optional=optional,
        head_lr=head_lr,
        callbacks=[bar, JsonlLog(run.log), SaveState(save_every)],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(
        KeepBest(best_metric, patience, lambda metrics: _save(run.checkpoint_best, trainer, labels, about, metrics))
    )
    state = choose_state(run.resume_dir, training_arguments.world_size) if resume else None
    begin()
    if resume and state is None:
        logger.info("Resume: no complete state was saved; the training starts from its beginning.")
    if trainer.is_world_process_zero():
        remove_other_states(run.resume_dir, state)
    if state is not None and has_stopped_early(state, best_metric, patience):
        training_arguments.num_train_epochs = 0  # the weights of the state are the final ones
    try:
        result = trainer.train(resume_from_checkpoint=None if state is None else str(state))
    finally:
        bar.finish()  # or it would be drawn once more below the message of an error
    if trainer.is_world_process_zero():
        _save(run.checkpoint_final, trainer, labels, about, {})
    trainer.accelerator.wait_for_everyone()  # the checkpoints are complete for every process that goes on
    return _describe(trainer, model, float(result.metrics["train_runtime"]), state)


def _training_arguments(
    output_dir: Path,
    *,
    epochs: float,
    batch_size: int,
    lr: float,
    weight_decay: float,
    warmup: float,
    grad_accumulation: int,
    max_grad_norm: float,
    precision: Resolved,
    seed: int,
    track: tuple[str, ...],
) -> TrainingArguments:
    if batch_size % n_processes():
        raise ConfigError(f"--batch-size {batch_size} cannot be shared by {n_processes()} processes; take a multiple.")
    on_cpu = not torch.cuda.is_available()
    return TrainingArguments(
        output_dir=str(output_dir),
        num_train_epochs=epochs,
        per_device_train_batch_size=batch_size // n_processes(),
        per_device_eval_batch_size=32,
        learning_rate=lr,
        weight_decay=weight_decay,
        warmup_steps=warmup if warmup < 1 else 0.999,
        gradient_accumulation_steps=grad_accumulation,
        max_grad_norm=max_grad_norm,
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=seed,
        use_cpu=on_cpu,
        ddp_find_unused_parameters=False,
        ddp_backend="gloo" if on_cpu and n_processes() > 1 else None,
        eval_strategy="epoch",
        save_strategy="no",  # the callback SaveState asks for states, and removes older ones
        logging_steps=0.02,
        report_to=report_to(track, output_dir.parent),
        run_name=output_dir.parent.name,
        disable_tqdm=True,  # the callback ProgressBar draws one bar instead
        remove_unused_columns=False,  # `length` serves the batches
        dataloader_pin_memory=not on_cpu,
    )


def _save(
    path: Path, trainer: PosWeightTrainer, labels: Sequence[str], about: dict[str, Any], metrics: dict[str, float]
) -> None:
    model: PreTrainedModel = trainer.accelerator.unwrap_model(trainer.model)
    numbers = {name: float(value) for name, value in metrics.items()}
    save_checkpoint(path, model, labels, about | {"step": trainer.state.global_step, "val_metrics": numbers})


def _describe(trainer: PosWeightTrainer, model: PreTrainedModel, seconds: float, state: Path | None) -> Fit:
    return Fit(
        steps=trainer.state.global_step,
        examples=round(trainer.n_examples_per_epoch * float(trainer.state.epoch or 0)),
        seconds=round(seconds, 3),
        parameters=sum(p.numel() for p in model.parameters()),
        trainable=sum(p.numel() for p in model.parameters() if p.requires_grad),
        resumed_from=int(state.name.rpartition("-")[2]) if state else None,
    )
