"""The engine for llama.cpp's resident DiffusionGemma program, which reports every denoising step."""
