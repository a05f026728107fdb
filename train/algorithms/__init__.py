"""Algorithms beside PPO, and what they learn from: replayed steps and demonstrations."""
