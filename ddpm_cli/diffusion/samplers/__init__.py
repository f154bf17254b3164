"""Samplers: one file each, all of them frozen values whose call is a generator of frames."""

from .base import Frame, Noise, Sampler, Stepper
from .ddim import DDIM
from .ddpm import DDPM

__all__ = ["DDIM", "DDPM", "Frame", "Noise", "Sampler", "Stepper"]
