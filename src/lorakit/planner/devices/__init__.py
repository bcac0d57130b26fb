"""How several devices share the training step of one, by formula."""
