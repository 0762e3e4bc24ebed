"""The mathematics of a loss: noise, times, random draws, weights."""
