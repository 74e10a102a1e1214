"""Forms: the ways in which a bundle stores its model. The facts about each form are defined once, here.

The code of a form is in two other tables, under the same name: `export.forms.WRITERS` writes it and
`inference.backends.ENGINES` runs it. docs/adding-a-form.md explains all three.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from moderation.errors import MissingExtraError
from moderation.extras import extra_of

FormName = Literal["hf", "torch", "onnx", "onnx-int8", "openvino", "torchscript", "triton", "torchserve"]
BackendName = Literal["auto", "openvino", "onnx-int8", "onnx", "torch", "torchscript"]
Kind = Literal["float", "int8", "weights", "server"]


@dataclass(frozen=True, kw_only=True)
class Form:
    """One of the ways in which a bundle stores its model.

    Args:
        name: Its name in `--formats`.
        title: Its name in messages, at the beginning of a sentence.
        kind: `float` computes in float32 and `int8` in 8 bits; both are compared with torch. `weights` are for
            other programs, and only hashed. `server` is for another model server, and made from a whole bundle.
        main_file: The file that shows that the form is present; `{name}` stands for the bundle's name.
        beside: Other files that its engine reads by name.
        backend: Name of the backend that runs it; None: `Classifier` cannot.
        run_needs: Modules needed to run it; the extra that installs the first one installs them all.
        write_needs: Modules needed to write and compare it, beyond those of training; likewise.
        from_graph: Whether it is made from the float32 ONNX graph.
        limits: Largest difference of a probability (`max_difference`), drop of a label's ROC-AUC (`auc_drop`) and
            share of flipped decisions (`flips`) from torch, on the machine of the export.
        limit_elsewhere: Largest difference of a probability on another machine: from torch, and for int8 from its own
            answers at export, since rounding can differ where another processor sums in another order.
        cpu_only: Whether `auto` uses it only on a processor.
        shares_window: Whether its threads share the arithmetic of one window, so that the last digits depend on their
            number, and a forked process cannot use them.
        hub_tag: Its tag in the model card's metadata.
    """

    name: FormName
    title: str
    kind: Kind
    main_file: str
    beside: tuple[str, ...] = ()
    backend: BackendName | None = None
    run_needs: tuple[str, ...] = ()
    write_needs: tuple[str, ...] = ()
    from_graph: bool = False
    limits: Mapping[str, float] = field(default_factory=dict)
    limit_elsewhere: float = 0.0
    cpu_only: bool = False
    shares_window: bool = False
    hub_tag: str | None = None

    def files(self, bundle_name: str) -> list[str]:
        """Files that are read by name, the main one first."""
        return [self.main_file.format(name=bundle_name), *self.beside]

    @property
    def run_extra(self) -> str:
        """The extra that installs what is needed to run it."""
        return str(extra_of(self.run_needs[0]))

    def cannot_be_written(self) -> MissingExtraError:
        """The error to raise if a module needed to write it is missing."""
        return MissingExtraError(self.title, str(extra_of(self.write_needs[0])))


_INT8_LIMITS = {"auc_drop": 0.002, "flips": 0.005}

FORMS: dict[str, Form] = {
    form.name: form
    for form in (
        Form(
            name="hf",
            title="The plain Hugging Face folder",
            kind="float",
            main_file="model.safetensors",
            backend="torch",
            run_needs=("transformers", "torch"),
            limits={"max_difference": 1e-6},
            limit_elsewhere=1e-5,
            shares_window=True,
        ),
        Form(name="torch", title="The weights of torch", kind="weights", main_file="pytorch_model.bin"),
        Form(
            name="onnx",
            title="The ONNX form",
            kind="float",
            main_file="onnx/model.onnx",
            backend="onnx",
            run_needs=("onnxruntime",),
            write_needs=("onnx", "onnxruntime"),
            from_graph=True,
            limits={"max_difference": 1e-4},
            limit_elsewhere=1e-4,
            hub_tag="onnx",
        ),
        Form(
            name="onnx-int8",
            title="The 8-bit ONNX form",
            kind="int8",
            main_file="onnx/model_int8.onnx",
            backend="onnx-int8",
            run_needs=("onnxruntime",),
            write_needs=("onnx", "onnxruntime"),
            from_graph=True,
            limits=_INT8_LIMITS,
            limit_elsewhere=0.02,
            cpu_only=True,
        ),
        Form(
            name="openvino",
            title="The OpenVINO form",
            kind="int8",
            main_file="openvino/model.xml",
            beside=("openvino/model.bin",),
            backend="openvino",
            run_needs=("openvino",),
            write_needs=("onnx", "onnxruntime", "openvino", "nncf"),
            from_graph=True,
            limits=_INT8_LIMITS,
            limit_elsewhere=0.02,
            cpu_only=True,
            hub_tag="openvino",
        ),
        Form(
            name="torchscript",
            title="The TorchScript form",
            kind="float",
            main_file="torchscript/model.pt",
            backend="torchscript",
            run_needs=("torch",),
            limits={"max_difference": 1e-5},
            limit_elsewhere=1e-5,
            shares_window=True,
        ),
        Form(name="triton", title="The repository for Triton", kind="server", main_file="triton/{name}/config.pbtxt"),
        Form(
            name="torchserve",
            title="The archive for TorchServe",
            kind="server",
            main_file="torchserve/{name}.mar",
            write_needs=("model_archiver",),
        ),
    )
}
