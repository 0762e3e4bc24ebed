"""What the example workflows are: nodes by name, with the values that differ from the defaults."""
