"""Where weights and gradients lie, how small, and what fits."""
