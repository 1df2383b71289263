"""Recipes: shipped ones, rules and their messages, overrides, and the TOML round trip."""

from __future__ import annotations

import copy
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from neurosim_ep import config
from neurosim_ep.config import RecipeError, dump_recipe, load_recipe, recipe_from_mapping
from neurosim_ep.settling import MAX_ITERATIONS

SHIPPED = config.shipped_recipes()
PAPER = [
    f"{network}-{data}"
    for network in ("hopfield-resnet13", "vgg5")
    for data in ("cifar10", "cifar100", "fashion-mnist")
]
SMALL = [
    "digits",
    "mlp-mnist",
    "vgg5-small-fashion-mnist",
    "vgg5-small-cifar10",
    "hopfield-resnet13-small-cifar10",
]
REAL = "a number greater than 0"
GREATER_0 = "greater than 0"
RESNET_COUNT = 'with network.model = "hopfield_resnet13" and network.skip = '


def problems(name: str, *overrides: str) -> list[str]:
    """Return the lines of the error that loading a recipe raises."""
    with pytest.raises(RecipeError) as caught:
        load_recipe(name, overrides)
    return str(caught.value).split("\n")


def line(field: str, value: str, allowed: str) -> str:
    """Return the line that every refused value must give."""
    return f"{field}: {value} is not allowed; must be {allowed}"


def whole(low: int, high: int) -> str:
    """Return how messages name a range of whole numbers."""
    return f"a whole number at least {low} and at most {high}"


# --- shipped recipes ---------------------------------------------------------------------------


def test_all_expected_recipes_are_shipped() -> None:
    pairs = {name + suffix for name in PAPER + SMALL for suffix in ("", "-bp")}
    fast = {f"{name}-fast" for name in PAPER}
    assert set(SHIPPED) == pairs | fast | {"digits-on-chip", "mlp-mnist-on-chip"}
    assert list(SHIPPED) == sorted(SHIPPED)


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_recipe_loads_and_round_trips(name: str, tmp_path: Path) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert SHIPPED[name] == recipe.description
    assert recipe.description
    assert recipe.description.isprintable()
    path = tmp_path / "copy.toml"
    path.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(str(path)) == recipe
    assert load_recipe(path) == recipe


@pytest.mark.parametrize("name", PAPER)
def test_paper_recipes_have_the_papers_settings(name: str) -> None:
    recipe = load_recipe(name)
    cifar10 = recipe.data.name == "cifar10"
    settling, learning = recipe.settling, recipe.learning
    assert (settling.order, settling.warm_start) == ("asynchronous", True)
    assert (settling.free_iterations, settling.nudged_iterations) == (120, 50)
    assert (learning.estimator, learning.beta) == ("centered", 0.1 if cifar10 else 0.15)
    assert (learning.epochs, learning.batch_size, learning.clip_norm) == (300, 128, 1.0)
    assert (learning.learning_rate, learning.final_learning_rate) == (0.03, 2e-6)
    assert learning.weight_decay == (2.5e-4 if cifar10 else 3.5e-4)
    assert recipe.network.widths == (128, 256, 512, 512)
    assert recipe.network.gains is not None
    assert len(recipe.network.gains) == recipe.network.num_weights
    augmented = {"cifar10": (4, 3), "cifar100": (4, 4), "fashion_mnist": (2, 0)}[recipe.data.name]
    assert (recipe.data.crop_padding_pixels, recipe.data.randaugment_operations) == augmented
    assert recipe.data.image_size == (32 if recipe.data.name == "fashion_mnist" else None)


@pytest.mark.parametrize("name", PAPER + SMALL)
def test_counterpart_differs_in_learning_only(name: str) -> None:
    ep, bp = load_recipe(name), load_recipe(name + "-bp")
    assert ep.learning.algorithm == "equilibrium_propagation"
    assert bp.learning.algorithm == "backpropagation"
    assert (ep.data, ep.settling, ep.run) == (bp.data, bp.settling, bp.run)
    only_ep = {"gains": None, "alpha": 6.0, "activation": "relu"}
    assert ep.network.model_copy(update=only_ep) == bp.network.model_copy(
        update={"batch_norm": False}
    )
    assert bp.network.batch_norm == (bp.network.model != "mlp")


# --- every field's own limits ------------------------------------------------------------------

MODELS = 'one of "mlp", "vgg5", "hopfield_resnet13"'
DATA = 'one of "digits", "mnist", "fashion_mnist", "cifar10", "cifar100"'
ORDERS = 'one of "synchronous", "asynchronous", "coloured", "forward", "backward"'
ESTIMATORS = 'one of "positive", "negative", "centered", "random_sign", "holomorphic"'
DEVICES = '"auto", "cpu", "cuda" or "cuda:N" with N the number of a device'
BOOL = "true or false"
LIST = "a list, each item "
UNIT = "at least 0 and at most 1"

FIELD_CASES = [
    ("recipe.name", "5", "5", "a string of Unicode characters"),
    ("description", "true", "true", "a string of Unicode characters"),
    ("seed", "-1", "-1", whole(0, 2**63 - 1)),
    ("seed", '"5"', '"5"', whole(0, 2**63 - 1)),
    ("seed", "true", "true", whole(0, 2**63 - 1)),
    ("seed", "1.0", "1.0", whole(0, 2**63 - 1)),
    ("network.model", "cnn", '"cnn"', MODELS),
    ("network.widths", "[0]", "[0]", LIST + whole(1, 65536)),
    ("network.widths", "[65537]", "[65537]", LIST + whole(1, 65536)),
    ("network.widths", "[true]", "[true]", LIST + whole(1, 65536)),
    ("network.widths", "128", "128", LIST + whole(1, 65536)),
    ("network.skip", "dense", '"dense"', 'one of "conv1x1", "identity", "none"'),
    ("network.activation", "tanh", '"tanh"', 'one of "relu_alpha", "relu", "sigmoid"'),
    ("network.alpha", "0", "0", GREATER_0 + ' or "random"'),
    ("network.alpha", "rand", '"rand"', REAL + ' or "random"'),
    ("network.alpha", "nan", "nan", 'a finite number greater than 0 or "random"'),
    ("network.gains", "[1.0, 0.0]", "[1.0, 0.0]", LIST + REAL + " or absent"),
    ("network.batch_norm", "1", "1", BOOL),
    ("data.name", "svhn", '"svhn"', DATA),
    ("image_size", "257", "257", whole(1, 256) + " or absent"),
    ("train_images", "0", "0", "a whole number at least 1 or absent"),
    ("test_images", "0", "0", "a whole number at least 1 or absent"),
    ("validation_images", "-1", "-1", "a whole number at least 0"),
    ("flip_probability", "1.1", "1.1", UNIT),
    ("flip_probability", "-0.1", "-0.1", UNIT),
    ("crop_padding_pixels", "17", "17", whole(0, 16)),
    ("randaugment_operations", "11", "11", whole(0, 10)),
    ("randaugment_magnitude", "31", "31", whole(0, 30)),
    ("order", "random", '"random"', ORDERS),
    ("free_iterations", "0", "0", whole(1, MAX_ITERATIONS)),
    ("nudged_iterations", "10001", "10001", whole(1, MAX_ITERATIONS)),
    ("tolerance", "0.0", "0.0", "greater than 0 or absent"),
    ("nudged_reads", "half", '"half"', 'one of "full", "delta"'),
    ("warm_start", "yes", '"yes"', BOOL),
    ("algorithm", "ep", '"ep"', 'one of "equilibrium_propagation", "backpropagation"'),
    ("estimator", "centred", '"centred"', ESTIMATORS),
    ("beta", "-0.1", "-0.1", "greater than 0 and at most 10"),
    ("beta", "10.5", "10.5", "greater than 0 and at most 10"),
    ("beta", "inf", "inf", "a finite number greater than 0 and at most 10"),
    ("beta", "true", "true", "a number greater than 0 and at most 10"),
    ("points", "1", "1", whole(2, 64)),
    ("points", "65", "65", whole(2, 64)),
    ("cost", "mse", '"mse"', 'one of "squared_error", "cross_entropy"'),
    ("epochs", "0", "0", whole(1, 100_000)),
    ("epochs", "100001", "100001", whole(1, 100_000)),
    ("batch_size", "65537", "65537", whole(1, 65536)),
    ("optimiser", "rmsprop", '"rmsprop"', 'one of "sgd", "adam"'),
    ("learning_rate", "0", "0", GREATER_0),
    ("learning_rate", "inf", "inf", "a finite number greater than 0"),
    ("weight_learning_rates", "[-1, 1]", "[-1, 1]", LIST + "a number at least 0 or absent"),
    ("bias_learning_rates", "[-1, 1]", "[-1, 1]", LIST + "a number at least 0 or absent"),
    ("momentum", "1", "1", "at least 0 and less than 1"),
    ("nesterov", "0", "0", BOOL),
    ("weight_decay", "-1e-4", "-0.0001", "at least 0"),
    ("clip_norm", "0", "0", "greater than 0 or absent"),
    ("schedule", "linear", '"linear"', 'one of "cosine", "constant"'),
    ("final_learning_rate", "-1", "-1", "at least 0"),
    ("device", "gpu", '"gpu"', DEVICES),
    ("device", '"cuda:0\\n"', '"cuda:0\\n"', DEVICES),
    ("dtype", "float16", '"float16"', 'one of "float32", "float64"'),
    ("threads", "0", "0", whole(1, 4096) + " or absent"),
    ("checkpoint_interval_s", "0", "0", GREATER_0),
]


@pytest.mark.parametrize(("field", "text", "shown", "allowed"), FIELD_CASES)
def test_refused_value_names_field_value_and_allowed(
    field: str, text: str, shown: str, allowed: str
) -> None:
    (message,) = problems("digits", f"{field}={text}")
    found = message.split(":")[0]
    assert found in (field.removeprefix("recipe."), f"{found.partition('.')[0]}.{field}")
    assert message == line(found, shown, allowed)


# --- rules across fields -----------------------------------------------------------------------

RESNET, VGG5 = "hopfield-resnet13-small-cifar10", "vgg5-small-cifar10"
ROW9, ROW13 = str([0.5] * 9), str([0.5] * 13)
EP, OF_MLP = 'with learning.algorithm = "equilibrium_propagation"', 'with network.model = "mlp"'
OF_VGG5, OF_CIFAR = 'with network.model = "vgg5"', 'with data.name = "cifar10"'
OF_DIGITS, OF_MNIST = 'with data.name = "digits"', 'with data.name = "mnist"'
FOUR = "exactly four whole numbers with network.model = "
PIXELS = "a whole number at least {} (pixels) and at most 256 "

RULE_CASES = [
    ("digits", ["widths=[]"], "network.widths", "[]", f"at least one whole number {OF_MLP}"),
    (VGG5, ["widths=[1, 2, 3]"], "network.widths", "[1, 2, 3]", FOUR + '"vgg5"'),
    (RESNET, ["widths=[4]"], "network.widths", "[4]", FOUR + '"hopfield_resnet13"'),
    ("digits", ["skip=none"], "network.skip", '"none"', f'"conv1x1" {OF_MLP}'),
    (VGG5, ["skip=identity"], "network.skip", '"identity"', f'"conv1x1" {OF_VGG5}'),
    ("digits", ["gains=[1]"], "network.gains", "[1.0]", f"2 numbers, one per weight, {OF_MLP}"),
    (VGG5, ["gains=[1]"], "network.gains", "[1.0]", f"5 numbers, one per weight, {OF_VGG5}"),
    (RESNET, [f"gains={ROW9}"], "network.gains", ROW9,
     f'13 numbers, one per weight, {RESNET_COUNT}"conv1x1"'),
    (RESNET, [f"gains={ROW13}", "skip=identity"], "network.gains", ROW13,
     f'9 numbers, one per weight, {RESNET_COUNT}"identity"'),
    (RESNET, [f"weight_learning_rates={ROW9}"], "learning.weight_learning_rates", ROW9,
     f'13 numbers, one per weight, {RESNET_COUNT}"conv1x1"'),
    (RESNET, [f"bias_learning_rates={ROW13}"], "learning.bias_learning_rates", ROW13,
     f'9 numbers, one per bias, {RESNET_COUNT}"conv1x1"'),
    (VGG5, ["bias_learning_rates=[]"], "learning.bias_learning_rates", "[]",
     f"5 numbers, one per bias, {OF_VGG5}"),
    ("digits", ["bias_learning_rates=[1]"], "learning.bias_learning_rates", "[1.0]",
     f"2 numbers, one per bias, {OF_MLP}"),
    ("digits", ["batch_norm=true"], "network.batch_norm", "true", f"false {EP}"),
    ("digits", ["estimator=holomorphic"], "network.activation", '"relu_alpha"',
     '"sigmoid" with learning.estimator = "holomorphic"'),
    ("digits", ["points=4"], "learning.points", "4", '2 with learning.estimator = "centered"'),
    ("digits", ["momentum=0"], "learning.nesterov", "true",
     'false with learning.optimiser = "sgd" and learning.momentum = 0'),
    ("digits", ["image_size=7"], "data.image_size", "7", PIXELS.format(8) + OF_DIGITS),
    ("mlp-mnist", ["image_size=27"], "data.image_size", "27", PIXELS.format(28) + OF_MNIST),
    (VGG5, ["image_size=31"], "data.image_size", "31", PIXELS.format(32) + OF_CIFAR),
    (VGG5, ["data.name=digits", "train_images=none", "validation_images=0"],
     "data.image_size", "absent", PIXELS.format(16) + OF_VGG5),
    (VGG5, ["data.name=digits", "train_images=9", "validation_images=0", "image_size=15"],
     "data.image_size", "15", PIXELS.format(16) + OF_VGG5),
    ("digits", ["validation_images=1437"], "data.validation_images", "1437",
     f"less than the 1437 training images {OF_DIGITS}"),
    ("mlp-mnist", ["validation_images=60000"], "data.validation_images", "60000",
     f"less than the 60000 training images {OF_MNIST}"),
    (VGG5, ["validation_images=50000"], "data.validation_images", "50000",
     f"less than the 50000 training images {OF_CIFAR}"),
    ("digits", ["train_images=1258"], "data.train_images", "1258",
     f"at most 1257 {OF_DIGITS} and data.validation_images = 180"),
    ("digits", ["test_images=361"], "data.test_images", "361", f"at most 360 {OF_DIGITS}"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "overrides", "field", "shown", "allowed"), RULE_CASES)
def test_rule_across_fields(
    name: str, overrides: list[str], field: str, shown: str, allowed: str
) -> None:
    assert problems(name, *overrides) == [line(field, shown, allowed)]


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        (RESNET, ["skip=identity", f"gains={ROW9}"]),
        (RESNET, ["skip=none", "gains=none", f"weight_learning_rates={ROW9}"]),
        (RESNET, [f"gains={ROW13}", f"bias_learning_rates={ROW9}"]),
        ("digits", ["estimator=holomorphic", "activation=sigmoid", "points=10"]),
        ("digits", ["alpha=random", "beta=10", "momentum=0", "nesterov=false"]),
        ("digits", ["momentum=0", "optimiser=adam"]),
        ("digits", ["validation_images=1436", "train_images=1", "image_size=256"]),
        ("digits-bp", ["batch_norm=true"]),
        ("digits", ["device=cuda:1", "threads=1", "tolerance=1e-5"]),
    ],
)
def test_allowed_combinations(name: str, overrides: list[str]) -> None:
    recipe = load_recipe(name, overrides)
    assert recipe_from_mapping(tomllib.loads(dump_recipe(recipe))) == recipe


def test_all_problems_are_told_at_once() -> None:
    lines = problems("digits", "epochs=0", "beta=0", "widths=[0, -1]", "data.name=x")
    assert [text.split(":")[0] for text in lines] == [
        "network.widths",
        "data.name",
        "learning.beta",
        "learning.epochs",
    ]
    assert len(problems("digits", "momentum=0", "skip=none", "image_size=1")) == 3


def test_missing_and_unknown_fields() -> None:
    data: dict[str, Any] = tomllib.loads(dump_recipe(load_recipe("digits")))
    broken = copy.deepcopy(data)
    del broken["learning"]["beta"], broken["settling"]
    broken["network"]["withs"] = [1]
    broken["leraning"] = {}
    broken["a\nb"] = 1
    broken["run"] = 3
    with pytest.raises(RecipeError) as caught:
        recipe_from_mapping(broken)
    assert set(str(caught.value).split("\n")) == {
        line("learning.beta", "absent", "a number greater than 0 and at most 10"),
        line("settling", "absent", "a table, [settling]"),
        line("run", "3", "a table, [run]"),
        "network.withs: unknown field; did you mean network.widths?",
        "leraning: unknown field; did you mean learning?",
        '"a\\nb": unknown field',
    }


def test_recipes_are_frozen_and_whole_numbers_stand_for_floats() -> None:
    recipe = load_recipe("digits", ["beta=1"])
    assert isinstance(recipe.learning.beta, float)
    with pytest.raises(ValidationError, match="frozen"):
        recipe.__setattr__("seed", 1)


def test_values_that_cannot_be_printed_are_still_refused_on_one_line() -> None:
    digits = "f" * 5000
    assert "thousands of digits" in problems("digits", f"seed=0x{digits}")[0]
    assert problems("digits", "beta=1979-05-27")[0].startswith("learning.beta: 1979-05-27 is")
    assert problems("digits", "beta={a=1}")[0].startswith("learning.beta: a table is")
    (message,) = problems("digits", 'order="a\\u2028\\nb' + "x" * 500 + '"')
    assert "\\u2028\\nb" in message
    assert "..." in message
    assert message.isprintable()
    (message,) = problems("digits", "description=\ud800")
    assert message == line("description", '"\\ud800"', "a string of Unicode characters")


# --- names, files ------------------------------------------------------------------------------


def test_unknown_name_suggests_and_lists() -> None:
    (message,) = problems("digts")
    assert message.startswith('"digts": neither a shipped recipe nor a file; did you mean digits?')
    assert all(name in message for name in SHIPPED)
    assert "did you mean" not in problems("qqqqqqqqqqqq")[0]
    assert problems("a" * 5000 + ".toml")[0].endswith(": no such file")
    assert "neither" in problems("\0")[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'name = "x"\nseed = \n', "not valid TOML: Invalid value (at line 2, column 8)"),
        (
            b"a = [1,\n2",
            "not valid TOML: Unclosed array (at line 2, column 2, the end of the file)",
        ),
        (b"a = 1\na = 2", "not valid TOML: Cannot overwrite a value (at line 2, column 6, "),
        (b"\xff", "not UTF-8 text (at byte 0)"),
        (b"seed = " + b"9" * 5000, "not valid TOML: Exceeds the limit"),
        (b"seed = " + b"[" * 100_000, "not valid TOML: nested too deep"),
    ],
    ids=["value", "end", "twice", "encoding", "digits", "depth"],
)
def test_broken_file_gives_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    (found,) = problems(str(path))
    assert found.startswith(f'"{path}": {message}')


def test_files_that_are_none(tmp_path: Path) -> None:
    assert problems(str(tmp_path)) == [f'"{tmp_path}": not a file']
    missing = tmp_path / "missing.toml"
    assert problems(str(missing)) == [f'"{missing}": no such file']


def test_byte_order_mark_and_line_ends_are_read(tmp_path: Path) -> None:
    recipe = load_recipe("digits")
    path = tmp_path / "windows.toml"
    path.write_bytes(dump_recipe(recipe).replace("\n", "\r\n").encode("utf-8-sig"))
    assert load_recipe(str(path)) == recipe


# --- overrides ---------------------------------------------------------------------------------


def test_overrides() -> None:
    texts = ["learning.epochs=5", " batch_size = 64 ", "data.name=mnist", "recipe.name=a = b"]
    texts += ["seed=7", "clip_norm=1", "clip_norm=none", "order='forward'", "gains=[1, 2.5]"]
    recipe = load_recipe("digits", [*texts, "epochs=6"])
    assert (recipe.learning.epochs, recipe.learning.batch_size, recipe.seed) == (6, 64, 7)
    assert (recipe.name, recipe.data.name, recipe.learning.clip_norm) == ("a = b", "mnist", None)
    assert (recipe.settling.order, recipe.network.gains) == ("forward", (1.0, 2.5))


def test_none_removes_except_where_it_is_a_value() -> None:
    assert load_recipe(RESNET, ["gains=none", "network.skip=none"]).network.skip == "none"
    assert load_recipe(RESNET, ["data.train_images=none"]).data.train_images is None
    assert problems("digits", "epochs=none")[0].startswith("learning.epochs: absent is not allowed")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("name=x", "name: more than one field has this name; set one of data.name, recipe.name"),
        ("epoch=1", "epoch: unknown field; did you mean learning.epochs?"),
        ("learning.epcohs=1", "learning.epcohs: unknown field; did you mean learning.epochs?"),
        ("model.widths=[3]", "model.widths: unknown field; did you mean network.widths?"),
        ("qqqq=1", "qqqq: unknown field"),
        ("a\nb=1", '"a\\nb": unknown field'),
        ("epochs", line("override", '"epochs"', "key=value, as in learning.epochs=5")),
        ("=5", line("override", '"=5"', "key=value, as in learning.epochs=5")),
        ("run=1", "run: a table cannot be set as a whole; set one of run.device, run.dtype, "
         "run.threads, run.checkpoint_interval_s"),
        ("order=1\nx = 2", line("settling.order", '"1\\nx = 2"', ORDERS)),
    ],
)  # fmt: skip
def test_refused_override(override: str, message: str) -> None:
    assert problems("digits", override) == [message]


def test_override_makes_a_missing_table_and_refuses_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = dump_recipe(load_recipe("digits")).split("[run]")[0]
    path.write_text(text, encoding="utf-8")
    assert load_recipe(str(path), ["threads=2"]).run.threads == 2
    path.write_text("run = 3\n" + text, encoding="utf-8")
    assert problems(str(path), "threads=2") == [line("run", "3", "a table, [run]")]


# --- dumping -----------------------------------------------------------------------------------


BASE = load_recipe("digits")


@settings(max_examples=100, deadline=None)
@given(
    name=st.text(),
    description=st.text(st.characters(exclude_categories=["Cs"])),
    floats=st.lists(st.floats(min_value=0, allow_infinity=False), min_size=2, max_size=2),
    seed=st.integers(0, 2**63 - 1),
    threads=st.none() | st.integers(1, 64),
)
def test_any_recipe_round_trips(
    name: str, description: str, floats: list[float], seed: int, threads: int | None
) -> None:
    data = BASE.model_dump()
    data |= {"name": name, "description": description, "seed": seed}
    data["run"]["threads"] = threads
    data["learning"]["weight_learning_rates"] = floats
    recipe = recipe_from_mapping(data)
    text = dump_recipe(recipe)
    assert recipe_from_mapping(tomllib.loads(text)) == recipe
    assert "= none" not in text.lower() or "none" in (name + description).lower()
    text.encode("utf-8")
