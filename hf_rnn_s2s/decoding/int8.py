"""Translation with matrix products of 8 bit integers, for processors without fast bfloat16.

Weights are quantized to 8 bits once, and their inputs at every call (dynamic quantization). ONNX Runtime does both,
one product or one recurrent layer at a time; everything around them stays as it is, so that the copy is a model like
any other: for `generate()`, the pipeline and the Trainer's evaluation.

Needs the packages of the extra `int8`: `pip install onnxruntime onnx`.
"""

from __future__ import annotations

import copy
import tempfile
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from ..machine import has_fast_int8
from ..model.cells_rnn_s2s import LSTMLayer
from ..model.modeling_rnn_s2s import RnnS2SForConditionalGeneration
from ..model.state_rnn_s2s import LayerState
from .guard import has_own_hooks
from .int8_weights import QuantizedWeights

# Versions of ONNX's operators and of its file format, which the oldest supported onnxruntime knows
OPSET_VERSION, IR_VERSION = 17, 8

# What to do instead of changing a quantized model, for error messages
ADVICE = "Do that with the model that it was made of, and call quantize_int8 on it again."


def quantize_int8(model: RnnS2SForConditionalGeneration) -> RnnS2SForConditionalGeneration:
    """A copy of a model whose decoder and output layer compute with 8 bit integers, on the CPU, for evaluation.

    Parts that run once per sentence, the encoder and the bridge, stay in float32, and so do layers with hooks, and GRU
    layers, for which ONNX Runtime has no such operator. The inputs of a product share one scale over the batch, so
    that a row's scores depend a little on the other rows. The float32 weights are kept: `save_pretrained` writes them,
    and `quantize_int8` is called again after loading.

    The copy computes with the weights of this moment. It cannot be trained, load other weights or resize its
    vocabularies, and refuses to compute once its weights have been changed all the same. A loss in evaluation is that
    of its own logits.

    Args:
        model: in float32, on the CPU. It is not changed.

    Returns:
        The copy. It uses as many threads as torch does at this moment.

    Raises:
        ImportError: without the extra `int8`.
        TypeError: if the weights are of another type than float32.
        ValueError: if the model is on another device than the CPU, or has weights that are computed from others at
            each call, as pruning and the old `weight_norm` leave them.
    """
    _require_onnx_runtime()
    if model.device.type != "cpu":
        raise ValueError(f'int8 is for the CPU, and the model is on {model.device}: call model.to("cpu") first.')
    if model.dtype != torch.float32:
        raise TypeError(f"int8 is made of float32 weights; these are {model.dtype}: call model.float() first.")
    _require_leaf_weights(model)
    with torch.inference_mode(False):  # in inference mode torch does not count the changes of a tensor
        quantized = copy.deepcopy(model).eval().requires_grad_(False)
        _replace_layers(quantized)
    for name in ("resize_token_embeddings", "resize_decoder_token_embeddings"):
        setattr(quantized, name, partial(_refuse_to_resize, name))
        setattr(quantized.model, name, partial(_refuse_to_resize, name))
    for module in quantized.modules():  # each part refuses, as its 8 bit integers would not follow what it loads
        module.register_load_state_dict_pre_hook(_refuse_to_load)
    return quantized


def _replace_layers(model: RnnS2SForConditionalGeneration) -> None:
    decoder = model.model.decoder
    for index, layer in enumerate(decoder.layers):
        if type(layer) in (LSTMLayer, Int8LSTMLayer) and not has_own_hooks(layer):
            decoder.layers[index] = Int8LSTMLayer(cast(LSTMLayer, layer))
    holders = [decoder, *(decoder.attention.modules() if decoder.attention is not None else ())]
    for holder in holders:
        for name, module in list(holder.named_children()):
            # A layer with a single output, such as the one for attention scores, has too small a product.
            if _is_plain_linear(module) and name not in getattr(holder, "once", ()) and module.out_features > 1:
                setattr(holder, name, Int8Linear(module))
    if _is_plain_linear(model.lm_head):
        model.lm_head = Int8Linear(model.lm_head)


def _is_plain_linear(module: nn.Module) -> bool:
    """Whether an `Int8Linear` can replace it; an `Int8Linear` is made again, of its float32 weights."""
    return type(module) in (nn.Linear, Int8Linear) and not has_own_hooks(module)


class Int8Linear(nn.Linear):
    """As `nn.Linear`, in 8 bit integers with a scale for each output.

    Args:
        linear: whose parameters it shares.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.train(linear.training)
        self._graph = _OnnxGraph(_linear_graph(linear.weight))
        self._quantized = QuantizedWeights(self, ["weight"])

    def forward(self, inputs: Tensor) -> Tensor:
        """Map inputs `(..., in_features)` to outputs `(..., out_features)`, both in float32.

        Raises:
            TypeError: for inputs of another type than float32.
            ValueError: in training mode, where gradients are wanted, for inputs on another device than the CPU, or if
                the weights have changed.
        """
        _check_inputs(self, inputs)
        self._quantized.require_unchanged(self)
        outputs = inputs.new_empty(*inputs.shape[:-1], self.out_features)
        self._graph.run({"inputs": inputs.flatten(0, -2)}, {"outputs": outputs.flatten(0, -2)})
        return outputs if self.bias is None else outputs.add_(self.bias)


class Int8LSTMLayer(LSTMLayer):
    """As `LSTMLayer`, in 8 bit integers with a scale for each gate of each unit, but without padding.

    Args:
        layer: whose parameters it shares.
    """

    def __init__(self, layer: LSTMLayer) -> None:
        with torch.device("meta"):
            super().__init__(layer.weight_ih.shape[1], layer.hidden_size)
        for name, parameter in layer.named_parameters():
            setattr(self, name, parameter)
        self.train(layer.training)
        self._graph = _OnnxGraph(_lstm_graph(layer))
        self._quantized = QuantizedWeights(self, ["weight_ih", "weight_hh", "bias_ih", "bias_hh"])

    def _run(self, inputs: Tensor, state: LayerState, weights: list[Tensor]) -> tuple[Tensor, LayerState]:
        _check_inputs(self, inputs)
        self._quantized.require_unchanged(self)
        batch, time, _ = inputs.shape
        outputs = inputs.new_empty(time, 1, batch, self.hidden_size)
        hidden, cell = (inputs.new_empty(1, batch, self.hidden_size) for _ in range(2))
        self._graph.run(
            {"inputs": inputs.transpose(0, 1), "first_hidden": state[0][None], "first_cell": state[1][None]},
            {"outputs": outputs, "hidden": hidden, "cell": cell},
        )
        return outputs.squeeze(1).transpose(0, 1), (hidden.squeeze(0), cell.squeeze(0))

    _step = _run


class _OnnxGraph:
    """An ONNX model that ONNX Runtime runs on float32 tensors.

    Args:
        model: the bytes of an ONNX model.
    """

    def __init__(self, model: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        # Spinning threads, while they wait for work, would keep torch's own threads from running.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._model = model
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(self, inputs: dict[str, Tensor], outputs: dict[str, Tensor]) -> None:
        """Compute the outputs from the inputs, and write them to the given tensors, which must be contiguous."""
        binding = self._session.io_binding()
        contiguous = {name: tensor.contiguous() for name, tensor in inputs.items()}  # kept until it has run
        for name, tensor in contiguous.items():
            binding.bind_input(name, "cpu", 0, "float32", tuple(tensor.shape), tensor.data_ptr())
        for name, tensor in outputs.items():
            binding.bind_output(name, "cpu", 0, "float32", tuple(tensor.shape), tensor.data_ptr())
        self._session.run_with_iobinding(binding)

    def __reduce__(self) -> tuple[Any, ...]:
        return _OnnxGraph, (self._model,)


def _check_inputs(module: nn.Module, inputs: Tensor) -> None:
    if module.training:
        raise ValueError("A model in int8 cannot learn: train the one it was made of, or call eval() first.")
    if torch.is_grad_enabled() and (inputs.requires_grad or any(one.requires_grad for one in module.parameters())):
        raise ValueError(
            "A model in int8 has no gradients: take those of the one it was made of, or compute under torch.no_grad()."
        )
    if inputs.device.type != "cpu":
        raise ValueError(f"int8 is for the CPU, and the inputs are on {inputs.device}: leave the model there.")
    if inputs.dtype != torch.float32:
        raise TypeError(f"int8 reads float32, and the inputs are {inputs.dtype}: leave out bfloat16 and autocast.")


def _refuse_to_load(*args: Any) -> NoReturn:
    raise ValueError(f"A model in int8 keeps the weights it was made of; it loads no others. {ADVICE}")


def _refuse_to_resize(name: str, *args: Any, **kwargs: Any) -> NoReturn:
    raise ValueError(f"{name}: a model in int8 keeps the vocabularies it has. {ADVICE}")


def _require_leaf_weights(model: nn.Module) -> None:
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and not value.is_leaf:
                raise ValueError(
                    f"{path}.{name} is computed of other weights at each call, as after pruning or weight_norm. Make "
                    "a weight of it first, for example by torch.nn.utils.prune.remove or remove_weight_norm."
                )


def _linear_graph(weight: Tensor) -> bytes:
    from onnx import helper, numpy_helper

    product = helper.make_node("MatMul", ["inputs", "weight"], ["outputs"])
    weights = [numpy_helper.from_array(weight.detach().t().contiguous().numpy(), "weight")]
    outputs, inputs = weight.shape
    return _quantized_model(product, weights, {"inputs": [None, inputs]}, {"outputs": [None, outputs]})


def _lstm_graph(layer: LSTMLayer) -> bytes:
    from onnx import helper, numpy_helper

    names = ["weight_ih", "weight_hh", "bias"]
    node = helper.make_node(
        "LSTM",
        ["inputs", *names, "", "first_hidden", "first_cell"],
        ["outputs", "hidden", "cell"],
        hidden_size=layer.hidden_size,
    )
    biases = torch.cat([_onnx_gates(layer.bias_ih), _onnx_gates(layer.bias_hh)])
    parts = [_onnx_gates(layer.weight_ih), _onnx_gates(layer.weight_hh), biases]
    weights = [numpy_helper.from_array(part[None].numpy(), name) for part, name in zip(parts, names, strict=True)]
    state = [1, None, layer.hidden_size]
    return _quantized_model(
        node,
        weights,
        {"inputs": [None, None, layer.weight_ih.shape[1]], "first_hidden": state, "first_cell": state},
        {"outputs": [None, 1, None, layer.hidden_size], "hidden": state, "cell": state},
    )


def _onnx_gates(parameter: Tensor) -> Tensor:
    """Reorder gates from torch (input, forget, candidate, output) to ONNX (input, output, forget, candidate)."""
    input_gate, forget_gate, candidate, output = parameter.detach().chunk(4)
    return torch.cat([input_gate, output, forget_gate, candidate])


def _quantized_model(node: Any, weights: list[Any], inputs: dict[str, Any], outputs: dict[str, Any]) -> bytes:
    """The bytes of an ONNX model of one node, with its weights in 8 bits. Shapes have None for any size."""
    from onnx import TensorProto, helper
    from onnxruntime.quantization import QuantType, quantize_dynamic

    graph_inputs, graph_outputs = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in side.items()]
        for side in (inputs, outputs)
    )
    model = helper.make_model(
        helper.make_graph([node], "product", graph_inputs, graph_outputs, weights),
        opset_imports=[helper.make_opsetid("", OPSET_VERSION)],
        ir_version=IR_VERSION,
    )
    # One node needs no preprocessing; without this mark `quantize_dynamic` warns that it is missing.
    helper.set_model_props(model, {"onnx.quant.pre_process": "onnxruntime.quant"})
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "product.onnx"
        # Without 8 bit instructions, sums of two products overflow their 16 bits unless the weights have 7 bits.
        quantize_dynamic(
            model, file, per_channel=True, reduce_range=not has_fast_int8(), weight_type=cast(Any, QuantType.QInt8)
        )
        return file.read_bytes()


def _require_onnx_runtime() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"int8 needs {error.name}, which is not installed: pip install onnxruntime onnx (in a copy of the "
            'repository of this package: pip install -e ".[int8]").',
            name=error.name,
        ) from error
