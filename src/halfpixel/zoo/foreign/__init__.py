"""Networks of other programs behind the model contract: they predict, and nothing else."""
