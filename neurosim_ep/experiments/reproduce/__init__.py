"""The paper's tables and figures from trainings of this program."""

from neurosim_ep.experiments.reproduce.command import Reproduction, reproduce
from neurosim_ep.experiments.reproduce.plans import SCALES, SCHEDULES
from neurosim_ep.experiments.reproduce.targets import TARGETS

__all__ = ["SCALES", "SCHEDULES", "TARGETS", "Reproduction", "reproduce"]
