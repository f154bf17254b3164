"""How sample, gif and eval turn a checkpoint into pictures."""
