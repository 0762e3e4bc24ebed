"""Epochs and other files of adapters into one file.

A LoRA's change of a weight is ΔW = (alpha / rank) · up · down, and the changes of several files add up: Σ wᵢ ΔWᵢ. Summing
the factors instead (Σ wᵢ upᵢ · Σ wⱼ downⱼ), as simple mergers do, is something else. Here the sum of the changes is made
exactly, by factors that stand side by side, and made smaller only where that is asked for.
"""
