"""Train, sample and animate diffusion models from composed YAML."""
