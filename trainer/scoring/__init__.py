"""How good epochs are: separate numbers, each with what the base alone reaches and how sure it is."""
