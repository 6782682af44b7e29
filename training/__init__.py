"""How weights come to be: text to blocks, the training loop, checkpoints, recipes."""
