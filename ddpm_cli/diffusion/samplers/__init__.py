"""Samplers, one per file: frozen dataclasses whose call returns a generator of frames."""

from .base import Frame, Noise, Sampler, Stepper
from .ddim import DDIM
from .ddpm import DDPM
from .dpmpp_2m import DPMpp2M
from .dpmpp_2m_sde import DPMpp2MSDE
from .euler import Euler
from .heun import Heun
from .unipc import UniPC

__all__ = ["DDIM", "DDPM", "DPMpp2M", "DPMpp2MSDE", "Euler", "Frame", "Heun", "Noise", "Sampler", "Stepper", "UniPC"]
