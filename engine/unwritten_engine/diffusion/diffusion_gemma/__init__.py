"""DiffusionGemma: a mixture of experts with a causal encoder and a decoder that share their weights.

``family`` is what the engine uses. ``layers`` runs the model over ``kv_cache``, ``step_rule`` chooses tokens after each
step, and ``weight_loader`` loads weights, packed by ``quantization`` if they are quantized.
"""
