"""LoRA files of image models: diffusers' and kohya's, in which a pipeline's parts have names."""
