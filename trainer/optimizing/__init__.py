"""From gradients to moved weights: optimizers, learning rates, running means."""
