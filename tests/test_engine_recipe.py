"""The engine's fields of a recipe's settling table: read, refused where they cannot work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from neurosim_ep.config import RecipeError, load_recipe, recipe_from_mapping
from neurosim_ep.experiments.build import build_method
from neurosim_ep.learning import EquilibriumPropagation
from neurosim_ep.settling import Engine


def recipe_with(base: str = "digits", **settling: object) -> Any:
    data = load_recipe(base).model_dump(exclude_none=True)
    data["settling"] |= settling
    return recipe_from_mapping(data)


def test_the_fields_reach_the_phases() -> None:
    fields = {
        "precision": "bfloat16",
        "acceleration": "overrelaxed",
        "capture": "none",
        "check_interval": 5,
        "tolerance": 1e-3,
        "fusion": "compiled",
    }
    method = build_method(recipe_with(**fields), torch.device("cpu"))
    assert isinstance(method, EquilibriumPropagation)
    assert method.phases.engine == Engine("bfloat16", "overrelaxed", "none", 5, "compiled")
    plain = build_method(recipe_with(), torch.device("cpu"))
    assert isinstance(plain, EquilibriumPropagation)
    assert plain.phases.engine == Engine()


@pytest.mark.parametrize(
    ("base", "fields", "line"),
    [
        ("digits", {"precision": "float8"}, "settling.precision"),
        ("digits", {"acceleration": "overrelaxed", "order": "asynchronous"}, "settling.accel"),
        ("digits", {"check_interval": 3}, "settling.check_interval"),
        ("digits", {"fusion": "always"}, "settling.fusion"),
        ("digits-on-chip", {"precision": "float16"}, "settling.precision"),
    ],
)
def test_what_cannot_work_is_refused(base: str, fields: dict[str, object], line: str) -> None:
    with pytest.raises(RecipeError, match=f"{line}.* is not allowed; must be"):
        recipe_with(base, **fields)


def test_tf32_is_refused_on_a_cpu_before_anything_runs() -> None:
    with pytest.raises(ValueError, match=r"^precision: .*has no TF32"):
        build_method(recipe_with(precision="tf32"), torch.device("cpu"))
