"""What keeps a training from forgetting what the base knew: class images, and answers held to the base's."""
