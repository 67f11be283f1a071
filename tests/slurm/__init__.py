"""The grid on a real Slurm of one machine."""
