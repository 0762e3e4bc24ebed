"""What the loop is fed with: batches, captions, views, and what of them is encoded once and kept."""
