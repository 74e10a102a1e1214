"""The engines that compute logits: onnxruntime, OpenVINO, torch, TorchScript. Each is imported only when it is opened.

On a CPU, threads share out the windows, not the work within one: each worker computes its own windows with one thread.
That is as fast as several threads on one batch, and makes a window's arithmetic independent of the other windows.
"""

import importlib
import io
import json
import os
import queue
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from moderation.bundles import MODEL_CONFIG, Bundle, find_foreign, read_sealed
from moderation.cores import count_cores
from moderation.errors import ArtifactError, ConfigError, MissingExtraError, ModerationError
from moderation.forms import FORMS, Form
from moderation.inspection.graph_files import MOST_XML, check_onnx, check_openvino, refuse_graph
from moderation.inspection.openvino_indices import Places, UnboundedIndexError, keep_in_range
from moderation.manifests import MANIFEST
from moderation.memory import is_out_of_memory
from moderation.pretrained import make_config, make_whole_model

IdArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
_GPU_TOKENS = 16_384
_LONGEST_S = 60.0  # for eight tokens


class Backend(Protocol):
    """An opened engine.

    Attributes:
        workers: How many threads can usefully call `logits` at once; more are allowed.
        round_to: Windows should be padded to multiples of this.
        batch_tokens: Tokens per batch if the caller does not set them; 0: each window is computed alone.
    """

    workers: int
    round_to: int
    batch_tokens: int

    def logits(self, input_ids: IdArray, attention_mask: IdArray) -> FloatArray:
        """Compute a batch.

        Args:
            input_ids: int64 `(n_windows, n_tokens)`.
            attention_mask: int64 of the same shape, 1 for a token, 0 for padding.

        Returns:
            float32 `(n_windows, n_labels)`.
        """
        ...

    def look_up(self, input_ids: IdArray, attention_mask: IdArray) -> None:
        """Raise an exception (of any kind) if the model would read outside its tables for this batch."""
        ...


def import_onnxruntime() -> Any:
    """Import onnxruntime with its telemetry turned off.

    It reads the variable `ORT_DISABLE_TELEMETRY` when it is loaded, so this must come before any other import of it. To
    allow telemetry, set the variable to 0.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


class OnnxBackend:
    """onnxruntime. Its int8 uses one scale per batch, so a window is best computed alone."""

    round_to = 1

    def __init__(self, graph: bytes, threads: int, device: str) -> None:
        onnxruntime = import_onnxruntime()
        providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
        provider = providers.get(device.split(":")[0], device)
        if provider not in onnxruntime.get_available_providers():
            raise ConfigError(
                f"device {device}: the installed onnxruntime does not run there; expected cpu, or cuda with the "
                "package onnxruntime-gpu."
            )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_mem_pattern = False  # it plans for one shape, and windows have many
        options.log_severity_level = 4
        options.add_session_config_entry("session.load_model_format", "ONNX")  # the format that was checked
        chosen = (provider, {"device_id": device.partition(":")[2] or "0"}) if provider.startswith("CUDA") else provider
        self.session: Any = onnxruntime.InferenceSession(graph, options, providers=[chosen])
        if provider not in self.session.get_providers():  # it falls back without an error
            raise ConfigError(f"device {device}: onnxruntime could not start there. Check its CUDA libraries, or: cpu")
        self.workers = threads
        self.batch_tokens = 0 if device == "cpu" else _GPU_TOKENS
        self._run_once(onnxruntime.RunOptions())

    def logits(self, input_ids: IdArray, attention_mask: IdArray) -> FloatArray:
        """See `Backend.logits`."""
        feed = {"input_ids": input_ids, "attention_mask": attention_mask}
        answer: FloatArray = self.session.run(["logits"], feed)[0]
        return answer

    def look_up(self, input_ids: IdArray, attention_mask: IdArray) -> None:
        """See `Backend.look_up`."""
        self.logits(input_ids, attention_mask)

    def _run_once(self, options: Any) -> None:
        """Run on a few tokens, and give up if the graph takes a minute for them."""

        def stop() -> None:
            options.terminate = True

        timer = threading.Timer(_LONGEST_S, stop)
        timer.daemon = True
        timer.start()
        try:
            tokens = np.ones((1, 8), dtype=np.int64)
            self.session.run(["logits"], {"input_ids": tokens, "attention_mask": tokens}, options)
        except Exception as error:  # onnxruntime has its own errors
            if options.terminate:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()


class OpenVinoBackend:
    """OpenVINO on a CPU: int8 with fixed scales. One request with one thread per worker.

    If all windows of a batch have one length, each gets exactly the same bytes as if computed alone.
    """

    round_to = 16
    batch_tokens = 512

    def __init__(self, graph: bytes, weights: bytes, threads: int, device: str) -> None:
        import openvino

        if device != "cpu":
            raise ConfigError(f"device {device}: the backend openvino runs only on cpu; use another backend there.")
        settings = {
            "NUM_STREAMS": threads,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",  # or newer processors would use bfloat16 for what is not int8
            "ENABLE_CPU_PINNING": False,  # or several processes would use the same cores
        }
        core = openvino.Core()
        graph_read = core.read_model(graph, weights)
        lookups = keep_in_range(graph_read)
        model: Any = core.compile_model(graph_read, "CPU", settings)
        self.places = Places(core, graph_read, lookups)
        self.workers = threads
        self.requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(threads):
            self.requests.put(model.create_infer_request())
        # OpenVINO's Python binding initialises itself at the first call; two first calls at once may deadlock.
        for _ in range(threads):
            self.logits(np.ones((1, 8), dtype=np.int64), np.ones((1, 8), dtype=np.int64))

    def logits(self, input_ids: IdArray, attention_mask: IdArray) -> FloatArray:
        """See `Backend.logits`."""
        request = self.requests.get()
        try:
            # If a layer fails, `infer` returns anyway, with the request's previous answer; `wait` raises. If a failure
            # is missed there too, the answer is NaN, and refused.
            request.get_output_tensor(0).data[...] = np.nan
            request.start_async({"input_ids": input_ids, "attention_mask": attention_mask})
            request.wait()
            return np.array(request.get_output_tensor(0).data, dtype=np.float32)
        finally:
            self.requests.put(request)

    def look_up(self, input_ids: IdArray, attention_mask: IdArray) -> None:
        """See `Backend.look_up`. The engine itself would replace an index beyond a table by the last one.

        It also runs the model: the engine cuts positions beyond the table off, on some processors to a shorter length
        of an earlier window, and only then finds that they do not fit the tokens.
        """
        self.places.check({"input_ids": input_ids, "attention_mask": attention_mask})
        self.logits(input_ids, attention_mask)


class TorchBackend:
    """torch, eager or TorchScript: one worker, with torch's own threads (for the whole process)."""

    workers = 1
    round_to = 1

    def __init__(self, model: Any, threads: int, device: str) -> None:
        import torch

        if device == "cpu":
            torch.set_num_threads(threads)
        try:
            self.model = model.to(device).eval()
        except (RuntimeError, AssertionError) as error:  # a build without CUDA asserts
            if is_out_of_memory(error):
                raise
            raise ConfigError(
                f"device {device}: torch cannot use it here. Expected cpu, or a device that torch knows."
            ) from error
        self.device = device
        self.batch_tokens = 0 if device == "cpu" else _GPU_TOKENS

    def logits(self, input_ids: IdArray, attention_mask: IdArray) -> FloatArray:
        """See `Backend.logits`."""
        import torch

        jit: Any = torch.jit  # its optimizer would run again for nearly every length
        with torch.inference_mode(), jit.optimized_execution(False):
            ids, mask = (torch.from_numpy(array).to(self.device) for array in (input_ids, attention_mask))
            answer = self.model(ids, attention_mask=mask)
            logits = answer if isinstance(answer, torch.Tensor) else answer.logits
            return np.asarray(logits.float().cpu().numpy())

    def look_up(self, input_ids: IdArray, attention_mask: IdArray) -> None:
        """See `Backend.look_up`. An answer that is not a finite number counts as a failure."""
        if not np.isfinite(self.logits(input_ids, attention_mask)).all():
            raise FloatingPointError("not a number, or infinite")


def _open_onnx(bundle: Bundle, form: Form, threads: int, device: str) -> Backend:
    graph = read_sealed(bundle, form.main_file)
    check_onnx(graph, bundle.path / form.main_file)
    return OnnxBackend(graph, threads, device)


def _open_openvino(bundle: Bundle, form: Form, threads: int, device: str) -> Backend:
    name, weights = form.files(bundle.name)
    graph = read_sealed(bundle, name, most=MOST_XML)
    check_openvino(graph, bundle.path / name)
    return OpenVinoBackend(graph, read_sealed(bundle, weights), threads, device)


def _open_huggingface(bundle: Bundle, form: Form, threads: int, device: str) -> Backend:
    _refuse_unsealed(bundle)
    with without_progress_bars():
        config = make_config(json.loads(read_sealed(bundle, MODEL_CONFIG)), str(bundle.path / MODEL_CONFIG))
        model = make_whole_model(config, read_sealed(bundle, form.main_file), bundle.path)
        return TorchBackend(model, threads, device)


def _open_torchscript(bundle: Bundle, form: Form, threads: int, device: str) -> Backend:
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns at every use that TorchScript is deprecated
        content = io.BytesIO(read_sealed(bundle, form.main_file))
        module = torch.jit.load(content, map_location="cpu")  # type: ignore[no-untyped-call]
    return TorchBackend(module, threads, device)


ENGINES: dict[str, Callable[[Bundle, Form, int, str], Backend]] = {
    "openvino": _open_openvino,
    "onnx-int8": _open_onnx,
    "onnx": _open_onnx,
    "hf": _open_huggingface,
    "torchscript": _open_torchscript,  # last: its graph may do more than compute
}
"""Form -> function that opens it with some threads on a device; the fastest first, by benchmarks/inference.py."""


def backends() -> dict[str, Form]:
    """Backend -> the form that it runs, the fastest first."""
    return {str(FORMS[name].backend): FORMS[name] for name in ENGINES}


def choose_backend(bundle: Bundle, name: str = "auto", device: str = "cpu") -> str:
    """Return the backend to open: `name`, or the fastest one whose form and packages are available.

    Raises:
        ConfigError: no such backend.
        ArtifactError: the bundle does not hold its form.
        MissingExtraError: one of its packages is not installed.
    """
    known = backends()
    if name != "auto":
        if name not in known:
            raise ConfigError(f"backend {name!r}; expected auto, {', '.join(known)}.")
        form = known[name]
        if form.name not in bundle.forms:
            raise ArtifactError(
                f"{bundle.path}: backend {name} needs the form {form.name}; this bundle has {', '.join(bundle.forms)}. "
                f"To add the form, export again: moderation export RUN --to DIR --formats {form.name},..."
            )
        if not _is_installed(form):
            raise MissingExtraError(f"Backend {name}", form.run_extra)
        return name
    present = {backend: form for backend, form in known.items() if form.name in bundle.forms}
    if device != "cpu":
        present = {backend: form for backend, form in present.items() if not form.cpu_only}
    for backend, form in present.items():
        if _is_installed(form):
            return backend
    if not present:
        raise ArtifactError(
            f"{bundle.path}: no form in this bundle can run on {device}; it holds {', '.join(bundle.forms)}."
        )
    raise MissingExtraError(f"Running this bundle ({', '.join(present)})", next(iter(present.values())).run_extra)


def _is_installed(form: Form) -> bool:
    return all(find_spec(package) is not None for package in form.run_needs)


def main_file(bundle: Bundle, name: str) -> Path:
    """The file of a bundle that a backend runs."""
    return bundle.path / backends()[name].main_file


def open_backend(bundle: Bundle, name: str, *, threads: int | None = None, device: str = "cpu") -> Backend:
    """Load a form of a bundle into its engine; the bytes that it gets are those that the bundle seals.

    Args:
        bundle: From `read_bundle`; its folder may have been replaced since.
        name: From `choose_backend`.
        threads: Processor threads; None: all that this process may use.
        device: `cpu`, or `cuda` if the engine can use it.

    Raises:
        ArtifactError: the engine cannot read the file, or the file is not the exported one, or, for torch, there are
            unsealed files next to the weights.
        ConfigError: invalid threads or device.
    """
    threads = count_cores() if threads is None else threads
    if threads < 1:
        raise ConfigError(f"threads is {threads}, expected 1 or more.")
    form, path = backends()[name], main_file(bundle, name)
    try:
        return ENGINES[form.name](bundle, form, threads, device)
    except ModerationError:
        raise
    except UnboundedIndexError as error:
        raise refuse_graph(path, str(error)) from None
    except TimeoutError as error:
        raise ArtifactError(
            f"{path}: its graph took more than {_LONGEST_S:.0f} s for eight tokens, and was stopped. Choose another "
            "backend, or get the bundle from a source that you trust."
        ) from error
    except Exception as error:  # each engine has its own errors
        if is_out_of_memory(error):
            raise
        raise ArtifactError(
            f"{path}: the engine of backend {name} cannot read it ({type(error).__name__}). The file may need a newer "
            "version of that engine: upgrade it, or choose another backend."
        ) from error


def _refuse_unsealed(bundle: Bundle) -> None:
    """Refuse unsealed files next to the weights: transformers looks for some files by name."""
    unsealed = [name for name in find_foreign(bundle) if "/" not in name and not name.startswith(".")]
    if unsealed:
        raise ArtifactError(
            f"{bundle.path / unsealed[0]}: not named in the bundle's {MANIFEST}, and transformers might read it. "
            "Remove it, or choose another backend."
        )


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing a progress bar while it loads weights."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
