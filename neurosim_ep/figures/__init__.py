"""The figures of each subject, in the style of `neurosim_ep.plots`."""
