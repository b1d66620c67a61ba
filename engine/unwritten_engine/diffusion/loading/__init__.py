"""Load a checkpoint: inspect its files, plan its memory, and load its weights onto the device."""
