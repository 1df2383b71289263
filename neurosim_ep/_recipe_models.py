"""The tables of a recipe: their fields, limits and the rules that span several fields.

What they mean follows arXiv 2509.26003; the public names are those of `config`.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from neurosim_ep._on_chip_recipe import OnChipRecipe, on_chip_problems
from neurosim_ep._toml_text import problem
from neurosim_ep.data import spec_for
from neurosim_ep.settling import MAX_ITERATIONS

_SMALLEST_CONVOLUTIONAL_IMAGE = 16  # pixels: four halvings must leave one pixel


def _as_tuple(value: object) -> object:
    """Take a TOML array for a tuple, and nothing else."""
    return tuple(value) if isinstance(value, list) else value


def _encodable(text: str) -> str:
    """Refuse text that no file can hold: a lone half of a surrogate pair."""
    text.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return text


_Text = Annotated[str, AfterValidator(_encodable), "a string of Unicode characters"]
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


class _Table(BaseModel):
    """A part of a recipe: frozen, strict, and without NaN, infinities or unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class NetworkRecipe(_Table):
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


class DataRecipe(_Table):
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


class SettlingRecipe(_Table):
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


class LearningRecipe(_Table):
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


class RunRecipe(_Table):
    """Where and how the experiment runs; `checkpoint_interval_s` is in seconds."""

    device: _Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: Annotated[int, Field(ge=1, le=4096)] | None = None
    checkpoint_interval_s: _Positive = 300.0


class Recipe(_Table):
    """A complete experiment. The same recipe on the same machine gives the same result.

    With a table `on_chip` it learns on simulated hardware, without one exactly.
    """

    name: _Text
    description: _Text = ""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    network: NetworkRecipe
    data: DataRecipe
    settling: SettlingRecipe
    learning: LearningRecipe
    run: RunRecipe = RunRecipe()
    on_chip: OnChipRecipe | None = None

    @model_validator(mode="after")
    def _obeys_rules(self) -> Recipe:
        lines = [*_network_problems(self), *_data_problems(self), *_learning_problems(self)]
        lines += _settling_problems(self)
        lines += on_chip_problems(self)
        if lines:
            raise ValueError("\n".join(lines))
        return self


def _network_problems(recipe: Recipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `network` and their users."""
    network, learning, lines = recipe.network, recipe.learning, []
    of_model = f'with network.model = "{network.model}"'
    if network.model == "mlp" and not network.widths:
        lines.append(problem("network.widths", (), f"at least one whole number {of_model}"))
    if network.model != "mlp" and len(network.widths) != 4:
        allowed = f"exactly four whole numbers {of_model}"
        lines.append(problem("network.widths", network.widths, allowed))
    if network.model != "hopfield_resnet13" and network.skip != "conv1x1":
        lines.append(problem("network.skip", network.skip, f'"conv1x1" {of_model}'))
    if network.batch_norm and learning.algorithm != "backpropagation":
        allowed = f'false with learning.algorithm = "{learning.algorithm}"'
        lines.append(problem("network.batch_norm", True, allowed))
    if learning.estimator == "holomorphic" and network.activation != "sigmoid":
        allowed = '"sigmoid" with learning.estimator = "holomorphic"'
        lines.append(problem("network.activation", network.activation, allowed))
    if network.model == "hopfield_resnet13":
        of_model += f' and network.skip = "{network.skip}"'
    for field, values, count, what in (
        ("network.gains", network.gains, network.num_weights, "weight"),
        ("learning.weight_learning_rates", learning.weight_learning_rates, network.num_weights,
         "weight"),
        ("learning.bias_learning_rates", learning.bias_learning_rates, network.num_biases, "bias"),
    ):  # fmt: skip
        if values is not None and len(values) != count:
            allowed = f"{count} numbers, one per {what}, {of_model}"
            lines.append(problem(field, values, allowed))
    return lines


def _data_problems(recipe: Recipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `data`."""
    data, lines = recipe.data, []
    smallest, why = spec_for(data.name).image_size, f'with data.name = "{data.name}"'
    if recipe.network.model != "mlp" and smallest < _SMALLEST_CONVOLUTIONAL_IMAGE:
        smallest, why = (
            _SMALLEST_CONVOLUTIONAL_IMAGE,
            f'with network.model = "{recipe.network.model}"',
        )
    size = data.image_size if data.image_size is not None else spec_for(data.name).image_size
    if size < smallest:
        allowed = f"a whole number at least {smallest} (pixels) and at most 256 {why}"
        lines.append(problem("data.image_size", data.image_size, allowed))
    available, of_data = spec_for(data.name).train_images, f'with data.name = "{data.name}"'
    if data.validation_images >= available:
        allowed = f"less than the {available} training images {of_data}"
        lines.append(problem("data.validation_images", data.validation_images, allowed))
    elif data.train_images is not None and data.train_images > available - data.validation_images:
        allowed = (
            f"at most {available - data.validation_images} {of_data} "
            f"and data.validation_images = {data.validation_images}"
        )
        lines.append(problem("data.train_images", data.train_images, allowed))
    most = spec_for(data.name).test_images
    if data.test_images is not None and data.test_images > most:
        lines.append(problem("data.test_images", data.test_images, f"at most {most} {of_data}"))
    return lines


def _settling_problems(recipe: Recipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `settling` and their users."""
    settling, lines = recipe.settling, []
    if settling.acceleration != "none" and settling.order in ("synchronous", "asynchronous"):
        allowed = f'"none" with settling.order = "{settling.order}"'
        lines.append(problem("settling.acceleration", settling.acceleration, allowed))
    if recipe.network.activation == "sigmoid":
        for field in ("acceleration", "fusion"):
            if (value := getattr(settling, field)) != "none":
                allowed = '"none" with network.activation = "sigmoid"'
                lines.append(problem(f"settling.{field}", value, allowed))
    if settling.precision != "full" and recipe.on_chip is not None:
        allowed = '"full" with a table on_chip, whose reads are simulated'
        lines.append(problem("settling.precision", settling.precision, allowed))
    if settling.check_interval is not None and settling.tolerance is None:
        allowed = "absent without settling.tolerance"
        lines.append(problem("settling.check_interval", settling.check_interval, allowed))
    return lines


def _learning_problems(recipe: Recipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `learning` alone."""
    learning, lines = recipe.learning, []
    if learning.estimator != "holomorphic" and learning.points != 2:
        allowed = f'2 with learning.estimator = "{learning.estimator}"'
        lines.append(problem("learning.points", learning.points, allowed))
    if learning.optimiser == "sgd" and learning.nesterov and learning.momentum == 0:
        allowed = 'false with learning.optimiser = "sgd" and learning.momentum = 0'
        lines.append(problem("learning.nesterov", True, allowed))
    return lines
