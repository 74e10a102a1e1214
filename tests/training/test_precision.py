import logging
from pathlib import Path

import pytest
import torch
from transformers import TrainingArguments

from moderation.errors import ConfigError
from moderation.labels import JIGSAW_LABELS
from moderation.training.model import build_model
from moderation.training.precision import cpu_has_bf16, resolve_precision
from moderation.training.trainer import PosWeightTrainer

on_cpu = pytest.mark.skipif(torch.cuda.is_available(), reason="rules for processors without a GPU")
BF16_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # as the Linux kernel spells them, on Intel, AMD and ARM


@on_cpu
def test_auto_uses_bf16_if_the_cpu_computes_it():
    capabilities = torch.cpu.get_capabilities()
    fast = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16") or capabilities.get("bf16")
    assert resolve_precision("auto") == ("bf16" if fast else "fp32")


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the kernel's list of instructions is Linux's")
def test_the_kernel_agrees_on_the_instructions():
    assert cpu_has_bf16() == bool(BF16_FLAGS & set(Path("/proc/cpuinfo").read_text().split()))


@on_cpu
def test_fp16_needs_a_gpu():
    with pytest.raises(ConfigError, match="needs a GPU"):
        resolve_precision("fp16")


@pytest.mark.parametrize("asked", ["", "bfloat16", "FP32", "int8"])
def test_an_unknown_format_is_refused(asked):
    with pytest.raises(ConfigError, match="expected auto, fp32, bf16 or fp16"):
        resolve_precision(asked)


@on_cpu
def test_the_requested_format_is_used_with_a_warning_if_it_is_slow(caplog):
    with caplog.at_level(logging.WARNING):
        assert resolve_precision("fp32") == "fp32"
        assert not caplog.records
        assert resolve_precision("bf16") == "bf16"
    assert ("no bf16 instructions" in caplog.text) == (not cpu_has_bf16())


@pytest.mark.parametrize(("bf16", "computed"), [(True, torch.bfloat16), (False, torch.float32)])
def test_training_computes_in_the_format_and_keeps_float32(
    tiny_backbone, tokenizer, train_set, tmp_path, bf16, computed
):
    model = build_model(tiny_backbone, JIGSAW_LABELS)
    seen = []
    model.bert.encoder.layer[0].intermediate.dense.register_forward_hook(
        lambda module, inputs, output: seen.append((module.training, output.dtype))
    )
    arguments = TrainingArguments(
        str(tmp_path), max_steps=2, bf16=bf16, use_cpu=True, report_to="none", save_strategy="no", disable_tqdm=True
    )
    trainer = PosWeightTrainer(model=model, args=arguments, train_dataset=train_set, processing_class=tokenizer)
    trainer.train()
    assert seen == [(True, computed)] * 2
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert all(state["exp_avg"].dtype == torch.float32 for state in trainer.optimizer.state.values())
