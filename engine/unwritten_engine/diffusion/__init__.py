"""DiffusionGemma in a denoising loop of our own. Needs the extra ``diffusion`` (torch, transformers, bitsandbytes)."""
