"""What fields of a recipe do not go together: one line each."""

from neurosim_ep._recipe.tables import DataRecipe, LearningRecipe, NetworkRecipe, SettlingRecipe
from neurosim_ep._toml_text import problem
from neurosim_ep.data import spec_for

_SMALLEST_CONVOLUTIONAL_IMAGE = 16  # pixels: four halvings must leave one pixel


def network_problems(network: NetworkRecipe, learning: LearningRecipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `network` and their users."""
    lines = []
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


def data_problems(data: DataRecipe, network: NetworkRecipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `data`."""
    lines = []
    smallest, why = spec_for(data.name).image_size, f'with data.name = "{data.name}"'
    if network.model != "mlp" and smallest < _SMALLEST_CONVOLUTIONAL_IMAGE:
        smallest, why = (
            _SMALLEST_CONVOLUTIONAL_IMAGE,
            f'with network.model = "{network.model}"',
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


def settling_problems(
    settling: SettlingRecipe, network: NetworkRecipe, *, on_chip: bool
) -> list[str]:
    """Return the lines of what is wrong among the fields of `settling` and their users."""
    lines = []
    if settling.acceleration != "none" and settling.order in ("synchronous", "asynchronous"):
        allowed = f'"none" with settling.order = "{settling.order}"'
        lines.append(problem("settling.acceleration", settling.acceleration, allowed))
    if network.activation == "sigmoid":
        for field in ("acceleration", "fusion"):
            if (value := getattr(settling, field)) != "none":
                allowed = '"none" with network.activation = "sigmoid"'
                lines.append(problem(f"settling.{field}", value, allowed))
    if settling.precision != "full" and on_chip:
        allowed = '"full" with a table on_chip, whose reads are simulated'
        lines.append(problem("settling.precision", settling.precision, allowed))
    if settling.check_interval is not None and settling.tolerance is None:
        allowed = "absent without settling.tolerance"
        lines.append(problem("settling.check_interval", settling.check_interval, allowed))
    return lines


def learning_problems(learning: LearningRecipe) -> list[str]:
    """Return the lines of what is wrong among the fields of `learning` alone."""
    lines = []
    if learning.estimator != "holomorphic" and learning.points != 2:
        allowed = f'2 with learning.estimator = "{learning.estimator}"'
        lines.append(problem("learning.points", learning.points, allowed))
    if learning.optimiser == "sgd" and learning.nesterov and learning.momentum == 0:
        allowed = 'false with learning.optimiser = "sgd" and learning.momentum = 0'
        lines.append(problem("learning.nesterov", True, allowed))
    return lines
