"""Training: the loop, the losses, the optimizer, the state of a run, and its reports."""
