import gc
import json
import random
import shutil

import numpy as np
import pytest
import torch

from moderation.artifacts import RunFolder
from moderation.errors import ArtifactError, ConfigError
from moderation.evaluation.metrics import compute_metrics
from moderation.labels import JIGSAW_LABELS
from moderation.options import build
from moderation.training.checkpoints import CheckpointFacts, load_checkpoint
from moderation.training.environment import make_reproducible
from moderation.training.fitting import Examples, fit
from moderation.training.model import build_model, start_model
from moderation.training.options import TrainOptions
from moderation.training.prediction import predict_logits
from moderation.training.states import (
    MANIFEST,
    choose_state,
    read_log_history,
    reading_state,
    seal_state,
    sealed_states,
)

STEPS_IN_EPOCH = 8  # 64 examples in batches of 8


@pytest.fixture(scope="module", autouse=True)
def light_garbage_collection():
    """Each training begins by collecting garbage, half of its time where many libraries are loaded; skip those."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def fit_into(tiny_backbone, train_set, val_set, tokenizer, targets):
    """Fit to the tiny sets, seeded; settings can be changed one by one."""

    def run(folder, *, train=train_set, begin=lambda: None, **changes):
        settings = {"best_metric": "macro_roc_auc", "save_every": 5, "batch_size": 8, "lr": 0.01, "precision": "fp32"}
        settings |= {"seed": 1}
        options = build(TrainOptions, settings | changes)
        make_reproducible(1, threads=1)
        model = start_model(tiny_backbone, JIGSAW_LABELS, options.model)
        examples = Examples(train, val_set, tokenizer, JIGSAW_LABELS, targets)
        about = CheckpointFacts(backbone="tiny", max_length=32)
        return fit(RunFolder(folder), model, examples, options.fit, around=options.run, about=about, begin=begin)

    return run


@pytest.fixture(scope="module")
def whole(fit_into, tmp_path_factory):
    """A run that nothing interrupted, and what `fit` said of it."""
    folder = tmp_path_factory.mktemp("fit") / "whole"
    return RunFolder(folder), fit_into(folder)


def log_of(run):
    return [json.loads(line) for line in run.log.read_text().splitlines()]


def evaluations(run):
    return [
        {
            name.removeprefix("eval_"): value
            for name, value in record.items()
            if not name.endswith(("runtime", "_second"))
        }
        for record in log_of(run)
        if "eval_loss" in record
    ]


def assert_same_weights(path, other):
    weights, others = load_checkpoint(path).model.state_dict(), load_checkpoint(other).model.state_dict()
    for name, tensor in weights.items():
        assert torch.equal(tensor, others[name]), name


# A whole run


def test_a_run_leaves_the_documented_files(whole):
    run, fitted = whole
    assert {path.name for path in run.path.iterdir()} == {
        "checkpoint_best.pt",
        "checkpoint_final.pt",
        "log.jsonl",
        "resume",
    }
    assert (fitted.steps, fitted.examples, fitted.resumed_from) == (24, 192, None)
    assert fitted.trainable == fitted.parameters > 0
    assert fitted.seconds > 0
    final = load_checkpoint(run.checkpoint_final)
    assert final.labels == JIGSAW_LABELS
    assert (final.about.backbone, final.about.max_length, final.about.step) == ("tiny", 32, 24)


def test_the_log_holds_every_epoch_and_a_falling_learning_rate(whole):
    records = log_of(whole[0])
    assert [record["step"] for record in records if "eval_loss" in record] == [8, 16, 24]
    rates = [record["learning_rate"] for record in records if "learning_rate" in record]
    assert rates[0] < max(rates) <= 0.01
    assert rates[-1] == min(rates[1:])
    assert all(np.isfinite(record["loss"]) for record in records if "loss" in record)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(whole, fit_into, tmp_path):
    fit_into(tmp_path / "again")
    assert_same_weights(tmp_path / "again" / "checkpoint_final.pt", whole[0].checkpoint_final)
    fit_into(tmp_path / "other", seed=2)
    other = load_checkpoint(tmp_path / "other" / "checkpoint_final.pt").model
    assert not torch.equal(other.classifier.weight, load_checkpoint(whole[0].checkpoint_final).model.classifier.weight)


@pytest.mark.parametrize(("metric", "best_of"), [("macro_roc_auc", max), ("loss", min)])
def test_the_best_checkpoint_has_the_best_metric_of_the_log(fit_into, tmp_path, val_set, collator, metric, best_of):
    run = RunFolder(tmp_path / "run")
    fit_into(run.path, best_metric=metric, epochs=4.0, lr=0.05)
    history = evaluations(run)
    best = best_of(history, key=lambda record: record[metric])
    assert len({record[metric] for record in history}) > 1
    checkpoint = load_checkpoint(run.checkpoint_best)
    assert checkpoint.about.step == best["step"]
    assert checkpoint.about.val_metrics[metric] == best[metric]
    # What the file says is what its weights reach.
    logits = predict_logits(checkpoint.model, val_set, collator, quiet=True)
    measured = compute_metrics((logits, np.asarray(val_set["labels"])))
    for name, value in measured.items():
        assert value == pytest.approx(best[name], abs=1e-6), name


@pytest.mark.parametrize("changes", [{"pos_weight": "off"}, {"precision": "bf16"}, {"head_lr": 0.5}], ids=str)
def test_settings_reach_the_training(whole, fit_into, tmp_path, changes):
    fit_into(tmp_path, **changes)
    model = load_checkpoint(RunFolder(tmp_path).checkpoint_final).model
    usual = load_checkpoint(whole[0].checkpoint_final).model
    assert model.dtype == torch.float32
    assert not torch.equal(model.classifier.weight, usual.classifier.weight)


def test_frozen_parts_stay_as_pretrained(fit_into, tmp_path, tiny_backbone):
    fitted = fit_into(tmp_path, freeze_layers=1, epochs=1.0)
    model = load_checkpoint(RunFolder(tmp_path).checkpoint_final).model
    pretrained = build_model(tiny_backbone, JIGSAW_LABELS)
    frozen = [
        name
        for name, parameter in model.named_parameters()
        if torch.equal(parameter, pretrained.get_parameter(name)) and not name.endswith("key.bias")
    ]
    assert len(frozen) > 10
    assert all(".embeddings." in name or ".layer.0." in name for name in frozen)
    sizes = [model.get_parameter(name).numel() for name in frozen]
    assert fitted.parameters - fitted.trainable == sum(sizes) + model.config.hidden_size  # and that key's bias


def test_a_batch_that_the_processes_cannot_share_is_refused(fit_into, tmp_path, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(ConfigError, match=r"batch-size 8 is not divisible by the number of processes \(3\)"):
        fit_into(tmp_path / "run")


# Early stop


def test_patience_stops_early_and_a_resumed_run_stops_there_too(fit_into, tmp_path):
    run = RunFolder(tmp_path / "run")
    still = {"lr": 1e-30, "patience": 2, "epochs": 8.0}  # too small a rate to change a weight: no better metric ever
    assert fit_into(run.path, **still).steps == 3 * STEPS_IN_EPOCH
    assert load_checkpoint(run.checkpoint_best).about.step == STEPS_IN_EPOCH
    assert [record["step"] for record in evaluations(run)] == [8, 16, 24]

    run.checkpoint_final.unlink()  # as if killed between the last state and the end
    fitted = fit_into(run.path, **still, resume=True)
    assert (fitted.steps, fitted.resumed_from) == (24, 24)
    assert [record["step"] for record in evaluations(run)] == [8, 16, 24]
    assert load_checkpoint(run.checkpoint_final).about.step == 24


# Interrupted and resumed


def interrupted(dataset, n_batches):
    """The dataset, pulling the plug when a batch more than `n_batches` is read."""
    read = []

    def pull(rows):
        read.append(len(rows["input_ids"]))
        if len(read) > n_batches:
            raise KeyboardInterrupt
        return rows

    return dataset.with_transform(pull)


@pytest.mark.parametrize(
    ("changes", "n_batches", "resumed_from"),
    [
        ({}, 12, 10),  # in mid-epoch, two steps after a state
        ({}, 16, 16),  # between two epochs
        ({"balanced_sampler": True}, 12, 10),
        ({"negatives": 0.5}, 12, 10),
        ({"grad_accumulation": 3, "save_every": 1}, 12, 4),  # 8 batches: the last step of an epoch takes two
        ({"epochs": 2.5, "save_every": 3, "attention_dropout": 0.1}, 19, 18),
        ({"precision": "bf16", "freeze_layers": 1, "head_lr": 0.02}, 12, 10),
    ],
    ids=str,
)
def test_an_interrupted_run_ends_like_an_uninterrupted_one(
    whole, fit_into, tmp_path, train_set, changes, n_batches, resumed_from
):
    cut = RunFolder(tmp_path / "cut")
    straight = whole[0]
    if changes:
        straight = RunFolder(tmp_path / "straight")
        fit_into(straight.path, **changes)
    with pytest.raises(KeyboardInterrupt):
        fit_into(cut.path, train=interrupted(train_set, n_batches), **changes)
    assert not cut.checkpoint_final.exists()

    fitted = fit_into(cut.path, **changes, resume=True)
    assert fitted.resumed_from == resumed_from
    for name in ("checkpoint_final.pt", "checkpoint_best.pt", "log.jsonl"):
        assert (cut.path / name).read_bytes() == (straight.path / name).read_bytes(), name


def test_a_run_interrupted_after_its_last_step_is_only_finished(whole, fit_into, tmp_path):
    run = RunFolder(tmp_path / "run")
    fit_into(run.path)
    run.checkpoint_final.unlink()
    fitted = fit_into(run.path, resume=True)
    assert (fitted.steps, fitted.resumed_from) == (24, 24)
    assert_same_weights(run.checkpoint_final, whole[0].checkpoint_final)


def test_a_state_that_a_kill_cut_short_is_skipped(whole, fit_into, tmp_path, train_set):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit_into(run.path, train=interrupted(train_set, 12))
    (complete,) = run.resume_dir.iterdir()
    broken = run.resume_dir / "checkpoint-12"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes((complete / "model.safetensors").read_bytes()[:1000])
    assert fit_into(run.path, resume=True).resumed_from == 10
    assert_same_weights(run.checkpoint_final, whole[0].checkpoint_final)


def test_without_a_state_a_resumed_run_starts_from_the_beginning(whole, fit_into, tmp_path, train_set, caplog):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit_into(run.path, train=interrupted(train_set, 3))
    with caplog.at_level("INFO"):
        assert fit_into(run.path, resume=True).resumed_from is None
    assert "starts from the beginning" in caplog.text
    assert run.checkpoint_final.read_bytes() == whole[0].checkpoint_final.read_bytes()
    assert run.log.read_bytes() == whole[0].log.read_bytes()


def test_a_new_run_does_not_continue_from_an_old_state(fit_into, tmp_path, train_set):
    run = RunFolder(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        fit_into(run.path, train=interrupted(train_set, 12))
    fitted = fit_into(run.path, epochs=1.0)
    assert (fitted.steps, fitted.resumed_from) == (8, None)
    assert [folder.name for folder in run.resume_dir.iterdir()] == ["checkpoint-8"]


# States that were changed


DAMAGED = pytest.mark.hostile("train: damaged state")


@pytest.fixture(scope="module")
def cut(fit_into, train_set, tmp_path_factory):
    """A run that was interrupted in mid-epoch."""
    run = RunFolder(tmp_path_factory.mktemp("fit") / "cut")
    with pytest.raises(KeyboardInterrupt):
        fit_into(run.path, train=interrupted(train_set, 12))
    return run


@pytest.fixture
def copy(cut, tmp_path):
    """The same, to be changed."""
    return RunFolder(shutil.copytree(cut.path, tmp_path / "copy"))


def state_of(run):
    return run.resume_dir / "checkpoint-10"


class Evil:
    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return type(self.mark).touch, (self.mark,)


@DAMAGED
def test_every_flipped_bit_of_a_state_is_recognised(copy, attack):
    seed = 7
    rng, folder = random.Random(seed), state_of(copy)
    assert choose_state(copy.resume_dir) == folder
    files = sorted(folder.iterdir())
    for case in range(attack.cases(40, 400)):
        path = files[case % len(files)]
        before = path.read_bytes()
        bit = rng.randrange(8 * len(before))
        after = bytearray(before)
        after[bit // 8] ^= 1 << bit % 8
        path.write_bytes(after)
        try:
            found = choose_state(copy.resume_dir)
        except ArtifactError as error:
            assert str(folder) in str(error), (seed, case)
            assert path.name in str(error) or path.name == MANIFEST, (seed, case, path.name)
        else:  # white space in the list
            assert path.name == MANIFEST and json.loads(after) == json.loads(before), (seed, case, path.name, found)
        path.write_bytes(before)
        attack.tried()
    assert choose_state(copy.resume_dir) == folder


@DAMAGED
def test_every_file_of_a_state_that_is_gone_cut_or_added_is_named(copy, attack):
    folder = state_of(copy)
    for path in sorted(set(folder.iterdir()) - {folder / MANIFEST}):
        before = path.read_bytes()
        for content in (None, b"", before[:-1], before[: len(before) // 2], before + b"x", b"{}"):
            path.unlink()
            if content is not None:
                path.write_bytes(content)
            with pytest.raises(ArtifactError, match=rf"{path.name}: (is missing|not the file that was saved).*delete"):
                choose_state(copy.resume_dir)
            path.write_bytes(before)
            attack.tried()
    for name in ("pytorch_model.bin", "adapter_model.safetensors", "scaler.pt", "global_step10/x.pt", "nothing"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"x")
        with pytest.raises(ArtifactError, match=rf"{name}: not among the files that were saved"):
            choose_state(copy.resume_dir)
        (folder / name).unlink()
        attack.tried()
    for content in ("", "{", "[]", "{}", "null", '{"format": "content-moderation state", "version": 1}', "[" * 9_999):
        (folder / MANIFEST).write_text(content)
        with pytest.raises(ArtifactError, match=MANIFEST):
            choose_state(copy.resume_dir)
        attack.tried()


def spoil(path, how, mark):
    """Change a file of a state; with None it is gone."""
    if how == "evil":
        torch.save({"state": Evil(mark), "param_groups": Evil(mark)}, path)
    elif how == "half":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif how == "other":
        torch.save({"x": 1}, path)
    elif how == "gone":
        path.unlink()
    else:
        path.write_bytes(how)


@DAMAGED
def test_a_changed_state_that_was_sealed_again_gives_one_message(copy, fit_into, tmp_path, attack):
    """The list of files guards against accidents; against a stranger only what each file may hold."""
    mark, folder = tmp_path / "code was run", state_of(copy)
    names = ["model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json"]
    step_only, odd_log = b'{"global_step": 11}', b'{"global_step": 10, "log_history": [1]}'
    ways = [(name, how) for how in ("evil", "half", "other", "gone", b"", b"{}", step_only, odd_log) for name in names]
    for name, how in ways[:: attack.cases(4, 1)]:
        before = {path: path.read_bytes() for path in folder.iterdir()}
        spoil(folder / name, how, mark)
        seal_state(folder)
        with pytest.raises(ArtifactError, match=r"checkpoint-10.*(Restore the file, or delete|start again with)"):
            fit_into(copy.path, resume=True)
        assert not mark.exists()
        for path, content in before.items():
            path.write_bytes(content)
        attack.tried()
    assert choose_state(copy.resume_dir) == folder


ODD_STATES = [
    *({name: value} for name in ("epoch", "total_flos", "train_batch_size", "eval_steps") for value in ("x", None, -1)),
    *({"epoch": value} for value in (float("nan"), float("inf"), [1], 10**400)),
    *({"global_step": value} for value in (10.0, True, "10")),
    *({"best_metric": "x"}, {"best_model_checkpoint": 1}, {"trial_params": 1}),
    *({"stateful_callbacks": value} for value in (3, "x", [1])),
    *({"log_history": [{"eval_loss": value}]} for value in ("x", None, True, [], {}, 10**400, float("nan"))),
    *({"log_history": value} for value in ({}, "x", 3, [None], [{"step": float("inf")}], [{}] * 34)),
    {"unknown": 1},
]


@DAMAGED
def test_a_state_with_values_that_no_training_writes_is_refused_before_the_training(copy, attack):
    path = state_of(copy) / "trainer_state.json"
    content = json.loads(path.read_text())
    texts = ["", "[]", "null", "3", "[" * 9_999, '{"epoch": ' + "9" * 5_000 + "}"]
    for text in (*texts, *(json.dumps(content | change) for change in ODD_STATES)):
        path.write_text(text)
        with pytest.raises(
            ArtifactError, match=r"trainer_state\.json: not the trainer's state.*delete .*checkpoint-10:"
        ):
            read_log_history(path.parent)
        attack.tried()
    seal_state(path.parent)
    with pytest.raises(ArtifactError, match="not the trainer's state"):
        choose_state(copy.resume_dir)
    overflow = [{"grad_norm": float("inf"), "loss": float("nan"), "step": 3}]  # what half precision may leave
    path.write_text(json.dumps(content | {"log_history": overflow}))
    seal_state(path.parent)
    assert choose_state(copy.resume_dir) == path.parent


@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("of the device")], ids=repr)
def test_too_little_memory_is_not_called_a_damaged_state(tmp_path, error):
    with pytest.raises(type(error)), reading_state(tmp_path / "checkpoint-10", "model"):
        raise error
    with pytest.raises(ArtifactError) as caught, reading_state(tmp_path / "checkpoint-10", "model"):
        raise KeyError("weight")
    assert "though its files are those that were saved" in str(caught.value)
    assert "delete" not in str(caught.value)


def test_a_list_of_files_sends_nobody_to_other_folders(copy):
    """The message names a folder to delete: it must be the state's, whatever the list says."""
    path = state_of(copy) / MANIFEST
    content = json.loads(path.read_text())
    for name in ("/etc/passwd", "../../x", "a/b\nc", "x" * 9_999):
        path.write_text(json.dumps(content | {"files": content["files"] | {name: {}}}))
        with pytest.raises(ArtifactError, match=rf"delete {state_of(copy)}:") as caught:
            choose_state(copy.resume_dir)
        assert len(str(caught.value)) < 2_000 and "\n" not in str(caught.value)
    path.write_text(json.dumps(content | {"version": 2}))
    with pytest.raises(ArtifactError, match="written by a newer version"):
        choose_state(copy.resume_dir)


def test_a_damaged_list_of_files_is_named_with_a_cure(copy):
    (state_of(copy) / "state.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"state\.json: .*Restore the file, or delete"):
        choose_state(copy.resume_dir)


@DAMAGED
def test_other_folders_are_skipped_and_left_alone(copy, fit_into, whole, caplog):
    folder = state_of(copy)
    others = [
        copy.resume_dir / name for name in ("checkpoint-old", "checkpoint-12.bak", "checkpoint-", "checkpoint--3")
    ]
    for other in others:
        shutil.copytree(folder, other)
    shutil.copytree(folder, copy.resume_dir / "checkpoint-30")
    (copy.resume_dir / "checkpoint-30" / MANIFEST).unlink()  # a kill came before the list of files
    with caplog.at_level("INFO"):
        assert fit_into(copy.path, resume=True).resumed_from == 10
    for name in ("checkpoint-old", "checkpoint-30"):
        assert f"{name} has no complete state; it is skipped" in caplog.text
    assert all(other.is_dir() for other in others)
    assert not (copy.resume_dir / "checkpoint-30").exists()
    assert copy.checkpoint_final.read_bytes() == whole[0].checkpoint_final.read_bytes()


@DAMAGED
def test_what_is_in_the_way_of_a_later_state_is_refused(copy, attack):
    later = copy.resume_dir / "checkpoint-20"
    for put, what in (
        (lambda: later.write_text("a file"), "not a folder"),
        (lambda: later.symlink_to("missing"), "a link to nothing"),
        (lambda: later.symlink_to(later), "a link to nothing"),
    ):
        put()
        with pytest.raises(ArtifactError, match=rf"checkpoint-20: {what}.*Remove it"):
            choose_state(copy.resume_dir)
        later.unlink()
        attack.tried()


def test_the_newest_state_by_number_not_by_name(tmp_path):
    for step in (5, 100, 20):
        (tmp_path / f"checkpoint-{step}").mkdir()
        seal_state(tmp_path / f"checkpoint-{step}")
    assert [folder.name for folder in sealed_states(tmp_path)] == ["checkpoint-100", "checkpoint-20", "checkpoint-5"]
    assert sealed_states(tmp_path / "absent") == []
    assert choose_state(tmp_path / "absent") is None


def test_a_state_of_several_processes_has_the_random_numbers_of_each(copy):
    folder = state_of(copy)
    (folder / "rng_state.pth").rename(folder / "rng_state_0.pth")
    shutil.copy(folder / "rng_state_0.pth", folder / "rng_state_1.pth")
    seal_state(folder)
    assert choose_state(copy.resume_dir, n_processes=2) == folder
    for n_processes, missing in ((1, "rng_state.pth"), (3, "rng_state_2.pth")):
        with pytest.raises(ArtifactError, match=rf"{missing}: was not saved"):
            choose_state(copy.resume_dir, n_processes)


def test_one_state_is_kept(whole):
    assert [folder.name for folder in whole[0].resume_dir.iterdir()] == ["checkpoint-24"]


@pytest.mark.parametrize(
    ("save_every", "message"),
    [(5, "state to resume from could not be written"), (500, r"checkpoint_best\.pt: could not")],
)
def test_a_full_disk_is_named_and_the_run_can_be_resumed(whole, fit_into, tmp_path, full_disk, save_every, message):
    run = RunFolder(tmp_path / "run")
    with full_disk(50_000), pytest.raises(ArtifactError, match=message) as caught:
        fit_into(run.path, save_every=save_every)
    assert str(run.path) in str(caught.value)
    assert not list(run.path.glob("*.pt"))
    assert not list(run.path.glob(".*"))
    assert fit_into(run.path, save_every=save_every, resume=True).resumed_from is None
    assert_same_weights(run.checkpoint_final, whole[0].checkpoint_final)
