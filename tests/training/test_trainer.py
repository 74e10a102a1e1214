import numpy as np
import pytest
import torch
from torch import nn
from transformers import Trainer, TrainingArguments

from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.metrics import compute_metrics
from moderation.labels import JIGSAW_LABELS
from moderation.training.model import freeze_for_speed
from moderation.training.trainer import PosWeightTrainer

POS_WEIGHT = torch.tensor([1.0, 3.0, 2.0, 7.0, 1.5, 20.0])


@pytest.fixture
def model(model):
    """Without dropout, so that what it computes can be computed again."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model


@pytest.fixture
def arguments(tmp_path):
    def make(**changes):
        quiet = {"report_to": "none", "disable_tqdm": True, "save_strategy": "no", "use_cpu": True}
        return TrainingArguments(str(tmp_path / "out"), **(quiet | {"dataloader_pin_memory": False} | changes))

    return make


@pytest.fixture
def make_trainer(model, arguments, train_set, val_set, tokenizer):
    def make(*, trainer=None, **settings):
        given = {"model": model, "train_dataset": train_set, "eval_dataset": val_set, "processing_class": tokenizer}
        return PosWeightTrainer(args=arguments(**settings), **(given | (trainer or {})))

    return make


def as_tensors(dataset, collator):
    batch = collator([dataset[i] for i in range(len(dataset))])
    return batch, batch.pop("labels")


def parameters_of(model):
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


# Loss


def bce_by_hand(logits, targets, pos_weight):
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    return -(pos_weight * targets * np.log(probabilities) + (1 - targets) * np.log(1 - probabilities)).mean()


@pytest.mark.parametrize("pos_weight", [None, POS_WEIGHT])
def test_loss_is_the_weighted_cross_entropy(make_trainer, model, val_set, collator, pos_weight):
    trainer = make_trainer(trainer={"pos_weight": pos_weight})
    inputs, targets = as_tensors(val_set, collator)
    batch = inputs | {"labels": targets}
    loss, outputs = trainer.compute_loss(model, batch, return_outputs=True)
    assert torch.equal(loss, nn.BCEWithLogitsLoss(pos_weight=pos_weight)(outputs.logits, targets))
    by_hand = bce_by_hand(
        outputs.logits.detach().numpy(), targets.numpy(), 1 if pos_weight is None else POS_WEIGHT.numpy()
    )
    assert loss.item() == pytest.approx(by_hand, rel=1e-5)
    assert trainer.compute_loss(model, batch).item() == loss.item()
    assert set(batch) == {"input_ids", "attention_mask", "labels"}, "the batch is the caller's"


def test_unknown_targets_teach_nothing(make_trainer, model, val_set, collator):
    trainer = make_trainer(trainer={"pos_weight": POS_WEIGHT})
    logits = torch.randn(8, 6, requires_grad=True)
    targets = torch.randint(0, 2, (8, 6)).float()
    targets[:, 3] = torch.nan
    targets[2] = torch.nan
    trainer.loss_of(logits, targets).backward()
    assert not logits.grad[:, 3].any()
    assert not logits.grad[2].any()
    rows, columns = [0, 1, 3, 4, 5, 6, 7], [0, 1, 2, 4, 5]
    expected = bce_by_hand(
        logits.detach().numpy()[np.ix_(rows, columns)],
        targets.numpy()[np.ix_(rows, columns)],
        POS_WEIGHT.numpy()[columns],
    )
    logits = logits.detach()
    assert float(trainer.loss_of(logits, targets)) == pytest.approx(expected, rel=1e-5)
    assert float(trainer.loss_of(logits, torch.full((8, 6), torch.nan))) == 0


def test_loss_under_bf16_is_computed_in_float32(make_trainer, model, val_set, collator):
    trainer = make_trainer(trainer={"pos_weight": POS_WEIGHT})
    inputs, targets = as_tensors(val_set, collator)
    with torch.autocast("cpu", torch.bfloat16):
        loss, outputs = trainer.compute_loss(model, inputs | {"labels": targets}, return_outputs=True)
    assert outputs.logits.dtype == torch.bfloat16
    assert loss.dtype == torch.float32
    assert torch.equal(loss, nn.BCEWithLogitsLoss(pos_weight=POS_WEIGHT)(outputs.logits.float(), targets))
    trainer.pos_weight = None
    assert trainer.loss_of(outputs.logits, targets.bfloat16()).dtype == torch.float32  # where no autocast sees to it
    in_bf16 = nn.BCEWithLogitsLoss(pos_weight=POS_WEIGHT.bfloat16())(outputs.logits, targets.bfloat16())
    assert loss.item() != in_bf16.item()


# Updates


@pytest.mark.parametrize(("batch_size", "accumulation"), [(16, 1), (4, 4)])
def test_the_first_update_is_that_of_all_rows_at_once(
    make_trainer, model, train_set, collator, batch_size, accumulation
):
    """Gradient descent, since Adam's first step is the gradient's sign: it would hide a wrong scale."""
    rows = train_set.select(range(16))
    inputs, targets = as_tensors(rows, collator)
    loss = nn.BCEWithLogitsLoss(pos_weight=POS_WEIGHT)(model(**inputs).logits, targets)
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    expected = {
        name: (parameter - 0.5 * gradient).detach()
        for (name, parameter), gradient in zip(model.named_parameters(), gradients, strict=True)
    }
    before = parameters_of(model)
    trainer = make_trainer(
        trainer={"train_dataset": rows, "pos_weight": POS_WEIGHT},
        optim="sgd",
        learning_rate=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        per_device_train_batch_size=batch_size,
        gradient_accumulation_steps=accumulation,
        num_train_epochs=1,
    )
    trainer.train()
    assert trainer.state.global_step == 1
    assert max((expected[name] - before[name]).abs().max() for name in expected) > 1e-3
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name], atol=1e-6, rtol=0)


def test_each_row_comes_once_per_epoch_in_a_new_order(make_trainer, train_set):
    batches = []

    def noting(rows):
        batches.append([tuple(ids) for ids in rows["input_ids"]])
        return rows

    noted = train_set.with_transform(noting)
    make_trainer(
        trainer={"train_dataset": noted}, num_train_epochs=2, per_device_train_batch_size=8, remove_unused_columns=False
    ).train()
    first, second = ([ids for batch in half for ids in batch] for half in (batches[:8], batches[8:]))
    assert len(batches) == 16
    assert sorted(first) == sorted(second) == sorted(map(tuple, train_set["input_ids"]))
    assert first != second


def test_rows_of_more_weight_are_drawn_more_often(make_trainer, train_set):
    rare = np.asarray(train_set["labels"])[:, JIGSAW_LABELS.index("severe_toxic")] == 1
    assert 0 < rare.mean() < 0.2
    weights = np.where(rare, 1 / rare.sum(), 1 / (~rare).sum())
    trainer = make_trainer(trainer={"example_weights": weights}, per_device_train_batch_size=8)
    loader = trainer.get_train_dataloader()
    drawn = []
    for epoch in range(8):
        loader.set_epoch(epoch)
        drawn += [row[JIGSAW_LABELS.index("severe_toxic")].item() for batch in loader for row in batch["labels"]]
    assert len(drawn) == 8 * len(train_set)
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.07)


def test_a_part_of_the_examples_without_a_label_an_epoch(make_trainer, train_set):
    targets = np.asarray(train_set["labels"])
    n_labelled = int(targets.any(axis=1).sum())
    n_taken = -(-(len(targets) - n_labelled) // 4)
    trainer = make_trainer(trainer={"negatives": 0.25}, per_device_train_batch_size=8)
    loader = trainer.get_train_dataloader()
    rows = np.concatenate([batch["labels"].numpy() for batch in loader])
    assert 0 < n_taken < len(targets) - n_labelled
    assert len(rows) == n_labelled + n_taken == trainer.n_examples_per_epoch
    assert rows.any(axis=1).sum() == n_labelled
    with pytest.raises(ConfigError, match="exclude each other"):
        make_trainer(trainer={"negatives": 0.25, "example_weights": np.ones(len(targets))})


def test_examples_that_are_not_optional_are_seen_in_every_epoch(make_trainer, train_set):
    targets = np.asarray(train_set["labels"])
    optional = np.zeros(len(targets), dtype=np.bool_)
    optional[np.flatnonzero(~targets.any(axis=1))[:8]] = True
    trainer = make_trainer(trainer={"negatives": 0.25, "optional": optional}, per_device_train_batch_size=8)
    loader = trainer.get_train_dataloader()
    assert sum(len(batch["labels"]) for batch in loader) == len(targets) - 6


def test_the_head_learns_at_its_own_rate(make_trainer, model):
    freeze_for_speed(model, 1)
    trainer = make_trainer(trainer={"head_lr": 0.01}, learning_rate=0.001, weight_decay=0.1)
    trainer.create_optimizer_and_scheduler(num_training_steps=10)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (group["initial_lr"], group["weight_decay"])
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    assert found["classifier.weight"] == (0.01, 0.1)
    assert found["classifier.bias"] == (0.01, 0.0)
    assert found["bert.encoder.layer.1.output.dense.weight"] == (0.001, 0.1)
    assert found["bert.encoder.layer.1.output.LayerNorm.weight"] == (0.001, 0.0)
    assert set(found) == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {lr for name, (lr, _) in found.items() if name.startswith("bert.")} == {0.001}


def test_without_a_rate_of_its_own_the_head_follows_the_rest(make_trainer):
    trainer = make_trainer(learning_rate=0.001)
    trainer.create_optimizer()
    assert {group["lr"] for group in trainer.optimizer.param_groups} == {0.001}


# Answers


def test_answers_come_in_the_datasets_order(make_trainer, model, val_set):
    trainer = make_trainer(trainer={"pos_weight": POS_WEIGHT, "compute_metrics": compute_metrics})
    model.eval()
    with torch.no_grad():
        expected = torch.cat([model(input_ids=torch.tensor([row["input_ids"]])).logits for row in val_set])
    targets = torch.tensor(val_set["labels"])
    loss = nn.BCEWithLogitsLoss(pos_weight=POS_WEIGHT)(expected, targets).item()
    metrics = compute_metrics((expected.numpy(), targets.numpy()))

    predicted = trainer.predict(val_set)
    np.testing.assert_allclose(predicted.predictions, expected.numpy(), atol=1e-6)
    assert np.array_equal(predicted.label_ids, targets.numpy())
    assert predicted.metrics["test_loss"] == pytest.approx(loss, abs=1e-6)
    evaluated = trainer.evaluate()
    assert evaluated["eval_loss"] == pytest.approx(loss, abs=1e-6)
    for name, value in metrics.items():
        assert evaluated[f"eval_{name}"] == pytest.approx(value, abs=1e-6)


def test_texts_without_targets_get_only_logits(make_trainer, val_set):
    predicted = make_trainer().predict(val_set.remove_columns("labels"))
    assert predicted.predictions.shape == (len(val_set), len(JIGSAW_LABELS))
    assert predicted.label_ids is None
    assert "test_loss" not in predicted.metrics


# As a notebook uses it


@pytest.mark.parametrize("columns", [None, "torch"])
def test_in_a_notebook_with_the_defaults_of_transformers(model, tmp_path, train_set, val_set, tokenizer, columns):
    trainer = PosWeightTrainer(
        model=model,
        args=TrainingArguments(
            str(tmp_path / "out"),
            num_train_epochs=2,
            learning_rate=0.01,
            eval_strategy="epoch",
            save_strategy="epoch",
            load_best_model_at_end=True,
            metric_for_best_model="macro_roc_auc",
            report_to="none",
        ),
        train_dataset=train_set.with_format(columns),
        eval_dataset=val_set.with_format(columns),
        processing_class=tokenizer,
        compute_metrics=compute_metrics,
        pos_weight=POS_WEIGHT,
    )
    assert isinstance(trainer, Trainer)
    assert trainer.args.remove_unused_columns
    before = parameters_of(model)
    assert trainer.train().global_step == 16
    assert not torch.equal(model.classifier.weight, before["classifier.weight"])
    best = max(log["eval_macro_roc_auc"] for log in trainer.state.log_history if "eval_macro_roc_auc" in log)
    assert trainer.evaluate()["eval_macro_roc_auc"] == pytest.approx(best)


def test_training_without_rows_is_refused(make_trainer):
    with pytest.raises(ConfigError, match="train_dataset"):
        make_trainer(trainer={"train_dataset": None}).get_train_dataloader()


def test_a_full_disk_is_named(make_trainer, tmp_path, full_disk):
    trainer = make_trainer(save_strategy="steps", save_steps=2, max_steps=4)
    with full_disk(50_000), pytest.raises(ArtifactError, match="the disk may be full") as caught:
        trainer.train()
    assert str(tmp_path / "out") in str(caught.value)
