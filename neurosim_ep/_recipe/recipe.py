"""A complete experiment: its tables together."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from neurosim_ep._recipe.on_chip import OnChipRecipe, on_chip_problems
from neurosim_ep._recipe.rules import (
    data_problems,
    learning_problems,
    network_problems,
    settling_problems,
)
from neurosim_ep._recipe.tables import (
    DataRecipe,
    LearningRecipe,
    NetworkRecipe,
    RunRecipe,
    SettlingRecipe,
    Table,
    Text,
)


class Recipe(Table):
    """A complete experiment. The same recipe on the same machine gives the same result.

    With a table `on_chip` it learns on simulated hardware, without one exactly.
    """

    name: Text
    description: Text = ""
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    network: NetworkRecipe
    data: DataRecipe
    settling: SettlingRecipe
    learning: LearningRecipe
    run: RunRecipe = RunRecipe()
    on_chip: OnChipRecipe | None = None

    @model_validator(mode="after")
    def _obeys_rules(self) -> Recipe:
        lines = [
            *network_problems(self.network, self.learning),
            *data_problems(self.data, self.network),
            *learning_problems(self.learning),
            *settling_problems(self.settling, self.network, on_chip=self.on_chip is not None),
        ]
        if self.on_chip is not None:
            lines += on_chip_problems(self.on_chip, self.learning)
        if lines:
            raise ValueError("\n".join(lines))
        return self
