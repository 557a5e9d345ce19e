"""Patch pretraining (Shen et al. 2019)."""
