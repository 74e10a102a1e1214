"""`PosWeightTrainer`: the Hugging Face Trainer with a weighted multi-label loss and batches of similar length."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import nn
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import EvalLoopOutput, EvalPrediction

from moderation.artifacts import is_failed_write
from moderation.errors import ArtifactError, ConfigError
from moderation.training.batching import BucketedBatches, EpochLoader, PaddingCollator, lengths_of
from moderation.training.prediction import predict_logits
from moderation.training.states import reading_state


class PosWeightTrainer(Trainer):
    """A `transformers.Trainer` for multi-label targets.

    The loss is binary cross-entropy with logits, the mean over examples and labels, positives weighted by
    `pos_weight`. A target of NaN is unknown: it is left out of that mean, so its label learns nothing from the example.
    Batches are bucketed by length, also with a balanced sampler. With several processes,
    `per_device_train_batch_size` times their number is cut into equal shares, and each example is seen once an epoch.

    Args:
        *args: As for `transformers.Trainer`.
        pos_weight: Weight of positives, float32 `(n_labels,)`; None: 1.
        example_weights: Weight of each example of `train_dataset`, float64 `(n_examples,)`, to draw them with
            replacement; None: each one once an epoch.
        negatives: Share of the optional examples that an epoch uses, in (0, 1]; the epochs cycle through them.
            Cannot be combined with `example_weights`.
        optional: Which these are, bool `(n_examples,)`; None: all without any label.
        head_lr: Learning rate of everything except the encoder; None: that of the arguments.
        **kwargs: As for `transformers.Trainer`. Datasets come from `df_to_hfds` (columns `input_ids`,
            `attention_mask`, `labels`, `length`).

    Example:
        >>> trainer = PosWeightTrainer(  # doctest: +SKIP
        ...     model=model, args=TrainingArguments("out"), train_dataset=train, eval_dataset=val,
        ...     processing_class=tokenizer, compute_metrics=compute_metrics, pos_weight=pos_weight)
        >>> trainer.train()  # doctest: +SKIP
    """

    def __init__(
        self,
        *args: Any,
        pos_weight: torch.Tensor | None = None,
        example_weights: npt.NDArray[np.float64] | None = None,
        negatives: float = 1.0,
        optional: npt.NDArray[np.bool_] | None = None,
        head_lr: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if example_weights is not None and negatives < 1:
            raise ConfigError("PosWeightTrainer: example_weights and negatives exclude each other; give one.")
        self.pos_weight = pos_weight
        self.example_weights = example_weights
        self.negatives = negatives
        self.optional = optional
        self.n_examples_per_epoch = 0  # known once the loader is created
        self.head_lr = head_lr
        self.model_accepts_loss_kwargs = False  # the mean over the batch is computed here
        self.loss_is_scaled_for_ga = False
        if self.processing_class is not None and "data_collator" not in kwargs:
            tokenizer: Any = self.processing_class
            self.data_collator = PaddingCollator(tokenizer.pad_token_id, tokenizer.padding_side)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> Any:
        """Weighted binary cross-entropy of a batch, a scalar; with `return_outputs`, also the model's outputs."""
        inputs = dict(inputs)
        targets = inputs.pop("labels")
        outputs = model(**inputs)
        loss = self.loss_of(outputs.logits, targets)
        return (loss, outputs) if return_outputs else loss

    def loss_of(self, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss over the known ones of `(n_examples, n_labels)` targets, computed in float32; 0 without any."""
        pos_weight = None if self.pos_weight is None else self.pos_weight.to(logits.device)
        targets = targets.float()
        unknown = torch.isnan(targets)
        if not unknown.any():
            return F.binary_cross_entropy_with_logits(logits.float(), targets, pos_weight=pos_weight)
        losses = F.binary_cross_entropy_with_logits(
            logits.float(), targets.nan_to_num(), pos_weight=pos_weight, reduction="none"
        )
        return losses.masked_fill(unknown, 0).sum() / (~unknown).sum().clamp(min=1)

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Loader over bucketed batches; each process gets its share of every batch."""
        if self.train_dataset is None:
            raise ConfigError("PosWeightTrainer: training needs a train_dataset.")
        optional = self.optional if self.negatives < 1 else None
        if self.negatives < 1 and optional is None:
            optional = np.asarray(~(_targets_of(self.train_dataset) > 0).any(axis=1), dtype=np.bool_)
        batches = BucketedBatches(
            lengths_of(self.train_dataset),
            self.args.per_device_train_batch_size * self.args.world_size,
            seed=self.args.seed,
            weights=self.example_weights,
            optional=optional,
            n_optional=0 if optional is None else math.ceil(self.negatives * optional.sum()),
            rank=self.args.process_index,
            world_size=self.args.world_size,
        )
        self.n_examples_per_epoch = batches.n_rows
        return EpochLoader(self.train_dataset, batch_sampler=batches, collate_fn=self.data_collator)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Predict in batches of similar length, shared by the processes, with results in the dataset's order.

        The loss is the weighted loss of the training. `compute_metrics` gets logits and targets.
        """
        dataset: Any = dataloader.dataset
        model: Any = self.model
        logits = predict_logits(
            model,
            dataset,
            self.data_collator,
            batch_size=self.args.per_device_eval_batch_size,
            description=description,
        )
        metrics: dict[str, float] = {}
        targets = None
        if "labels" in dataset.column_names:
            targets = _targets_of(dataset)
            metrics["loss"] = float(self.loss_of(torch.from_numpy(logits), torch.from_numpy(targets)))
            compute: Callable[[EvalPrediction], dict[str, float]] | None = self.compute_metrics
            if compute is not None:
                metrics |= compute(EvalPrediction(predictions=logits, label_ids=targets))
        return EvalLoopOutput(
            predictions=logits,
            label_ids=targets,
            metrics={f"{metric_key_prefix}_{name}": value for name, value in metrics.items()},
            num_samples=len(dataset),
        )

    def create_optimizer(self, model: nn.Module | None = None) -> torch.optim.Optimizer:
        """AdamW over the trainable parameters, with `head_lr` for those outside the encoder."""
        if self.optimizer is None and self.head_lr is not None:
            optimizer_class, options = self.get_optimizer_cls_and_kwargs(self.args)
            self.optimizer = optimizer_class(self._parameter_groups(), **options)
        return super().create_optimizer(model)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a state to resume from; a full disk, which each library reports in its own way, is an ArtifactError."""
        try:
            super()._save_checkpoint(model, trial)
        except (OSError, RuntimeError, SafetensorError) as error:
            if isinstance(error, RuntimeError) and not is_failed_write(error):
                raise
            raise ArtifactError(
                f"{self.args.output_dir}: the state to resume from could not be written; the disk may be full."
            ) from error

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with reading_state(resume_from_checkpoint, "model"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with reading_state(str(checkpoint), "optimizer or scheduler"):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with reading_state(str(checkpoint), "random numbers"):
            super()._load_rng_state(checkpoint)

    def _parameter_groups(self) -> list[dict[str, object]]:
        model: Any = self.model
        decays = set(self.get_decay_parameter_names(model))
        encoder = f"{model.base_model_prefix}."
        groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                groups.setdefault((name.startswith(encoder), name in decays), []).append(parameter)
        return [
            {
                "params": parameters,
                "lr": self.args.learning_rate if in_encoder else self.head_lr,
                "weight_decay": self.args.weight_decay if decay else 0.0,
            }
            for (in_encoder, decay), parameters in groups.items()
        ]


def _targets_of(dataset: Any) -> npt.NDArray[np.float32]:
    return np.asarray(dataset.with_format("numpy")["labels"][:], dtype=np.float32)
