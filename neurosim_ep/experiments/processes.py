"""What a recipe needs for several processes to train it together."""

from neurosim_ep._toml_text import problem
from neurosim_ep.config import Recipe
from neurosim_ep.learning import Processes


def check_together(recipe: Recipe, processes: Processes) -> None:
    """Refuse what several processes cannot train to one process's result.

    Raises:
        ValueError: naming the field.
    """
    if processes.alone:
        return
    several = f"with {processes.count} processes"
    if recipe.on_chip is not None:
        # Every process would need the same devices, the same noise and all images' pulses.
        card = recipe.on_chip.device_card
        raise ValueError(
            problem("on_chip.device_card", card, f"absent {several}: a chip learns in one process")
        )
    if recipe.run.device.startswith("cuda:"):
        allowed = f'"auto", "cuda" or "cpu" {several}: each takes the GPU of its local rank'
        raise ValueError(problem("run.device", recipe.run.device, allowed))
    if recipe.learning.batch_size < processes.count:
        allowed = f"at least {processes.count} {several}"
        raise ValueError(problem("learning.batch_size", recipe.learning.batch_size, allowed))
