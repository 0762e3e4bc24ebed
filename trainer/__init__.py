"""Training: datasets, run directories, model families, the loop. Knows neither ComfyUI nor the tagger."""
