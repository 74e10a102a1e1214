"""The classifier: a pretrained encoder with one logit per label, and which parts of it are trained."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from moderation.errors import ArtifactError, ConfigError
from moderation.memory import free_bytes, is_out_of_memory
from moderation.model_bounds import TooLargeError, fitting_in_memory
from moderation.pretrained import make_model, read_config, read_model
from moderation.training.options import ModelOptions

logger = logging.getLogger(__name__)


def build_model(
    backbone_dir: str | Path,
    labels: Sequence[str],
    *,
    random_weights: bool = False,
    attention_dropout: float = 0.0,
) -> PreTrainedModel:
    """Load a pretrained encoder and put a new classification layer on it.

    Attention dropout is off unless requested: with it, attention on a CPU falls back from the fused kernel
    to one that draws a random number for each pair of tokens. Dropout elsewhere stays as set by the backbone.

    Args:
        backbone_dir: Local folder with `config.json` and, unless `random_weights`, weights.
        labels: One logit each, in this order.
        random_weights: Build only the architecture.
        attention_dropout: Probability in [0, 1).

    Returns:
        A model on the CPU, float32, that returns logits `(n_examples, n_labels)`.

    Raises:
        ArtifactError: the Auto classes cannot load a model from the folder, or it names code to run.
    """
    try:
        config = read_config(Path(backbone_dir))
    except ArtifactError:
        raise
    except Exception as error:  # values from elsewhere can make transformers fail in undocumented ways
        if is_out_of_memory(error):
            raise
        raise ArtifactError(f"{backbone_dir}: has no config.json of a model that transformers knows.") from error
    describe_labels(config, labels)
    for name in ("attention_probs_dropout_prob", "attention_dropout"):
        if hasattr(config, name):
            setattr(config, name, attention_dropout)
    return _random_model(backbone_dir, config) if random_weights else _pretrained_model(backbone_dir, config)


def start_model(backbone_dir: Path, labels: Sequence[str], options: ModelOptions) -> PreTrainedModel:
    """The model that a training starts from: `build_model`, with the parts frozen that are not to be trained.

    Args:
        backbone_dir: Local folder of the backbone.
        labels: One logit each, in this order.
        options: Which parts are random, and which are trained.

    Raises:
        ArtifactError: the backbone cannot be loaded.
        ConfigError: there are fewer layers than should be frozen.
    """
    model = build_model(
        backbone_dir, labels, random_weights=options.random_weights, attention_dropout=options.attention_dropout
    )
    if options.freeze_layers or options.freeze_embeddings:
        freeze_for_speed(model, options.freeze_layers)
    return model


def _random_model(backbone_dir: str | Path, config: Any) -> PreTrainedModel:
    try:
        with fitting_in_memory(free_bytes()), torch.device("meta"):  # uses no memory and no random numbers
            make_model(config)
        return make_model(config)
    except TooLargeError as error:
        raise ArtifactError(f"{backbone_dir}: its config.json describes {error}. Use a smaller one.") from None
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise
        raise ArtifactError(
            f"{backbone_dir}: its config.json does not describe an encoder that can classify texts "
            f"({config.model_type})."
        ) from error


def _pretrained_model(backbone_dir: str | Path, config: Any) -> PreTrainedModel:
    try:
        with _without_reports():  # transformers would report the new head as an error
            model, report = read_model(Path(backbone_dir), config)
    except ArtifactError:
        raise
    except Exception as error:  # as above
        if is_out_of_memory(error):
            raise
        raise ArtifactError(
            f"{backbone_dir}: its weights cannot be loaded; expected model.safetensors that fits config.json. "
            "--random-weights builds the architecture without them."
        ) from error
    # Weights missing from the file become random numbers: right for the head and a pooler, a disaster for the encoder.
    encoder = f"{model.base_model_prefix}."
    absent = [name for name in report["missing_keys"] if name.startswith(encoder) and "pooler" not in name]
    if absent:
        raise ArtifactError(
            f"{backbone_dir}: model.safetensors lacks {len(absent)} weights of the encoder that config.json describes, "
            f"such as {min(absent)}; the two files belong to different models."
        )
    return model


def check_tokenizer(tokenizer: PreTrainedTokenizerBase, model: PreTrainedModel, where: Path) -> None:
    """Refuse a tokenizer that does not fit a model: it has tokens that the model has no row for, or cannot pad.

    Args:
        tokenizer: A fast one.
        model: The model that will read its tokens.
        where: The tokenizer's folder, for the message.

    Raises:
        ArtifactError: it does not fit.
    """
    if tokenizer.pad_token_id is None:
        raise ArtifactError(f"{where}: its tokenizer has no pad_token, which batches need as padding. Add one.")
    highest = max([tokenizer.pad_token_id, *tokenizer.get_vocab().values()])
    n_tokens = count_tokens(model)
    if n_tokens is not None and highest >= n_tokens:
        raise ArtifactError(
            f"{where}: its tokenizer has a token {highest}, and the model knows {n_tokens} tokens (vocab_size of its "
            "configuration); the two belong to different models. Take both again from their source."
        )


def count_tokens(model: PreTrainedModel) -> int | None:
    """Rows of a model's table of tokens; None for a model without such a table."""
    try:
        table: Any = model.get_input_embeddings()
    except NotImplementedError:
        return None
    weights = getattr(table, "weight", None)
    return None if weights is None else len(weights)


@contextmanager
def _without_reports() -> Iterator[None]:
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)


def describe_labels(config: Any, labels: Sequence[str]) -> None:
    """Set the label names in a Hugging Face configuration, and that several can apply at once."""
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: position for position, label in enumerate(labels)}
    config.problem_type = "multi_label_classification"


def freeze_for_speed(model: PreTrainedModel, n_layers: int = 0, *, embeddings: bool = True) -> int:
    """Freeze the embeddings and the lowest layers of an encoder.

    Frozen parts get no gradient. Since they are at the bottom, the backward pass ends above them: they cost no
    backward time, no gradient memory and no optimizer state. Layers above them learn as before.

    Args:
        model: A sequence classifier of transformers with a list of layers.
        n_layers: Number of lowest layers to freeze, from 0 to all of them.
        embeddings: Freeze the embeddings, including a table of relative positions; required if layers are frozen,
            since otherwise the backward pass would still have to go through them.

    Returns:
        Number of parameters that are still trained.

    Raises:
        ConfigError: the encoder has fewer layers, or layers are frozen above trainable embeddings.

    Example:
        >>> from transformers import BertConfig, BertForSequenceClassification
        >>> tiny = BertConfig(vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2,
        ...                   intermediate_size=16, max_position_embeddings=16)
        >>> freeze_for_speed(BertForSequenceClassification(tiny), n_layers=2)
        90
    """
    if n_layers and not embeddings:
        raise ConfigError("freeze_for_speed: freezing layers needs frozen embeddings; pass embeddings=True.")
    layers = encoder_layers(model)
    if not 0 <= n_layers <= len(layers):
        raise ConfigError(f"freeze_for_speed: {n_layers} layers requested, but the encoder has {len(layers)}.")
    frozen: list[nn.Module] = list(layers[:n_layers])
    if embeddings:
        base: Any = model.base_model
        frozen.append(base.embeddings if hasattr(base, "embeddings") else base.get_input_embeddings())
        # Tables of relative positions (MPNet) feed every layer: training them would require a pass through frozen
        # layers.
        inside_layers = set(layers.modules())
        frozen += [m for m in base.modules() if isinstance(m, nn.Embedding) and m not in inside_layers]
    for module in frozen:
        module.requires_grad_(False)
    n_learning = sum(p.numel() for p in model.parameters() if p.requires_grad)
    logger.info("Frozen: %d of %d parameters are trained.", n_learning, sum(p.numel() for p in model.parameters()))
    return n_learning


def encoder_layers(model: PreTrainedModel) -> nn.ModuleList:
    """The encoder's layers, lowest first.

    Raises:
        ConfigError: there is no list of `num_hidden_layers` modules.
    """
    for module in model.base_model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == model.config.num_hidden_layers:
            return module
    raise ConfigError(f"{type(model).__name__}: no list of layers found, so its layers cannot be frozen.")
