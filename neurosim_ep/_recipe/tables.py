"""The tables of a recipe: their fields and limits.

What they mean follows arXiv 2509.26003; the public names are those of `config`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from neurosim_ep.settling import MAX_ITERATIONS


def _as_tuple(value: object) -> object:
    """Take a TOML array for a tuple, and nothing else."""
    return tuple(value) if isinstance(value, list) else value


def _encodable(text: str) -> str:
    """Refuse text that no file can hold: a lone half of a surrogate pair."""
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return text


Text = Annotated[str, AfterValidator(_encodable), "a string of Unicode characters"]
_Positive = Annotated[float, Field(gt=0)]
_NonNegative = Annotated[float, Field(ge=0)]
_Probability = Annotated[float, Field(ge=0, le=1)]
_Iterations = Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]
_Widths = Annotated[tuple[Annotated[int, Field(ge=1, le=65_536)], ...], BeforeValidator(_as_tuple)]
_Positives = Annotated[tuple[_Positive, ...], BeforeValidator(_as_tuple)]
_NonNegatives = Annotated[tuple[_NonNegative, ...], BeforeValidator(_as_tuple)]
_Device = Annotated[
    str,
    Field(pattern=r"^(auto|cpu|cuda(:(0|[1-9][0-9]{0,2}))?)$"),
    '"auto", "cpu", "cuda" or "cuda:N" with N the number of a device',
]


class Table(BaseModel):
    """A part of a recipe: frozen, strict, and without NaN, infinities or unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NetworkRecipe(Table):
    """What the network is.

    `widths` are the hidden widths of "mlp" (units) or the four channel counts of the others.
    `skip` is the kind of skip connection of "hopfield_resnet13". `alpha` is the upper bound of
    "relu_alpha" (states lie in [0, alpha]); "random" draws it uniformly in [0, 10] per layer;
    "relu" (unbounded, for backpropagation) and "sigmoid" (holomorphic) do not use it. `gains`
    scale the initial weights, one per weight in edge order. `batch_norm` belongs to
    backpropagation only.
    """

    model: Literal["mlp", "vgg5", "hopfield_resnet13"]
    widths: _Widths
    skip: Literal["conv1x1", "identity", "none"] = "conv1x1"
    activation: Literal["relu_alpha", "relu", "sigmoid"] = "relu_alpha"
    alpha: _Positive | Literal["random"] = 6.0
    gains: _Positives | None = None
    batch_norm: bool = False

    @property
    def num_weights(self) -> int:
        """How many weight tensors the network has, which is its number of weighted edges."""
        if self.model == "hopfield_resnet13":
            return 13 if self.skip == "conv1x1" else 9
        return 5 if self.model == "vgg5" else len(self.widths) + 1

    @property
    def num_biases(self) -> int:
        """How many bias vectors the network has: one per layer that is not the input."""
        if self.model == "hopfield_resnet13":
            return 9
        return 5 if self.model == "vgg5" else len(self.widths) + 1


class DataRecipe(Table):
    """What the network sees.

    `image_size` is the side in pixels after zero padding; absent, it is the native one.
    `validation_images` are held out of the training set first; `train_images` keeps only the
    first n of the rest, and `test_images` only the first n of the test set. The remaining fields
    augment training images: the probability of a horizontal flip, the padding in pixels before a
    random crop, and RandAugment's number of operations per image and their common magnitude (0 to
    30).
    """

    name: Literal["digits", "mnist", "fashion_mnist", "cifar10", "cifar100"]
    image_size: Annotated[int, Field(ge=1, le=256)] | None = None
    train_images: Annotated[int, Field(ge=1)] | None = None
    test_images: Annotated[int, Field(ge=1)] | None = None
    validation_images: Annotated[int, Field(ge=0)] = 0
    flip_probability: _Probability = 0.0
    crop_padding_pixels: Annotated[int, Field(ge=0, le=16)] = 0
    randaugment_operations: Annotated[int, Field(ge=0, le=10)] = 0
    randaugment_magnitude: Annotated[int, Field(ge=0, le=30)] = 9


class SettlingRecipe(Table):
    """How the network reaches equilibrium.

    `order` says which layers change together in an iteration. With `tolerance`, a phase stops
    once its residual is below it and the iterations are the maximum. `nudged_reads` are of the
    whole state ("full") or of its change against the free state ("delta"). `warm_start` starts
    a training batch's free phase from the states in which the last batch's ended.

    `precision` is of what exact edges multiply in both phases: "full" is `run.dtype`.
    `acceleration` "overrelaxed" moves every layer beyond its update, in orders that make the
    Lyapunov function fall. `capture` "auto" replays whole phases as CUDA graphs on a GPU; no
    GPU has run it yet.
    `check_interval` is how many iterations pass between two looks at the residual where there is
    a tolerance; absent, 1 on a CPU and 10 on a GPU. `fusion` "compiled" adds and clips each layer's
    currents in one kernel by torch.compile.
    """

    order: Literal["synchronous", "asynchronous", "coloured", "forward", "backward"] = "coloured"
    free_iterations: _Iterations
    nudged_iterations: _Iterations
    tolerance: _Positive | None = None
    nudged_reads: Literal["full", "delta"] = "full"
    warm_start: bool = False
    precision: Literal["full", "tf32", "bfloat16", "float16"] = "full"
    acceleration: Literal["none", "overrelaxed"] = "none"
    capture: Literal["auto", "none"] = "none"
    check_interval: _Iterations | None = None
    fusion: Literal["none", "compiled"] = "none"


class LearningRecipe(Table):
    """How the network learns.

    `beta` is the nudging; `estimator`, `beta` and `points` (of the holomorphic circle) concern
    equilibrium propagation only. `weight_learning_rates` and `bias_learning_rates` replace
    `learning_rate` tensor by tensor. `momentum` and `nesterov` concern "sgd" only, and
    `final_learning_rate` the "cosine" schedule. `clip_norm` is the largest global gradient norm.
    """

    algorithm: Literal["equilibrium_propagation", "backpropagation"]
    estimator: Literal["positive", "negative", "centered", "random_sign", "holomorphic"] = (
        "centered"
    )
    beta: Annotated[float, Field(gt=0, le=10)]
    points: Annotated[int, Field(ge=2, le=64)] = 2
    cost: Literal["squared_error", "cross_entropy"]
    epochs: Annotated[int, Field(ge=1, le=100_000)]
    batch_size: Annotated[int, Field(ge=1, le=65_536)]
    optimiser: Literal["sgd", "adam"]
    learning_rate: _Positive
    weight_learning_rates: _NonNegatives | None = None
    bias_learning_rates: _NonNegatives | None = None
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    nesterov: bool = True
    weight_decay: _NonNegative = 0.0
    clip_norm: _Positive | None = None
    schedule: Literal["cosine", "constant"]
    final_learning_rate: _NonNegative = 0.0


class RunRecipe(Table):
    """Where and how the experiment runs; `checkpoint_interval_s` is in seconds."""

    device: _Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    checkpoint_interval_s: _Positive = 300.0
