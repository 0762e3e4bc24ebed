"""What is trained: an adapter, embeddings, or the model's own weights."""
