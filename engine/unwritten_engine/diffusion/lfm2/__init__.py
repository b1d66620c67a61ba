"""The LFM2 diffusion family: LFM2 with noise conditioning, which denoises blocks of 32 tokens.

Read in this order: ``config`` (sizes and tensors), ``layers`` (the model), ``cache`` (state of the rows),
``posterior`` and ``step_rule`` (a denoising step), ``sampling_params`` (options of a request), ``weights`` (load a
checkpoint), ``random_model`` (write a random one).
"""
